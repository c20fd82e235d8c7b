"""Jobs that are tried again, by the real runner: what rows keep, what results tell, what a job may say itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobsup import Backoff, JobTimeout, MemoryLimitExceeded, WorkerLost
from jobsup.compat import TaskResultStatus
from jobsup.models import Job, Status
from jobsup.results import task_of
from jobsup.store import LostAttempt, Store
from jobsup.text import class_path
from tests.db import misfits
from tests.db.rows import begin, claimed, failures_of, loss, make_due, row, statements_of
from tests.testapp import retries, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.db.bench import Bench

READY, FAILED, SUCCESSFUL = TaskResultStatus.READY, TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL


def waits_s(bench: Bench, result: Any) -> float:
    """Return for how long a job waits for its next attempt, counted from the end of the last one."""
    found = row(bench.store, int(result.id))
    [*_, last] = failures_of(bench.store, int(result.id))
    assert (found.status, found.finished_at) == (Status.SCHEDULED, None)
    assert found.run_after is not None
    return (found.run_after - last.ended_at).total_seconds()


def played(bench: Bench, result: Any) -> Any:
    """Run a job until it has ended, whatever its delays are."""
    bench.finished(result)
    for _ in range(20):
        if result.status is not READY:
            return result
        bench.tried_again(result)
    raise AssertionError(result)


def test_each_attempt_is_told_with_its_error_its_time_and_its_worker(bench: Bench) -> None:
    """And the job is READY while it waits."""
    result = retries.growing.enqueue(3)
    bench.finished(result)
    assert (result.status, result.attempts, [error.exception_class for error in result.errors]) == (
        READY,
        1,
        [ValueError],
    )
    assert 0.04 < waits_s(bench, result) < 0.2
    played(bench, result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert ["attempt 1" in error.traceback for error in result.errors] == [True, False]
    first, second = failures_of(bench.store, int(result.id))
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at <= first.ended_at <= second.started_at <= second.ended_at
    assert [first.worker, second.worker, result.worker_ids[2]] == result.worker_ids


@pytest.mark.parametrize(
    ("backoff", "wait_s"),
    [
        (30, 30),
        (timedelta(minutes=1), 60),
        (Backoff(base=20, factor=3, jitter=0), 20),
        (retries.by_attempt, 0.1),
        ("tests.testapp.retries.by_attempt", 0.1),
        (retries.nonsense, 1),
    ],
    ids=["seconds", "timedelta", "Backoff", "function", "path", "nonsense"],
)
def test_every_form_of_backoff_can_be_given_with_the_job(bench: Bench, backoff: Any, wait_s: float) -> None:
    """It asks for more attempts, too: five, as for crashes."""
    result = retries.plain.using(backoff=backoff).enqueue(9)
    bench.finished(result)
    assert 0 <= waits_s(bench, result) - wait_s < 0.1
    played(bench, result)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 5, 5)


def test_the_functions_of_a_task_see_the_result_as_it_stands(bench: Bench) -> None:
    """They can end the job; one without a name is found beside its declaration."""
    result = played(bench, retries.by_lambda.enqueue(9))
    assert (result.status, result.attempts) == (FAILED, 3), "of four"
    fatal = played(bench, retries.plain.using(backoff=retries.by_attempt, max_attempts=9).enqueue(3, "fatal"))
    assert (fatal.status, fatal.attempts) == (FAILED, 1)
    waiting = bench.finished(retries.plain.using(backoff=retries.by_attempt).enqueue(9))
    bench.tried_again(waiting)
    assert 0.2 <= waits_s(bench, waiting) < 0.3, "a tenth of a second for each attempt"


@pytest.mark.parametrize(
    ("task", "name", "attempts"),
    [
        (retries.choosy, "busy", 2),
        (retries.choosy, "value", 1),
        (retries.plain.using(retry_on="tests.testapp.retries.Overloaded"), "busy", 2),
        (retries.plain.using(retry_on=(OSError, KeyError)), "busy", 2),
        (retries.plain.using(retry_on=KeyError), "busy", 1),
        (retries.resigned, "value", 2),
        (retries.resigned, "fatal", 1),
        (retries.plain.using(discard_on=Exception, max_attempts=5), "busy", 1),
    ],
)
def test_exceptions_are_chosen_by_name(bench: Bench, task: Any, name: str, attempts: int) -> None:
    """By their class, one above it, or a path; what is not tried again has failed at once."""
    result = played(bench, task.enqueue(2, name))
    assert (result.attempts, result.status) == (attempts, SUCCESSFUL if attempts == 2 else FAILED)
    assert result.errors[0].exception_class is retries.ERRORS[name]


def test_a_job_that_asks_to_be_tried_again_has_its_cause_told(bench: Bench) -> None:
    """Whatever it declares; the limit is that for crashes."""
    result = retries.ask_again.enqueue(3)
    bench.finished(result)
    assert 0 <= waits_s(bench, result) - retries.SHORT_S < 0.1
    played(bench, result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, 3, 3)
    assert [error.exception_class_path for error in result.errors] == ["jobsup.retries.Retry"] * 2
    for number, error in enumerate(result.errors, start=1):
        assert f"retries.Busy: attempt {number}\n" in error.traceback
        assert error.traceback.endswith("jobsup.retries.Retry: the job asked to be tried again after 0.1 s\n")
    endless = played(bench, retries.ask_again.enqueue(99))
    assert (endless.status, endless.attempts, len(endless.errors)) == (FAILED, 5, 5)
    once = played(bench, retries.ask_again.using(max_attempts=1).enqueue(99))
    assert (once.status, once.attempts) == (FAILED, 1)


def test_a_snooze_is_as_if_the_job_had_not_run(bench: Bench, tmp_path: Path) -> None:
    """No attempt, no worker, no error, however often; the number of the claim goes on."""
    result: Any = retries.snooze.enqueue(str(tmp_path / "snoozed"), 3)
    for number in range(1, 4):
        bench.finished(result) if number == 1 else bench.tried_again(result)
        found = row(bench.store, int(result.id))
        assert (found.status, found.attempt, found.uncounted, found.worker) == (Status.SCHEDULED, number, number, "")
        assert found.run_after is not None
        assert (found.run_after - bench.store.sql.now()).total_seconds() < retries.SHORT_S
        assert (result.status, result.attempts, result.worker_ids, result.errors) == (READY, 0, [], [])
    bench.tried_again(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, [1, 0], 1)
    assert failures_of(bench.store, int(result.id)) == []


def test_snoozes_among_failures_leave_every_attempt_its_worker(bench: Bench) -> None:
    """As many workers as attempts that count, also where an earlier claim does not."""
    misfits.snoozes.clear()
    result: Any = misfits.snooze_then_fail.enqueue()
    bench.finished(result)
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.worker_ids), len(result.errors)) == (READY, 1, 1, 1)
    [pk] = [int(result.id)]
    assert [failure.attempt for failure in failures_of(bench.store, pk)] == [2]
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.worker_ids)) == (READY, 1, 1), "snoozed once more"
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.worker_ids)) == (FAILED, 2, 2)
    assert row(bench.store, pk).attempt == 4


def test_a_job_that_discards_itself_has_failed_for_that_reason(bench: Bench) -> None:
    """At once, through `except Exception`; nobody cancelled it."""
    result = played(bench, retries.give_up.enqueue())
    assert (result.status, result.attempts, row(bench.store, int(result.id)).status) == (FAILED, 1, Status.FAILED)
    [error] = result.errors
    assert error.exception_class_path == "jobsup.retries.Discard"
    assert error.traceback.endswith("jobsup.retries.Discard: the order is gone\n")
    assert len(retries_traces(bench, result)) == 1


@pytest.mark.parametrize(
    ("word", "status", "uncounted", "errors"),
    [
        ("retry", Status.SCHEDULED, 0, ["jobsup.retries.Retry"]),
        ("snooze", Status.SCHEDULED, 1, []),
        ("discard", Status.FAILED, 0, ["jobsup.retries.Discard"]),
    ],
)
def test_a_coroutine_has_the_same_words(
    bench: Bench, word: str, status: Status, uncounted: int, errors: list[str]
) -> None:
    """They come through its event loop, which lives on."""
    result = bench.finished(misfits.async_word.enqueue(word))
    found = row(bench.store, int(result.id))
    assert (found.status, found.uncounted) == (status, uncounted)
    assert [error.exception_class_path for error in result.errors] == errors
    if status is Status.SCHEDULED:
        assert found.run_after is not None
        assert 29 < (found.run_after - bench.store.sql.now()).total_seconds() <= 30
    assert bench.finished(tasks.aadd.enqueue(1, 2)).return_value == 3


def retries_traces(bench: Bench, result: Any) -> list[Any]:
    """Return the traces that a job left."""
    from tests.testapp.models import Effect

    return list(Effect.objects.using(bench.alias).filter(job=int(result.id)))


def test_what_the_job_was_enqueued_with_is_stronger_than_a_later_declaration(bench: Bench) -> None:
    """A deploy changes what its later jobs do; a function's code is always that of today."""
    before, after = retries.plain.using(max_attempts=2, backoff=30), retries.choosy.using(backoff=40)
    old, new = before.enqueue(9), after.enqueue(9, "busy")
    Job.objects.using(bench.alias).filter(pk=old.id).update(task="tests.testapp.retries.choosy")
    bench.work()
    assert 0 <= waits_s(bench, old) - 30 < 0.1, "for a ValueError: the row has no retry_on"
    assert 0 <= waits_s(bench, new) - 40 < 0.1
    [pk] = [int(old.id)]
    kept: Any = task_of(row(bench.store, pk))
    assert (kept.max_attempts, kept.backoff, kept.retry_on, kept.discard_on) == (2, 30, None, None)
    shown: Any = task_of(row(bench.store, int(new.id)))
    assert shown.retry_on == ("builtins.ConnectionError", "tests.testapp.retries.Overloaded")
    assert shown.using(priority=1).enqueue(1).id, "what is shown can be enqueued again"
    lost_one = retries.by_lambda.enqueue(1)
    assert task_of(row(bench.store, int(lost_one.id))).backoff is retries.by_lambda.backoff


