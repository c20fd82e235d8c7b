"""Supervisors die at the worst moments: their workers go with them, and the next start or another one takes over.

The numbers (f1, f6 ...) are those of the list of faults; a code such as m6 names a trap.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from jobsup.models import FailedAttempt, Status
from jobsup.models import Supervisor as Run
from tests.support import eventually, is_alive, processes_of
from tests.system.jobs import (
    ON_POSTGRESQL,
    assert_nobody_owns_anything,
    fault,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

SHORT_LEASE = {"LEASE": 3}


def test_f6_s5_workers_end_with_their_supervisor_and_the_next_start_takes_the_jobs_at_once(
    database: Database, tmp_path: Path
) -> None:
    """Kill -9 with two jobs running: nobody is left within a second; the run file proves the run is over."""
    go = tmp_path / "go"
    jobs = [tasks.hold.enqueue(str(go)) for _ in range(2)]
    with database.supervisor("--workers", "2") as first:
        for job in jobs:
            wait_begun(first, job)
        family = processes_of(first.pid)
        first.kill()
        eventually(lambda: not any(map(is_alive, family)), 1, "the end of its workers", first.picture)
        assert "Traceback" not in first.log()
        with database.supervisor("--workers", "2") as second:
            second.wait_log("recovered 2 jobs of supervisors that ended without a word")
            for job in jobs:
                wait_begun(second, job, times=2)
            go.touch()
            wait_final(second, jobs)
            second.stop()
    for job in jobs:
        assert (row(job).attempt, len(runs(job)), status(job)) == (2, 2, Status.SUCCESSFUL)
        (sentence,) = words(job)
        assert sentence.startswith(f"supervisor default on {Run.objects.get(pid=first.pid).node} (run ")
        assert f"(pid {first.pid}) ended without a word while it owned job {job.id} " in sentence
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_f6_a_supervisor_of_another_name_takes_the_jobs_of_a_dead_one_only_after_the_lease(
    database: Database, tmp_path: Path
) -> None:
    """It cannot know that the other is dead; the database's clock says when the lease is over."""
    go = tmp_path / "go"
    job = tasks.hold.enqueue(str(go))
    with database.supervisor("--workers", "1", JOBSUP=SHORT_LEASE) as first:
        wait_begun(first, job)
        first.kill()
    beat_at = Run.objects.get(name="default").beat_at
    with database.supervisor("--workers", "1", "--name", "other", JOBSUP=SHORT_LEASE) as other:
        go.touch()
        wait_final(other, [job])
        other.stop()
    attempt = FailedAttempt.objects.get(job_id=int(job.id))
    assert attempt.ended_at - beat_at >= timedelta(seconds=3)
    assert (status(job), row(job).attempt) == (Status.SUCCESSFUL, 2)
    assert Run.objects.get(name="default").state == "lost"


@pytest.mark.parametrize(
    ("database", "moment"),
    [
        ("sqlite", "claim"),
        ("postgresql", "claim"),
        ("postgresql", "drain"),
        ("sqlite", "reload"),
        ("postgresql", "group"),
    ],
    indirect=["database"],
)
def test_f7_f8_a_supervisor_killed_in_the_middle_of_something_leaves_no_claim_without_an_owner(
    database: Database, tmp_path: Path, moment: str
) -> None:
    """During a claim, a drain or a reload, or with all of its group: the next start finishes everything."""
    go = tmp_path / "go"
    jobs = [tasks.hold.enqueue(str(go)), *(tasks.effect.enqueue() for _ in range(20))]
    if moment == "claim":
        fault(database, tmp_path, "supervisor", "after", "attempt + 1")
    with database.supervisor("--workers", "1") as first:
        if moment != "claim":
            wait_begun(first, jobs[0])
        if moment == "drain":
            first.signal(signal.SIGTERM)
            first.wait_log("drains")
        elif moment == "reload":
            first.signal(signal.SIGHUP)
            first.wait_log("reload: starting")
        if moment == "group":
            os.killpg(first.pid, signal.SIGKILL)
        elif moment != "claim":
            first.process.kill()
        assert first.wait() == -signal.SIGKILL
    go.touch()
    with database.supervisor("--workers", "2", "--exit-when-empty") as second:
        assert second.wait() == 0
    for job in jobs:
        assert status(job) is Status.SUCCESSFUL
        assert row(job).attempt == 1 + len(words(job)) <= 2
    assert_nobody_owns_anything()
    assert set(Run.objects.values_list("state", flat=True)) == {"lost", "stopped"}


@ON_POSTGRESQL
def test_f17_p6_a_supervisor_that_slept_past_its_lease_is_refused_and_begins_anew(
    database: Database, tmp_path: Path
) -> None:
    """SIGSTOP: another one runs its job; the zombie's result is refused in words. It wakes and works as a new run."""
    go, job = tmp_path / "go", tasks.hold.enqueue(str(tmp_path / "go"))
    with (
        database.supervisor("--workers", "1", JOBSUP=SHORT_LEASE) as sleeper,
        database.supervisor("--workers", "1", "--name", "other", JOBSUP=SHORT_LEASE) as other,
    ):
        eventually(lambda: runs(job), 15, "the first run of it", sleeper.picture)
        taker, zombie = (other, sleeper) if runs(job)[0].pid in sleeper.workers() else (sleeper, other)
        zombie.signal(signal.SIGSTOP)
        wait_begun(taker, job, times=2)
        go.touch()
        wait_final(taker, [job])
        zombie.wait_log(f"late result refused: attempt 1 of job {job.id} is owned by somebody else by now")
        zombie.signal(signal.SIGCONT)
        zombie.wait_log("this supervisor was silent for longer than its lease and its jobs were given to others")
        zombie.wait_log("a new run has begun: work goes on")
        taker.stop()
        later = tasks.echo.enqueue("later")
        wait_final(zombie, [later])
        zombie.stop()
        assert "Traceback" not in zombie.log()
    job.refresh()
    assert (job.return_value, job.attempts, len(runs(job))) == (2, 2, 2)
    assert_nobody_owns_anything()
