"""Jobs in a database of their own beside the one with the models (scenario K), through a real supervisor."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from django.db import connection, connections
from django.test import override_settings

from jobsup.models import Job, Status
from tests import databases, settings
from tests.support import eventually, kill, processes_of
from tests.system.jobs import assert_nobody_owns_anything, row, runs, sessions, status, wait_begun, wait_final, words
from tests.testapp import elsewhere, tasks
from tests.testapp.elsewhere import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database
    from tests.postgres import Cluster

WAIT_S = 60
ROUTER = "tests.testapp.elsewhere.JobsRouter"


class Two(NamedTuple):
    """A database with models, and one with jobs."""

    models: Database
    overrides: dict[str, Any]


@pytest.fixture
def two(database: Database, postgres_cluster: Cluster, postgresql_template: object) -> Iterator[Two]:
    """Models on SQLite or PostgreSQL, jobs on another database of PostgreSQL; neither has the other's tables."""
    name = f"jobs_of_{database.vendor}"
    jobs = settings.postgresql(postgres_cluster.create_database(name, template=databases.TEMPLATE))
    with declared(jobs), override_settings(DATABASE_ROUTERS=[ROUTER]):
        drop_tables("default", "jobsup")
        drop_tables(JOBS, "testapp")
        yield Two(database, {"DATABASES": {JOBS: jobs}, "DATABASE_ROUTERS": [ROUTER]})
    postgres_cluster.drop_database(name)


@contextmanager
def declared(jobs: dict[str, Any]) -> Iterator[None]:
    """Have an alias in this process for a while."""
    databases._declare(JOBS, jobs)
    try:
        yield
    finally:
        connections[JOBS].close()
        del connections[JOBS]
        del connections.settings[JOBS]


def drop_tables(alias: str, app: str) -> None:
    """Drop the tables of an app."""
    with connections[alias].cursor() as cursor:
        for table in connections[alias].introspection.table_names(cursor):
            if table.startswith(f"{app}_"):
                cascade = "CASCADE" if connections[alias].vendor == "postgresql" else ""
                cursor.execute(f'DROP TABLE "{table}" {cascade}')


def test_k_jobs_live_in_one_database_and_work_in_another(two: Two, tmp_path: Path) -> None:
    """They run, enqueue more, are killed and tried again; the supervisor holds nothing when it looks at workers."""
    watched = tmp_path / "watch"
    two.models.env["JOBSUP_TEST_WATCH"] = str(watched)
    with two.models.supervisor("--workers", "2", **two.overrides) as supervisor:
        supervisor.wait_ready(WAIT_S)
        held = tasks.hold.enqueue(str(tmp_path / "go"))
        kill([wait_begun(supervisor, held, timeout_s=WAIT_S)])
        wait_begun(supervisor, held, times=2, timeout_s=WAIT_S)
        (tmp_path / "go").touch()
        working = [elsewhere.work.enqueue() for _ in range(20)]
        untidy = [elsewhere.leave_transaction.enqueue(alias) for alias in ("default", JOBS)]
        wait_final(supervisor, [held, *working, *untidy], WAIT_S)
        eventually(lambda: not Job.objects.exclude(status__in=(Status.SUCCESSFUL, Status.FAILED)).exists(), WAIT_S)
        workers = processes_of(supervisor.pid)
        supervisor.stop(timeout_s=WAIT_S)
    assert (status(held), row(held).attempt, len(words(held))) == (Status.SUCCESSFUL, 2, 1)
    for job in working:
        job.refresh()
        assert job.return_value["pid"] in workers
        assert job.return_value["aliases"] == ["default", JOBS], "each worker keeps one connection to each"
        assert len(runs(job)) == 1
    counts = Job.objects.filter(task="tests.testapp.elsewhere.count")
    assert [job.result for job in counts] == ["1"] * 20, "enqueued when the other database had committed"
    for job, alias in zip(untidy, ("default", JOBS), strict=True):
        assert row(job).left_behind == f"left behind: an open transaction on '{alias}' (restored)"
    seen = [json.loads(line) for line in watched.read_text().splitlines()]
    assert {line["moment"] for line in seen} == {"spawn", "look"}
    assert [line for line in seen if line["open"] or line["connected"] or line["engine"]] == []
    assert_nobody_owns_anything()
    if connection.vendor == "postgresql":
        assert sessions() == []