@pytest.mark.parametrize("task", [retries.ask_again, retries.plain.using(backoff=1)], ids=["Retry", "exception"])
def test_what_was_cancelled_meanwhile_is_not_tried_again(bench: Bench, task: Any) -> None:
    """Though its worker did not hear of it in time."""
    result = task.enqueue(9)
    [pk] = bench.claim()
    bench.runner.load([pk])
    bench.store.cancel([pk])
    bench.runner.run(pk)
    bench.runner.tidy()
    bench.runner.flush()
    found = row(bench.store, pk)
    assert (found.status, found.attempt, found.untold) == (Status.CANCELLED, 1, True), "a worker is still to tell"
    result.refresh()
    assert [error.exception_class_path for error in result.errors][1:] == ["jobsup.errors.JobCancelled"]


# ---- the supervisor's verdicts


@pytest.mark.parametrize(
    ("options", "kind", "status"),
    [
        ({}, WorkerLost, Status.SCHEDULED),
        ({"retry_on": KeyError}, WorkerLost, Status.SCHEDULED),
        ({"discard_on": WorkerLost}, WorkerLost, Status.FAILED),
        ({"discard_on": "jobsup.WorkerLost", "max_attempts": 9}, WorkerLost, Status.FAILED),
        ({}, JobTimeout, Status.FAILED),
        ({"max_attempts": 2}, JobTimeout, Status.SCHEDULED),
        ({"backoff": 20}, MemoryLimitExceeded, Status.SCHEDULED),
        ({"max_attempts": 2, "retry_on": KeyError}, JobTimeout, Status.FAILED),
        ({"retry_on": ("jobsup.JobTimeout",)}, JobTimeout, Status.SCHEDULED),
        ({"max_attempts": 2, "discard_on": "jobsup.errors.MemoryLimitExceeded"}, MemoryLimitExceeded, Status.FAILED),
    ],
)
def test_a_lost_attempt_is_judged_by_what_the_row_says(
    bench: Bench, options: dict[str, Any], kind: type[BaseException], status: Status
) -> None:
    """No code of a task is asked; what has ended is still to be told of by a worker."""
    result = retries.plain.using(**options).enqueue(9)
    [pk] = bench.claim()
    limit = kind is not WorkerLost
    lost = LostAttempt(pk, "w", "ended on {job}", 1.0, at_once=False, exception=class_path(kind), by_a_limit=limit)
    with statements_of(bench.alias) as statements:
        [account] = bench.store.lost(bench.run, [lost])
    assert not any("Effect" in statement for statement in statements)
    found = row(bench.store, pk)
    assert (account.status, found.status, found.untold) == (status, status, status is Status.FAILED)
    result.refresh()
    assert [error.exception_class for error in result.errors] == [kind]
    assert result.errors[0].traceback == f"ended on {account}"
    if status is Status.SCHEDULED and "backoff" in options:
        assert 0 <= waits_s(bench, result) - 20 < 0.1


def test_the_limit_counts_what_counts(store: Store) -> None:
    """Also for a job that was snoozed often, or is tried anew by hand, before its worker dies."""
    run = begin(store)
    pk = claimed(store, run, max_attempts=2)
    Job.objects.using(store.alias).filter(pk=pk).update(attempt=12, uncounted=11)
    [account] = store.lost(run, [loss(pk)])
    assert (str(account), account.status) == (f"job {pk} tests.testapp.tasks.noop, attempt 1 of 2", Status.SCHEDULED)
    found = row(store, pk)
    assert found.run_after is not None
    assert (found.run_after - failures_of(store, pk)[0].ended_at).total_seconds() < 1.1
    make_due(store, pk)
    store.claim(run, None, 1)
    [account] = store.lost(run, [loss(pk)])
    assert (str(account).endswith("attempt 2 of 2"), account.status) == (True, Status.FAILED)
    assert [failure.attempt for failure in failures_of(store, pk)] == [12, 13]
