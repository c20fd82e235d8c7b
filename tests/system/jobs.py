"""Looking at jobs from outside: their rows, the traces that they leave, how their attempts failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually, title_of
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database
    from tests.support import Supervisor

ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
FINAL = (Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED)


def row(result: Any) -> Job:
    """Return a job as it stands."""
    return Job.objects.get(pk=int(result.id))


def status(result: Any) -> Status:
    """Return where a job is in its life."""
    return Status(row(result).status)


def words(result: Any) -> list[str]:
    """Return how the attempts of a job failed, in order."""
    attempts = FailedAttempt.objects.filter(job_id=int(result.id)).order_by("attempt")
    return list(attempts.values_list("traceback", flat=True))


def runs(result: Any) -> list[Effect]:
    """Return the runs that a job left traces of, in order."""
    return list(Effect.objects.filter(job=int(result.id)).order_by("pk"))


def picture(supervisor: Supervisor) -> str:
    """Return the supervisor, its log and the jobs that are not final."""
    rows = Job.objects.exclude(status__in=FINAL).order_by("pk")[:20]
    return "\n".join([supervisor.picture(), "-- jobs:", *(f"{job} {job.get_status_display()}" for job in rows)])


def wait_begun(supervisor: Supervisor, result: Any, times: int = 1, timeout_s: float = 15) -> int:
    """Wait until a job has begun for the `times`-th time and return the pid of the worker that runs it."""
    eventually(lambda: len(runs(result)) >= times, timeout_s, f"run {times} of it", lambda: picture(supervisor))
    return runs(result)[times - 1].pid


def wait_final(supervisor: Supervisor, results: Iterable[Any], timeout_s: float = 20) -> None:
    """Wait until jobs are final."""
    pks = [int(result.id) for result in results]

    def final() -> bool:
        return Job.objects.filter(pk__in=pks, status__in=FINAL).count() == len(pks)

    eventually(final, timeout_s, "the end of the jobs", lambda: picture(supervisor))


def wait_status(supervisor: Supervisor, result: Any, wanted: Status, timeout_s: float = 10) -> None:
    """Wait until a job has come to a status."""
    eventually(lambda: status(result) is wanted, timeout_s, f"{wanted.label}", lambda: picture(supervisor))


def assert_once(result: Any) -> None:
    """Fail unless a job was successful at its first attempt, ran once and has nothing else to tell."""
    job = row(result)
    assert (Status(job.status), job.attempt, words(result)) == (Status.SUCCESSFUL, 1, [])
    assert len(runs(result)) <= 1, "it ran more than once"


def assert_nobody_owns_anything() -> None:
    """Fail if a claim is left, or on PostgreSQL a session in a transaction."""
    owned = list(Job.objects.filter(status=Status.RUNNING).values_list("pk", "claimed_by"))
    assert owned == [], f"claims are left: {owned}"
    if connection.vendor == "postgresql":
        assert sessions("state LIKE 'idle in%%'") == [], "a session is idle in a transaction"


def sessions(condition: str = "true", *params: Any) -> list[int]:
    """Return the server's processes behind the other sessions of this database (PostgreSQL)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            f"AND backend_type = 'client backend' AND {condition} ORDER BY backend_start",
            params,
        )
        return [pid for (pid,) in cursor.fetchall()]


def terminate(pids: Iterable[int]) -> None:
    """End sessions of the server as an administrator would (PostgreSQL)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [list(pids)])


def is_idle(pid: int) -> bool:
    """Tell whether a worker waits for work."""
    return title_of(pid).endswith("idle")


def fault(database: Database, place: Path, where: str, when: str, sql: str, action: str = "kill") -> Database:
    """Return the database with a fault injected once at a statement; see `tests.testapp.faults`."""
    marker = str(place / "fault")
    database.env["JOBSUP_TEST_FAULT"] = (
        f'{{"in": "{where}", "when": "{when}", "sql": "{sql}", "action": "{action}", "marker": "{marker}"}}'
    )
    return database
