"""The limits of a job on their way: from its task into its row, into the worker, and into the account of its end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from jobsup.compat import InvalidTask, TaskResultStatus
from jobsup.conf import Conf
from jobsup.models import Job, Status
from jobsup.source import DatabaseSource
from jobsup.store import LostAttempt
from spawnpool.bounds import Bounds, Interrupt
from spawnpool.runfile import RunFile
from spawnpool.source import Loss
from spawnpool.states import Ended
from tests.db.bench import Bench
from tests.db.rows import WORKER, begin, claimed, failures_of, row
from tests.testapp import limits, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from jobsup.store import Store

TIMEOUT, MEMORY = "jobsup.errors.JobTimeout", "jobsup.errors.MemoryLimitExceeded"


def test_the_limits_of_a_task_are_those_of_its_job(bench: Bench) -> None:
    """They stand in the row, reach the worker and come back with the result, whatever the task says by then."""
    limited = tasks.noop.using(timeout=timedelta(minutes=1), memory_limit="512M")
    result, plain = limited.enqueue(), tasks.noop.enqueue()
    task: Any = tasks.noop.get_result(result.id).task
    assert (task.timeout, task.timeout_grace, task.memory_limit) == (60.0, None, 512 << 20)
    assert tasks.noop.get_result(plain.id).task == tasks.noop
    assert row(bench.store, int(plain.id)).options is None
    bench.runner.load(bench.claim())
    assert bench.runner.bounds(int(result.id)) == Bounds(60.0, 10.0, 512 << 20)
    assert bench.runner.bounds(int(plain.id)) == Bounds()
    assert bench.runner.bounds(999_999) == Bounds(), "a job that is gone has none of its own"


def test_the_settings_hold_for_what_a_task_leaves_open(routed: str) -> None:
    """As they are where the job runs."""
    plain, free, own = tasks.noop, tasks.noop.using(timeout=0, memory_limit=0), tasks.noop.using(timeout=1)
    pks = [int(task.enqueue().id) for task in (plain, free, own)]
    with override_settings(JOBSUP={"TIMEOUT": 30, "TIMEOUT_GRACE": 3, "MEMORY_LIMIT": "1G"}):
        bench = Bench(routed)
        bench.runner.load(bench.claim())
    assert [bench.runner.bounds(pk) for pk in pks] == [
        Bounds(30, 3, 1 << 30), Bounds(None, 3, None), Bounds(1, 3, 1 << 30),
    ]  # fmt: skip


def test_a_limit_that_cannot_work_makes_no_job(routed: str) -> None:
    """It is refused before the row is made, also in a task that was made by other means."""
    wrong = tasks.noop.using(timeout=1)
    object.__setattr__(wrong, "timeout", "soon")
    with pytest.raises(InvalidTask, match=r"^timeout is 'soon': expected seconds or a timedelta\.$"):
        wrong.enqueue()
    assert not Job.objects.using(routed).exists()


def test_a_time_out_that_the_job_lets_through_is_its_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again where the task says so, with its delay; FAILED else."""
    again, final = tasks.add.using(timeout=5, max_attempts=2).enqueue(1, 2), tasks.add.using(timeout=5).enqueue(1, 2)
    [first, second] = bench.claim()
    bench.runner.load([first, second])
    for pk in (first, second):
        bench.runner.interrupt(Interrupt.TIMEOUT)  # before the job's own code runs
        bench.runner.run(pk)
        bench.runner.tidy()
    bench.runner.flush()
    assert (row(bench.store, first).status, row(bench.store, second).status) == (Status.SCHEDULED, Status.FAILED)
    for result in (again, final):
        result.refresh()
        assert [error.exception_class_path for error in result.errors] == [TIMEOUT]
        assert "the job has used up its time-out of 5 s; 10 s are left to clean up" in result.errors[0].traceback
    assert bench.tried_again(again).return_value == 3


@pytest.mark.parametrize(
    ("ended", "kind"), [(Ended.TIMED_OUT, TIMEOUT), (Ended.OVER_MEMORY, MEMORY), (Ended.EXPELLED, "WorkerLost")]
)
def test_s9_the_end_of_a_worker_by_a_limit_is_told_as_that(
    routed: str, tmp_path: Path, ended: Ended, kind: str
) -> None:
    """The class that stands for the cause, the sentence, and where the job was in Python."""
    runfile = RunFile(tmp_path / "source.run")
    source = DatabaseSource(Conf(), None, runfile, 1)
    source.open()
    result = limits.swallow.enqueue()
    [pk] = source.claim(1).pks
    stack = '  File "limits.py", line 7 in swallow\n  File "runner.py", line 9 in run'
    loss = Loss(pk, 1, 100, "was killed by SIGABRT", 2.0, ended, 612 << 20, "used 612 MB, limit 512 MB", stack)
    called = source.lost([loss])
    assert called == {pk: f"job {pk} tests.testapp.limits.swallow, attempt 1 of 5"}
    result.refresh()
    [error] = result.errors
    assert error.exception_class_path.endswith(kind)
    assert error.traceback == (
        f"worker 1 (pid 100) was killed by SIGABRT by its supervisor while running {called[pk]}, after 2.0 s, "
        f"peak memory 612 MB: used 612 MB, limit 512 MB; it was at limits.py:7 in swallow\n\n{stack}"
    )
    assert result.status is (TaskResultStatus.READY if ended is Ended.EXPELLED else TaskResultStatus.FAILED)
    runfile.release()


def test_an_attempt_that_a_limit_ended_is_judged_like_an_exception(store: Store) -> None:
    """Not by CRASH_ATTEMPTS: only a declared max_attempts has it tried again, after the usual delay."""
    run = begin(store)
    plain, declared = claimed(store, run), claimed(store, run, max_attempts=2)
    store.lost(run, [LostAttempt(pk, WORKER, "slow", 1.0, False, TIMEOUT, True) for pk in (plain, declared)])  # noqa: FBT003
    assert (row(store, plain).status, row(store, declared).status) == (Status.FAILED, Status.SCHEDULED)
    for pk in (plain, declared):
        assert [(each.exception_class_path, each.traceback) for each in failures_of(store, pk)] == [(TIMEOUT, "slow")]
