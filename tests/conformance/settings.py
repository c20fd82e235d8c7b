"""Django settings of a run, from the environment, so that the workers under examination read the same."""

from __future__ import annotations

import json
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

JOBSUP = "jobsup.backend.JobsupBackend"
DIRECTORY = Path(os.environ["CONFORMANCE_DIR"])
_backend = os.environ.get("CONFORMANCE_BACKEND") or JOBSUP
_in_django = find_spec("django.tasks") is not None


def database() -> dict[str, Any]:
    """Return the database behind CONFORMANCE_DATABASE, or SQLite as a queue needs it: writers wait in turn."""
    if url := os.environ.get("CONFORMANCE_DATABASE"):
        import dj_database_url

        return dict(dj_database_url.parse(url))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(DIRECTORY / "conformance.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    }


SECRET_KEY = "only for tests"
USE_TZ = os.environ.get("CONFORMANCE_USE_TZ") != "0"
TIME_ZONE = "Europe/Berlin"  # not UTC: who mixes the two up is found out
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": database()}
INSTALLED_APPS = ["tests.conformance"]
if apps := os.environ.get("CONFORMANCE_APPS", "jobsup" if _backend == JOBSUP else "").split():
    INSTALLED_APPS += apps
if not _in_django:
    INSTALLED_APPS.append("django_tasks")
TASKS = {
    "default": {
        "BACKEND": _backend,
        "QUEUES": ["default", "other"],
        "OPTIONS": json.loads(os.environ.get("CONFORMANCE_OPTIONS") or "{}"),
    },
    "dummy": {"BACKEND": f"django{'.' if _in_django else '_'}tasks.backends.dummy.DummyBackend"},
}

_own = '{"JOBSUP": {"RUN_DIR": "{dir}", "CRASH_ATTEMPTS": 2}}' if _backend == JOBSUP else "{}"
_more = os.environ.get("CONFORMANCE_SETTINGS") or _own
if _more.startswith("{"):
    globals().update(json.loads(_more.replace("{dir}", str(DIRECTORY))))
else:
    globals().update({name: value for name, value in vars(import_module(_more)).items() if name.isupper()})
