"""SQLAlchemy beside Django on PostgreSQL, through a real supervisor (scenario L)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection

from jobsup.models import Status
from tests.support import eventually, kill
from tests.system.jobs import ON_POSTGRESQL, assert_nobody_owns_anything, row, sessions, status, wait_final, words
from tests.testapp import tasks, warehouse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.databases import Database

WAIT_S = 60
APPS = {"INSTALLED_APPS": [*settings.INSTALLED_APPS, "tests.testapp.warehouse.Warehouse"]}
TELLS = {
    "open": "left behind: an open connection of SQLAlchemy (restored)",
    "raw": "left behind: an open connection of SQLAlchemy (restored)",
    "marked": "left behind: session settings on a connection of SQLAlchemy (restored)",
}


def furnish() -> None:
    """Make the warehouse's table."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE warehouse_part (id serial PRIMARY KEY, name text NOT NULL)")


def parts() -> list[str]:
    """Return what is on the shelf."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM warehouse_part ORDER BY name")
        return [name for (name,) in cursor.fetchall()]


def found_by(jobs: Iterable[Any]) -> list[dict[str, Any]]:
    """Return what successful jobs found."""
    found = []
    for job in jobs:
        job.refresh()
        assert status(job) is Status.SUCCESSFUL, words(job)
        found.append(job.return_value)
    return found


def of_warehouse(pid: int) -> list[int]:
    """Return the server's sessions that a process has over SQLAlchemy."""
    return sessions("application_name = %s", f"warehouse {pid}")


@ON_POSTGRESQL
def test_l_d1_workers_have_engines_of_their_own_and_jobs_sessions_of_their_own(database: Database) -> None:
    """Fifty jobs on two workers: whatever a job does, what it did not commit is gone and the next one starts afresh."""
    furnish()
    ways = ["committed", "flushed", "open", "raw", "marked", "lock", "failed"] * 7
    with database.supervisor("--workers", "2", **APPS) as supervisor:
        supervisor.wait_ready(WAIT_S)
        jobs = [(way, warehouse.stock.enqueue(f"{way} {number}", way)) for number, way in enumerate(ways)]
        slow = warehouse.stock.using(timeout=0.3).enqueue("slow", "slow")
        looks = [warehouse.look.enqueue() for _ in range(10)]
        wait_final(supervisor, [slow, *looks, *(job for _, job in jobs)], WAIT_S)
        workers = supervisor.workers()
        for pid in workers:
            eventually(lambda pid=pid: len(of_warehouse(pid)) <= 2, WAIT_S, "the pool's size", supervisor.picture)  # type: ignore[misc]
        eventually(lambda: not sessions("state LIKE 'idle in%%'"), WAIT_S, "no open transaction", supervisor.picture)
        supervisor.stop(timeout_s=WAIT_S)
    found = found_by([*looks, *(job for way, job in jobs if way != "failed")])
    assert {each["pid"] for each in found} <= set(workers), "no worker was replaced"
    assert [each for each in found if each["new"] or each["out"] or each["pending"] or each["timeout"] != "0"] == []
    by_worker = [{each["session"] for each in found if each["pid"] == pid} for pid in workers]
    assert not set.intersection(*by_worker), "a session was used by two processes"
    assert parts() == sorted(f"{way} {number}" for number, way in enumerate(ways) if way in ("committed", "marked"))
    for way, job in jobs:
        assert row(job).left_behind == TELLS.get(way), way
    assert [status(job) for way, job in jobs if way == "failed"] == [Status.FAILED] * 7
    assert (status(slow), row(slow).left_behind) == (Status.FAILED, None)
    assert sessions() == []
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_l_m10_the_supervisor_has_no_connection_of_sqlalchemy_when_it_looks_at_its_children(
    database: Database, tmp_path: Path
) -> None:
    """Though somebody opens one whenever Django connects there; workers go on with theirs."""
    furnish()
    watched = tmp_path / "watch"
    database.env["JOBSUP_TEST_WATCH"] = str(watched)
    with database.supervisor("--workers", "2", **APPS) as supervisor:
        supervisor.wait_ready(WAIT_S)
        for count in range(1, 3):
            wait_final(supervisor, [tasks.effect.enqueue(), warehouse.look.enqueue()], WAIT_S)
            eventually(lambda: of_warehouse(supervisor.pid), WAIT_S, "the supervisor uses its engine")
            kill(supervisor.workers()[:1])
            supervisor.wait_log("while idle", WAIT_S, count=count)
        eventually(lambda: len(supervisor.workers()) == 2, WAIT_S, "a successor", supervisor.picture)
        supervisor.stop(timeout_s=WAIT_S)
    seen = [json.loads(line) for line in watched.read_text().splitlines()]
    assert {line["moment"] for line in seen} == {"spawn", "look"}
    assert [line for line in seen if line["open"] or line["connected"]] == []
    assert sessions() == []
