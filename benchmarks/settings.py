"""The settings of the benchmarks: one database, given by BENCH_DATABASE (a postgres:// URL)."""

from __future__ import annotations

import os

import dj_database_url

from jobsup.compat import TASKS_APPS

SECRET_KEY = "only for benchmarks"
USE_TZ = True
DATABASES = {"default": dict(dj_database_url.parse(os.environ["BENCH_DATABASE"]))}
INSTALLED_APPS = ["jobsup", *TASKS_APPS]
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend"}}
JOBSUP = {"RUN_DIR": os.environ.get("BENCH_RUN_DIR")}
