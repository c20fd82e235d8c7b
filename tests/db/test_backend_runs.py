"""The contract of django.tasks: what is true while jobs run and when they have ended; run here by the real Runner."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from jobsup import runs
from jobsup.backend import JobsupBackend
from jobsup.compat import (
    TASKS_APPS,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from jobsup.models import Job, Status
from jobsup.store import Store
from tests.db import misfits
from tests.db.conftest import JOBSUP
from tests.db.rows import begin, loss, put, row, silent_for
from tests.testapp import tasks
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.db.bench import Bench

READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL
DJANGOS_LOGGER = "django_tasks" if TASKS_APPS else "django.tasks"


@contextmanager
def signals() -> Iterator[list[tuple[str, Any, str, Any]]]:
    """Collect what the three signals say: name, sender, status at that moment, exception at hand."""
    heard: list[tuple[str, Any, str, Any]] = []

    def receiver(name: str) -> Any:
        def hear(sender: Any, task_result: Any, **_: Any) -> None:
            heard.append((name, sender, str(task_result.status), sys.exc_info()[1]))

        return hear

    receivers = [
        (signal, receiver(name))
        for name, signal in (("enqueued", task_enqueued), ("started", task_started), ("finished", task_finished))
    ]
    for signal, hear in receivers:
        signal.connect(hear)
    try:
        yield heard
    finally:
        for signal, hear in receivers:
            signal.disconnect(hear)


@pytest.mark.parametrize("function", [tasks.add, tasks.aadd], ids=["sync", "async"])
def test_a_task_runs_and_its_result_is_true(bench: Bench, function: Any) -> None:
    """Functions and coroutines alike."""
    result = bench.finished(function.enqueue(1, b=2))
    assert (result.status, result.return_value, result.is_finished) == (SUCCESSFUL, 3, True)
    assert result.errors == []
    [worker] = result.worker_ids
    assert "worker 1:" in worker
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at


def test_d8_coroutines_may_use_the_database(bench: Bench) -> None:
    """In the way that Django offers, over the worker's connection; and they may fail."""
    assert bench.finished(misfits.async_database.enqueue()).return_value == 1
    failed = bench.finished(misfits.wrong_async.enqueue())
    assert failed.errors[0].exception_class is LookupError


def test_a_failed_task_tells_why(bench: Bench) -> None:
    """The class can be had, the traceback names the line, there is no value."""
    result = bench.finished(tasks.fail.enqueue("no such luck"))
    assert (result.status, result.is_finished, result.attempts) == (FAILED, True, 1)
    [error] = result.errors
    assert error.exception_class is ValueError
    assert "no such luck" in error.traceback
    assert "tests/testapp/tasks.py" in error.traceback
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_without_max_attempts_an_exception_is_the_end(bench: Bench) -> None:
    """Only a declared `max_attempts` has a job tried again after its function raised."""
    result = bench.finished(misfits.attempts.enqueue(2))
    assert result.status == FAILED
    assert bench.work() == []


def test_every_field_is_true_at_every_moment_of_several_attempts(bench: Bench) -> None:
    """READY between attempts, one worker and one error for each, the first start and the last try kept apart."""
    result: Any = misfits.attempts.using(max_attempts=3).enqueue(3)
    bench.finished(result)
    first = result.started_at
    assert (result.status, result.attempts, len(result.errors), result.finished_at) == (READY, 1, 1, None)
    assert first == result.last_attempted_at
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.errors), result.finished_at) == (READY, 2, 2, None)
    assert result.started_at == first < result.last_attempted_at
    second = result.last_attempted_at
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.errors)) == (SUCCESSFUL, 3, 2)
    assert result.return_value == [3, 3]
    assert result.started_at == first
    assert second < result.last_attempted_at <= result.finished_at
    assert ["attempt 1" in error.traceback for error in result.errors] == [True, False]
    assert ["attempt 2" in error.traceback for error in result.errors] == [False, True]


def test_max_attempts_is_the_end_also_of_what_always_fails(bench: Bench) -> None:
    """The last failure is final, with an error for each attempt."""
    result = bench.finished(misfits.attempts.using(max_attempts=2).enqueue(9))
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 2, 2)
    assert result.finished_at is not None


