"""The settings of the benchmarks: one database, given by BENCH_DATABASE (a URL)."""

from __future__ import annotations

import os
from typing import Any

import dj_database_url
import pymysql

from jobsup.compat import TASKS_APPS

pymysql.install_as_MySQLdb()  # Django knows the driver by that name
SECRET_KEY = "only for benchmarks"
USE_TZ = True
DATABASES: dict[str, dict[str, Any]] = {"default": dict(dj_database_url.parse(os.environ["BENCH_DATABASE"]))}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20}
INSTALLED_APPS = ["jobsup", *TASKS_APPS]
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend"}}
JOBSUP = {"RUN_DIR": os.environ.get("BENCH_RUN_DIR")}
