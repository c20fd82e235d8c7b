"""The settings of every test, built from the environment so that supervisors under test read the same file.

JOBSUP_TEST_SQLITE, JOBSUP_TEST_POSTGRES and JOBSUP_TEST_MARIADB say where the databases are (a file, URLs).
JOBSUP_TEST_DEFAULT names the one that is `default`, alone; without it, as in the pytest process, SQLite is `default`
and PostgreSQL stands beside it as `postgresql`. JOBSUP_TEST_RUN_DIR keeps run files apart from those of other
supervisors of this machine. JOBSUP_TEST_STATEMENTS has the statements on SQLite counted. JOBSUP_TEST_SETTINGS, a JSON
object, replaces settings, in dicts key by key, such as {"JOBSUP": {"GRACE": 1}}.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import dj_database_url
import pymysql

from tests.statements import COUNT_FILE, Counted

pymysql.install_as_MySQLdb()  # Django knows the driver by that name


def sqlite(path: str) -> dict[str, Any]:
    """Return SQLite as jobsup wants it: writers wait in turn instead of failing."""
    options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}
    if COUNT_FILE in os.environ:
        options["factory"] = Counted
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}


def postgresql(url: str) -> dict[str, Any]:
    """Return the database behind a postgres:// URL."""
    return dict(dj_database_url.parse(url))


def mariadb(url: str) -> dict[str, Any]:
    """Return the database behind a mysql:// URL."""
    return dict(dj_database_url.parse(url))


def databases() -> dict[str, dict[str, Any]]:
    """Return the databases that the environment asks for."""
    file, url = os.environ.get("JOBSUP_TEST_SQLITE", ":memory:"), os.environ.get("JOBSUP_TEST_POSTGRES")
    other_url = os.environ.get("JOBSUP_TEST_MARIADB")
    match os.environ.get("JOBSUP_TEST_DEFAULT"):
        case "sqlite":
            return {"default": sqlite(file)}
        case "postgresql" if url:
            return {"default": postgresql(url)}
        case "mariadb" if other_url:
            return {"default": mariadb(other_url)}
        case None:
            return {"default": sqlite(file)} | ({"postgresql": postgresql(url)} if url else {})
        case other:
            raise RuntimeError(f"JOBSUP_TEST_DEFAULT={other} names no database of this environment")


SECRET_KEY = "only for tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = databases()
INSTALLED_APPS = ["jobsup", "tests.testapp"]
if importlib.util.find_spec("django.tasks") is None:
    INSTALLED_APPS.append("django_tasks")
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend", "QUEUES": ["default", "other", "slow"]}}
JOBSUP: dict[str, Any] = {
    "RUN_DIR": os.environ.get("JOBSUP_TEST_RUN_DIR"),
    "TASK_MODULES": [
        f"tests.testapp.{path.stem}"
        for path in sorted(Path(__file__).with_name("testapp").glob("*.py"))
        if path.stem != "warehouse" and "\n@task" in path.read_text()  # that one is an app of its own
    ],
}

for _name, _value in json.loads(os.environ.get("JOBSUP_TEST_SETTINGS", "{}")).items():
    _old = globals().get(_name)
    globals()[_name] = {**_old, **_value} if isinstance(_old, dict) and isinstance(_value, dict) else _value