def test_retries_wait_longer_each_time(bench: Bench) -> None:
    """1, 2, 4 seconds by the database's clock."""
    result: Any = misfits.attempts.using(max_attempts=4).enqueue(9)
    bench.finished(result)
    for delay_s in (1, 2, 4):
        due_at = row(bench.store, int(result.id)).run_after
        assert due_at is not None
        assert timedelta(0) < due_at - result.last_attempted_at - timedelta(seconds=delay_s) < timedelta(seconds=1)
        if delay_s < 4:
            bench.tried_again(result)


def test_the_context_is_the_result_as_it_stands(bench: Bench) -> None:
    """The job sees itself running, in this attempt, on this worker."""
    misfits.seen.clear()
    result = bench.finished(misfits.look.enqueue())
    [inside] = misfits.seen
    assert (inside.id, inside.task, inside.enqueued_at) == (result.id, misfits.look, result.enqueued_at)
    assert inside.worker_ids == result.worker_ids
    assert inside.started_at is not None


def test_a_claimed_job_is_running_once_a_worker_has_begun(bench: Bench) -> None:
    """READY while it waits in a lane, RUNNING with its worker when that is known, as long as it runs."""
    result = tasks.noop.enqueue()
    [pk] = bench.claim()
    result.refresh()
    assert (result.status, result.attempts, result.started_at) == (READY, 0, None)
    bench.store.mark_running(bench.run, pk, "node:worker 1", 1.0)
    result.refresh()
    assert (result.status, result.worker_ids) == (RUNNING, ["node:worker 1"])
    assert result.started_at is not None
    assert not result.is_finished


def test_a_lost_attempt_is_an_error_like_any_other(bench: Bench) -> None:
    """A killed worker is named, its end is the traceback, and the next attempt is the second."""
    result: Any = misfits.attempts.enqueue(0)
    [pk] = bench.claim()
    bench.store.lost(bench.run, [loss(pk)])
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (READY, 1, 1)
    assert result.errors[0].exception_class.__name__ == "WorkerLost"
    assert "SIGKILL" in result.errors[0].traceback
    bench.tried_again(result)
    assert (result.status, result.attempts, result.return_value) == (SUCCESSFUL, 2, [2, 2])


def test_a_job_given_back_shows_no_attempt(bench: Bench) -> None:
    """Claimed, never started, given back: as if nothing had been."""
    result = tasks.noop.enqueue()
    bench.store.release(bench.run, bench.claim())
    before = result
    result.refresh()
    assert result == before
    assert result.attempts == 0


def test_a_cancelled_job_is_shown_as_failed(bench: Bench) -> None:
    """django.tasks has no other word for it."""
    result = tasks.noop.enqueue()
    Job.objects.using(bench.alias).filter(pk=result.id).update(status=Status.CANCELLED)
    result.refresh()
    assert (result.status, result.is_finished) == (FAILED, True)


def test_signals_come_in_order_from_the_backends_class(bench: Bench) -> None:
    """Each says what is true at that moment, and the end is told after it was recorded."""
    with signals() as heard:
        tasks.noop.enqueue()
        bench.work()
    assert [(name, status) for name, _, status, _ in heard] == [
        ("enqueued", READY),
        ("started", RUNNING),
        ("finished", SUCCESSFUL),
    ]
    assert {sender for _, sender, _, _ in heard} == {JobsupBackend}
    assert heard[-1][3] is None


def test_an_end_is_told_before_the_next_job_begins(bench: Bench) -> None:
    """That one may take an hour, or kill the worker, and nobody would hear of the first."""
    with signals() as heard:
        for _ in range(2):
            tasks.noop.enqueue()
        bench.work()
    assert [name for name, *_ in heard] == ["enqueued"] * 2 + ["started", "finished"] * 2


