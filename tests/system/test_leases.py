"""What a killed supervisor had claimed and never begun, and clocks that jump: real supervisors, real signals.

The numbers (fault 40 ...) are those of the list of faults; a code such as s7 names a trap.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from jobsup.models import Status
from jobsup.models import Supervisor as Run
from tests import clockshift
from tests.support import eventually
from tests.system.jobs import assert_nobody_owns_anything, assert_once, fault, row, runs, status, wait_final, words
from tests.testapp import hosts, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database
    from tests.support import Supervisor

PATIENT_S = 60
LEASE_S = 6


def test_fault_6_what_a_killed_supervisor_never_had_begun_is_given_back_uncounted(
    database: Database, tmp_path: Path
) -> None:
    """Killed when it has just claimed jobs that may begin once: each does. Killed by a job: that one had begun."""
    fragile = [hosts.only_once.enqueue() for _ in range(20)]
    fault(database, tmp_path, "supervisor", "after", "attempt + 1")
    with database.supervisor("--workers", "1") as first:
        assert first.wait(PATIENT_S) == -signal.SIGKILL
    held = [job for job in fragile if status(job) is Status.RUNNING]
    assert held or database.vendor == "sqlite", "it was not killed after a claim; on SQLite that is not committed yet"
    assert list(tmp_path.glob("*.begun-*")), "there is no file of what has begun"
    with database.supervisor("--workers", "1") as second:
        wait_final(second, fragile, PATIENT_S)
        words_of_it = "job that" if len(held) == 1 else "jobs that"
        assert not held or f"gave back {len(held)} {words_of_it} supervisor default on " in second.log()
        deadly = hosts.kill_the_supervisor.enqueue()
        assert second.wait(PATIENT_S) == -signal.SIGKILL
    with database.supervisor("--workers", "1", "--exit-when-empty") as third:
        assert third.wait(PATIENT_S) == 0
        assert "gave back" not in third.log()
    for job in fragile:
        assert_once(job)
        assert len(runs(job)) == 1
    (sentence,) = words(deadly)
    assert sentence.endswith("tests.testapp.hosts.kill_the_supervisor, attempt 1 of 2, which had begun")
    assert (status(deadly), row(deadly).attempt, len(runs(deadly))) == (Status.SUCCESSFUL, 2, 2)
    assert not list(tmp_path.glob("*.begun-*")), "the file of what has begun outlives its run"
    assert_nobody_owns_anything()


@pytest.mark.skipif(clockshift.why_not() is not None, reason=clockshift.why_not() or "")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_p5_s7_fault_40_a_clock_that_jumps_by_a_day_ends_nobody_and_starts_nothing(
    database: Database, tmp_path: Path
) -> None:
    """The clocks of two supervisors and their workers go ahead and back by a day: jobs go on, no lease is over.

    On PostgreSQL nothing starts before its time, either: that is the database's. On SQLite there is no other clock.
    """
    clock = clockshift.Clock(tmp_path)
    database.env.update(clock.env)
    later = tasks.effect.using(run_after=timezone.now() + timedelta(hours=12)).enqueue()
    jobs = [tasks.hold.enqueue(str(tmp_path / "go")) for _ in range(2)]
    with ExitStack() as stack:
        both = [
            stack.enter_context(database.supervisor("--workers", "1", "--name", name, JOBSUP={"LEASE": LEASE_S}))
            for name in ("one", "two")
        ]
        eventually(lambda: all(runs(job) for job in jobs), PATIENT_S, "both jobs begun", both[0].picture)
        for count, days in enumerate((1, -1, 0), start=1):
            clock.set(timedelta(days=days))
            wait_for_beats(both[0])
            both[0].signal(signal.SIGUSR2)  # it tells its state, and with that the time
            both[0].wait_log("workers wanted", count=count)
        (tmp_path / "go").touch()
        wait_final(both[0], jobs, PATIENT_S)
        for supervisor in both:
            supervisor.stop()
        logs = "".join(supervisor.log() for supervisor in both)
    for job in jobs:
        assert_once(job)
    assert set(Run.objects.values_list("state", flat=True)) == {"stopped"}
    if database.vendor == "postgresql":
        assert (status(later), runs(later)) == (Status.SCHEDULED, [])
    assert f"{timezone.now() + timedelta(days=1):%Y-%m-%d} " in logs, "the clock was not set at all"
    assert "recovered" not in logs
    assert "is ended" not in logs
    assert_nobody_owns_anything()


def wait_for_beats(supervisor: Supervisor) -> None:
    """Wait until each run has beaten once more."""
    before = dict(Run.objects.values_list("pk", "beat_at"))

    def all_did() -> bool:
        return all(run.beat_at != before[run.pk] for run in Run.objects.all())

    eventually(all_did, PATIENT_S, "a beat of each", supervisor.picture)
