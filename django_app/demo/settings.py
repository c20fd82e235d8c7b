"""Settings of the demo site: for a look at jobsup on one's own machine, never for a server.

DATABASE_URL chooses the database (SQLite in `.demo/` at the top of the repository without it), DEMO_DIR another
folder for the database file and the log of the site, DEMO_DEBUG=0 turns the kill button and tracebacks off.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from jobsup.compat import TASKS_APPS

BASE_DIR = Path(__file__).resolve().parent.parent
SQLITE_OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}


def scratch_folder() -> Path:
    """Return the folder of the demo's own files, made at first use and unseen by git."""
    folder = Path(os.environ.get("DEMO_DIR") or BASE_DIR.parent / ".demo")
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
    return folder


def database(url: str, folder: Path) -> dict[str, Any]:
    """Return the settings of the database that `url` names, or of a SQLite file in `folder` when it is empty."""
    if not url:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "demo.sqlite3", "OPTIONS": SQLITE_OPTIONS}
    if importlib.util.find_spec("dj_database_url") is None:
        raise ImproperlyConfigured("DATABASE_URL is set, and to read it the demo needs `pip install dj-database-url`.")
    import dj_database_url

    parsed: dict[str, Any] = dict(dj_database_url.parse(url))
    if parsed["ENGINE"].endswith("sqlite3"):
        parsed["OPTIONS"] = SQLITE_OPTIONS | parsed.get("OPTIONS", {})
    return parsed


DEMO_DIR = scratch_folder()
DEBUG = os.environ.get("DEMO_DEBUG", "1") != "0"
SECRET_KEY = "the demo keeps no secrets and is served on this machine only"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = ["django.contrib.staticfiles", *TASKS_APPS, "jobsup", "demo"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "demo.urls"
WSGI_APPLICATION = "demo.wsgi.application"

DATABASES = {"default": database(os.environ.get("DATABASE_URL", ""), DEMO_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend"}}

LOGGING = {  # one line for each job that begins and ends would hide the lines that matter
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django.tasks": {"level": "WARNING"}, "django_tasks": {"level": "WARNING"}},
}

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
USE_THOUSAND_SEPARATOR = True
STATIC_URL = "static/"