def test_task_finished_finds_the_exception_alive(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Django's own receiver logs the traceback from sys.exc_info()."""
    with signals() as heard, caplog.at_level(logging.INFO, logger=DJANGOS_LOGGER):
        tasks.fail.enqueue("seen by receivers")
        bench.work()
    name, sender, status, error = heard[-1]
    assert (name, sender, status) == ("finished", JobsupBackend, FAILED)
    assert isinstance(error, ValueError)
    [record] = [record for record in caplog.records if record.name == DJANGOS_LOGGER and record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_task_finished_is_sent_once_at_the_very_end(bench: Bench) -> None:
    """Not when another attempt follows."""
    with signals() as heard:
        result: Any = misfits.attempts.using(max_attempts=2).enqueue(2)
        bench.finished(result)
        bench.tried_again(result)
    assert [name for name, *_ in heard] == ["enqueued", "started", "started", "finished"]


def test_the_end_is_in_the_database_when_it_is_told(bench: Bench) -> None:
    """A receiver that reads the result back finds what it was told."""
    found = []

    def hear(task_result: Any, **_: Any) -> None:
        found.append((task_backends["default"].get_result(task_result.id), task_result))

    task_finished.connect(hear)
    try:
        tasks.add.enqueue(1, 2)
        tasks.fail.enqueue("told")
        bench.work()
    finally:
        task_finished.disconnect(hear)
    for stored, told in found:
        assert (stored.status, stored.errors, stored.worker_ids) == (told.status, told.errors, told.worker_ids)
    assert found[0][0].return_value == found[0][1].return_value == 3


@pytest.mark.parametrize(
    ("signal", "error"),
    [(task_started, RuntimeError), (task_finished, RuntimeError), (task_finished, SystemExit)],
    ids=["started", "finished", "leaves"],
)
def test_a_receiver_that_raises_harms_nobody(bench: Bench, signal: Any, error: type[BaseException]) -> None:
    """The job ends as its function did, and the worker goes on."""

    def trouble(**_: Any) -> None:
        raise error("a receiver in trouble")

    signal.connect(trouble)
    try:
        good, bad = tasks.add.enqueue(1, 2), tasks.fail.enqueue("x")
        bench.work()
    finally:
        signal.disconnect(trouble)
    good.refresh()
    bad.refresh()
    assert (good.status, bad.status) == (SUCCESSFUL, FAILED)
    assert bad.errors[0].exception_class is ValueError


def test_jobs_run_in_the_order_of_their_priority(bench: Bench) -> None:
    """The most urgent first, then the oldest."""
    results = [tasks.noop.using(priority=priority).enqueue() for priority in (0, -100, 100, 0)]
    ids = [int(result.id) for result in results]
    assert bench.work() == [ids[2], ids[0], ids[3], ids[1]]


def test_a_job_may_enqueue_another(bench: Bench) -> None:
    """Over the worker's own connection."""
    outer = bench.finished(misfits.enqueue_another.enqueue())
    inner = misfits.plain.get_result(outer.return_value)
    assert bench.finished(inner).return_value == 2


def test_p6_a_zombies_result_is_refused_and_the_heirs_counts(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A run that was silent for too long finishes its job for nothing; task_finished is not sent for it."""
    result = tasks.add.enqueue(1, 2)
    [pk] = bench.claim()
    bench.runner.load([pk])
    heir = begin(bench.store)
    silent_for(bench.store, bench.run, 31)
    runs.recover(bench.store, heir, "")
    bench.store.claim(heir, None, 1)
    with signals() as heard:
        bench.runner.run(pk)
        bench.runner.tidy()
        bench.runner.flush()
    assert "late result refused" in caplog.text
    assert "finished" not in [name for name, *_ in heard]
    result.refresh()
    assert (result.status, len(result.errors)) == (READY, 1)


def test_a_backend_that_is_gone_fails_its_jobs_and_not_the_worker(routed: str) -> None:
    """A job of an alias that TASKS no longer has is told as failed; the next one runs."""
    from tests.db.bench import Bench

    store = Store(routed)
    [orphan] = [store.enqueue(_row_of("gone"))[0]]
    [following] = put(store)
    with override_settings(TASKS={"default": {"BACKEND": JOBSUP}}):
        Bench(routed).work()
    assert row(store, orphan).status == Status.FAILED
    assert row(store, following).status == Status.SUCCESSFUL


def _row_of(backend: str) -> Any:
    from tests.db.rows import new_row

    return new_row()._replace(backend=backend)


def test_effects_of_jobs_stay(bench: Bench) -> None:
    """A job's own writes are committed as it makes them, outside of any transaction of ours."""
    result = bench.finished(tasks.effect.enqueue())
    assert list(Effect.objects.values_list("job", "attempt")) == [(int(result.id), 1)]
