"""Retries through real supervisors: each option once, and those told how a job ended that nobody could end itself."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobsup import Backoff, JobTimeout
from jobsup.models import FailedAttempt, Status
from tests.support import eventually, is_alive, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    picture,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import limits, retries, tasks

if TYPE_CHECKING:
    from tests.databases import Database
    from tests.support import Supervisor

WAIT_S = 60
LOST, RETRY = "jobsup.errors.WorkerLost", "jobsup.retries.Retry"
TIMED_OUT, CANCELLED = "jobsup.errors.JobTimeout", "jobsup.errors.JobCancelled"
OVER_MEMORY = "jobsup.errors.MemoryLimitExceeded"
FAIL = "builtins.ValueError"
BUSY, FATAL = "tests.testapp.retries.Busy", "tests.testapp.retries.Fatal"


def ended(result: Any) -> tuple[str, int, list[str]]:
    """Return how a job ended, after how many attempts, and what each of them failed by."""
    result.refresh()
    assert len(result.worker_ids) == result.attempts
    return result.status.name, result.attempts, [error.exception_class_path for error in result.errors]


def gaps_s(result: Any) -> list[float]:
    """Return the times between the end of each failed attempt and the beginning of the next one."""
    began = [run.made_at for run in runs(result)][1:]
    failed = FailedAttempt.objects.filter(job_id=int(result.id)).order_by("attempt").values_list("ended_at", flat=True)
    return [(start - end).total_seconds() for start, end in zip(began, failed, strict=False)]


def test_every_way_to_be_tried_again(database: Database, tmp_path: Path) -> None:
    """Each option as declared and as given with the job; what a job raises itself; a time-out that it heeds."""
    plain = retries.plain
    good = {
        "seconds": plain.using(max_attempts=3, backoff=0.2).enqueue(3),
        "timedelta": plain.using(backoff=timedelta(seconds=0.2)).enqueue(3),
        "Backoff": plain.using(backoff=Backoff(0.2, 1, jitter=0)).enqueue(3),
        "declared": retries.growing.enqueue(3),
        "function": plain.using(backoff=retries.by_attempt).enqueue(3),
        "path": plain.using(backoff="tests.testapp.retries.by_attempt").enqueue(3),
    }
    gone = retries.by_lambda.enqueue(9)
    nonsense = plain.using(backoff=retries.nonsense).enqueue(2)
    default = plain.using(max_attempts=2).enqueue(2)
    chosen = [
        (retries.choosy, "busy", 2, BUSY),
        (retries.choosy, "value", 1, FAIL),
        (retries.choosy, "fatal", 1, FATAL),
    ]
    chosen += [(retries.resigned, "fatal", 1, FATAL), (retries.resigned, "value", 2, FAIL)]
    chosen += [(plain.using(retry_on=OSError, backoff=0.1), "busy", 2, BUSY)]
    chosen += [(plain.using(max_attempts=3, backoff=0.1, discard_on=BUSY), "busy", 1, BUSY)]
    by_name = [(task.enqueue(2, name), attempts, path) for task, name, attempts, path in chosen]
    again, always = retries.ask_again.enqueue(3), retries.ask_again.enqueue(99)
    snoozed = retries.snooze.enqueue(str(tmp_path / "snoozed"), 3)
    discarded = retries.give_up.enqueue()
    slow = limits.slow_at_first.using(timeout=0.5, retry_on=JobTimeout, backoff=0.1).enqueue()
    settings = {"CRASH_ATTEMPTS": 3}
    with database.supervisor("--workers", "2", "--exit-when-empty", JOBSUP=settings) as supervisor:
        assert supervisor.wait(WAIT_S * 2) == 0
        log = supervisor.log()
    for name, job in good.items():
        assert ended(job) == ("SUCCESSFUL", 3, [FAIL] * 2), name
        assert min(gaps_s(job)) >= (0.05 if name in ("declared", "function", "path") else 0.2), name
    assert ended(gone) == ("FAILED", 3, [FAIL] * 3)
    assert ended(nonsense) == ended(default) == ("SUCCESSFUL", 2, [FAIL])
    assert min(*gaps_s(nonsense), *gaps_s(default)) >= 1
    assert "its backoff is of no use, and the default is taken: builtins.TypeError: it returned 'soon'" in log
    for job, attempts, path in by_name:
        assert ended(job) == ("SUCCESSFUL" if attempts == 2 else "FAILED", attempts, [path]), job
    assert ended(again) == ("SUCCESSFUL", 3, [RETRY] * 2)
    assert ended(always) == ("FAILED", 3, [RETRY] * 3)
    assert "retries.Busy: attempt 3" in words(always)[2]
    assert ended(snoozed) == ("SUCCESSFUL", 1, [])
    assert (snoozed.return_value, len(runs(snoozed)), row(snoozed).attempt, row(snoozed).uncounted) == ([1, 0], 4, 4, 3)
    assert f"job {snoozed.id} tests.testapp.retries.snooze is snoozed for 0.1 s" in log
    assert ended(discarded) == ("FAILED", 1, ["jobsup.retries.Discard"])
    assert words(discarded)[0].endswith("Discard: the order is gone\n")
    assert ended(slow) == ("SUCCESSFUL", 2, [TIMED_OUT])
    assert_nobody_owns_anything()


# ---- those who are told of the end


CANCEL = """
import os
from tests.testapp.retries import plain
assert plain.get_result("{pk}").cancel()
print("told in", os.getpid())
"""


class Told:
    """What the receivers of `task_finished` in the workers of a supervisor are told."""

    def __init__(self, database: Database, place: Path) -> None:
        self._place = place
        database.env["JOBSUP_TEST_TOLD"] = str(place)

    def of(self, result: Any) -> list[dict[str, Any]]:
        """Return what was told of a job."""
        lines = self._place.read_text().splitlines() if self._place.exists() else []
        return [told for line in lines if (told := json.loads(line))["job"] == int(result.id)]

    def wait(self, supervisor: Supervisor, result: Any) -> dict[str, Any]:
        """Wait until a job is told of and return what was told."""
        return eventually(lambda: self.of(result), WAIT_S, f"the telling of {result}", lambda: picture(supervisor))[0]


@pytest.fixture
def told(database: Database, tmp_path: Path) -> Told:
    """Receivers that write down what they are told."""
    return Told(database, tmp_path / "told")


def assert_told_once(told: Told, result: Any, error: str, errors: list[str], supervisors: list[int]) -> dict[str, Any]:
    """Fail unless a job was told of once, in a worker that did not run it, with its errors; return what was told."""
    [found] = told.of(result)
    assert (found["error"], found["errors"], found["status"]) == (error, errors, "FAILED"), found
    assert (found["finished"], found["sender"], found["in_worker"]) == (True, "JobsupBackend", True), found
    assert found["pid"] not in supervisors
    assert found["pid"] not in {run.pid for run in runs(result)}
    assert not row(result).untold
    return found


def test_a_worker_is_told_of_what_its_neighbour_died_of(database: Database, told: Told, tmp_path: Path) -> None:
    """A SIGKILL at the last attempt, a time-out or a cancellation that only the ladder could enforce: once each.

    What the options say of deaths and time-outs holds: `retry_on` is for exceptions and limits, `discard_on` for all.
    """
    place = tmp_path / "go"
    killed = retries.die_until.using(max_attempts=2, backoff=0.1).enqueue(9)
    timed_out = retries.hang.using(timeout=0.3, timeout_grace=0.3).enqueue()
    cancelled = retries.hang.enqueue()
    place.touch()
    fat = limits.hog.using(memory_limit="200M").enqueue(str(place), 1000)
    failed, fine = retries.plain.enqueue(9), retries.plain.enqueue(1)
    survivor = retries.die_until.using(retry_on=KeyError, backoff=0.1).enqueue(2)
    fragile = retries.die_until.using(discard_on="jobsup.WorkerLost", max_attempts=5).enqueue(2)
    late = retries.hang.using(timeout=0.3, timeout_grace=0.3, max_attempts=3, retry_on=(ValueError, LOST)).enqueue()
    settings = {"CANCEL_ASK": 0, "CANCEL_GRACE": 0.3}
    with database.supervisor("--workers", "2", JOBSUP=settings) as supervisor:
        wait_begun(supervisor, cancelled, timeout_s=WAIT_S)
        cancelled.cancel()
        jobs = [killed, timed_out, fat, cancelled, failed, fine, survivor, fragile, late]
        wait_final(supervisor, jobs, WAIT_S)
        for job in jobs:
            told.wait(supervisor, job)
        after = [tasks.effect.enqueue() for _ in range(5)]
        wait_final(supervisor, after, WAIT_S)
        supervisor.stop()
        log = supervisor.log()
    found = assert_told_once(told, killed, "WorkerLost", [LOST] * 2, [supervisor.pid])
    assert found["words"] == words(killed)[1]
    assert f"(pid {runs(killed)[1].pid}) was killed by SIGKILL while running job {killed.id} " in found["words"]
    found = assert_told_once(told, timed_out, "JobTimeout", [TIMED_OUT], [supervisor.pid])
    assert "its time-out of 0.3 s was over" in found["words"]
    assert "\n" not in found["words"]
    assert_told_once(told, cancelled, "JobCancelled", [CANCELLED], [supervisor.pid])
    assert_told_once(told, fat, "MemoryLimitExceeded", [OVER_MEMORY], [supervisor.pid])
    assert_told_once(told, fragile, "WorkerLost", [LOST], [supervisor.pid])
    assert_told_once(told, late, "JobTimeout", [TIMED_OUT], [supervisor.pid])
    assert (ended(survivor)[0], {*ended(survivor)[2]}) == ("SUCCESSFUL", {LOST})
    assert [(each["error"], each["status"]) for job in (failed, fine) for each in told.of(job)] == [
        ("ValueError", "FAILED"),
        (None, "SUCCESSFUL"),
    ]
    assert "telling so failed" not in log
    assert "refused" not in log
    assert_nobody_owns_anything()


def test_a_supervisor_that_died_is_told_of_by_the_next_one(database: Database, told: Told) -> None:
    """What it had lost with it, and what it had not come to; a receiver that kills its worker hears of it once."""
    at_last = retries.hang.using(max_attempts=1).enqueue()
    deadly = retries.die_twice_over.using(max_attempts=1).enqueue()
    with database.supervisor("--workers", "1") as first:
        pid = wait_begun(first, at_last, timeout_s=WAIT_S)
        first.kill()
        eventually(lambda: not is_alive(pid), WAIT_S, "the end of its worker")
    assert status(at_last) is Status.RUNNING
    with database.supervisor("--workers", "2") as second:
        told.wait(second, at_last)
        told.wait(second, deadly)
        after = [tasks.effect.enqueue() for _ in range(5)]
        wait_final(second, after, WAIT_S)
        second.stop()
    with database.supervisor("--workers", "1", "--exit-when-empty") as third:
        assert third.wait(WAIT_S) == 0
        assert "was killed" not in third.log()
    found = assert_told_once(told, at_last, "WorkerLost", [LOST], [first.pid, second.pid])
    assert "ended without a word while it owned job" in found["words"]
    assert_told_once(told, deadly, "WorkerLost", [LOST], [second.pid])
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_exit_when_empty_waits_for_the_telling(database: Database, told: Told) -> None:
    """The last worker may be the one whose death is to be told of."""
    jobs = [retries.die_until.using(max_attempts=1).enqueue(9) for _ in range(3)]
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
    for job in jobs:
        assert_told_once(told, job, "WorkerLost", [LOST], [supervisor.pid])


@ON_SQLITE
def test_the_process_that_cancels_a_waiting_job_tells_of_it(database: Database, told: Told) -> None:
    """No worker ever hears of that job."""
    waiting = retries.plain.using(run_after=None).enqueue(1)
    done = run_django(database.env, "shell", "-c", CANCEL.format(pk=waiting.id))
    assert done.returncode == 0, done.stdout
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
    [found] = told.of(waiting)
    assert (found["error"], found["in_worker"]) == ("JobCancelled", False)
    assert f"told in {found['pid']}" in done.stdout
