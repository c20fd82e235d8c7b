"""Queues spread over two databases: two supervisors, each runs its own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.test import override_settings

from jobsup.compat import TaskResultStatus
from tests import databases, settings
from tests.support import assert_nothing_left, eventually, run_django
from tests.system.jobs import ON_POSTGRESQL
from tests.testapp import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

WAIT_S = 60
OTHER = "jobs2"
JOBSUP = "jobsup.backend.JobsupBackend"
TASKS = {
    "default": {"BACKEND": JOBSUP, "QUEUES": ["default"]},
    "reports": {"BACKEND": JOBSUP, "QUEUES": ["reports"], "OPTIONS": {"database": OTHER}},
}


@ON_POSTGRESQL
def test_each_supervisor_runs_the_jobs_of_its_own_database(
    database: Database, sqlite_template: Path, tmp_path: Path
) -> None:
    """Both of one name at the same time, one on PostgreSQL and one on SQLite; ids may be equal."""
    file = shutil.copy(sqlite_template, tmp_path / "jobs2.sqlite3")
    overrides: dict[str, Any] = {"DATABASES": {OTHER: settings.sqlite(str(file))}, "TASKS": TASKS}
    databases._declare(OTHER, settings.sqlite(str(file)))
    try:
        with override_settings(TASKS=TASKS):
            here = tasks.noop.enqueue()
            there = tasks.noop.using(backend="reports", queue_name="reports").enqueue()
            with database.supervisor("--database", OTHER, **overrides) as second:
                second.wait_ready(WAIT_S)
                second.wait_log(f"serves queue reports of database '{OTHER}'", WAIT_S)
                eventually(lambda: _ended(there), WAIT_S, "the job of the other database", second.picture)
                here.refresh()
                assert here.status is TaskResultStatus.READY, "whose database nobody serves yet"
                with database.supervisor(**overrides) as first:
                    eventually(lambda: _ended(here), WAIT_S, "the job of the router's database", first.picture)
                    asked = run_django(
                        database.with_settings(**overrides), "jobsupervisor", "drain", "--wait", "--database", OTHER
                    )
                    assert asked.returncode == 0, asked
                    assert second.wait(WAIT_S) == 0
                    first.stop(timeout_s=WAIT_S)
    finally:
        connections[OTHER].close()
        del connections[OTHER]
        del connections.settings[OTHER]
    assert_nothing_left()


def _ended(result: Any) -> bool:
    result.refresh()
    return bool(result.status is TaskResultStatus.SUCCESSFUL)
