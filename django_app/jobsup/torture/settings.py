"""The settings of the supervisors that are hurt: the project's database and options, and nothing else of the project.

None of the project's apps is installed, so that none of its code, tasks and schedules is run, and none of its other
databases can be reached. What is to be taken stands in the environment, see `Given`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from jobsup.torture import clock
from jobsup.torture.given import Given
from jobsup.torture.plan import GRACE_S, LEASE_S, QUEUES

clock.install()
_given = Given.load()
_project: Any = import_module(_given.settings)
_databases: dict[str, Any] = _project.DATABASES
_kept = ("CANCEL_ASK", "CANCEL_GRACE", "CRASH_ATTEMPTS", "MAX_AGE", "MAX_JOBS", "MAX_RSS", "MEMORY_LIMIT", "NOTIFY")

SECRET_KEY = "of no use to anybody"  # noqa: S105  # nothing is signed
USE_TZ: bool = getattr(_project, "USE_TZ", True)
TIME_ZONE: str = getattr(_project, "TIME_ZONE", "UTC")
INSTALLED_APPS = ["jobsup", *(["django_tasks"] if find_spec("django.tasks") is None else [])]
DATABASES = {"default": {**_databases[_given.alias], "NAME": _given.database}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend", "QUEUES": list(QUEUES)}}
JOBSUP: dict[str, Any] = {
    **{key: value for key, value in getattr(_project, "JOBSUP", {}).items() if key in _kept},
    "WORKERS": _given.workers,
    "RUN_DIR": _given.directory,
    "LEASE": LEASE_S,
    "GRACE": GRACE_S,
    "RESTARTS": 1_000_000,  # deaths are no sign of anything here: the workers are not to be replaced more slowly
    "KEEP": None,
}
