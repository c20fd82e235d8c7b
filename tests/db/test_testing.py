"""`jobsup.testing` runs jobs in the test's process and transaction, as workers would have run them."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from jobsup.compat import TASKS_APPS, TaskResultStatus, task_finished, task_started
from jobsup.models import Job, Status
from jobsup.queue_control import pause
from jobsup.store import Store
from jobsup.testing import immediate, run_pending
from tests.db import chores
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESSFUL, FAILED, READY = TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED, TaskResultStatus.READY


@pytest.fixture(params=["transaction", "autocommit"])
def place(request: pytest.FixtureRequest, routed: str) -> Iterator[str]:
    """The alias, within the transaction of a TestCase and without one."""
    with transaction.atomic(using=routed) if request.param == "transaction" else nullcontext():
        before = connections[routed].connection
        yield routed
        assert connections[routed].connection is before, "the caller's own connection stays"
        if request.param == "transaction":
            assert connections[routed].in_atomic_block
            transaction.set_rollback(True, using=routed)


def test_runs_what_is_due_and_what_that_enqueues(place: str) -> None:
    """In the order of priority and age; every field of each result is true."""
    deep = chores.pass_on.enqueue(2)
    sent = chores.mail.enqueue("ann", copies=2)
    later = chores.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)

    results = run_pending()

    assert [result.id for result in results[:2]] == [sent.id, deep.id]
    assert [result.return_value for result in results] == ["2 to ann", 2, 1, 0]
    [first, *_] = results
    assert (first.status, first.attempts, len(first.worker_ids), first.errors) == (SUCCESSFUL, 1, 1, [])
    assert first.enqueued_at
    assert first.started_at
    assert first.finished_at
    assert first.enqueued_at <= first.started_at <= first.finished_at
    later.refresh()
    assert later.status is READY
    assert run_pending() == []


def test_runs_a_coroutine_on_the_same_connection(place: str) -> None:
    """What it wrote is seen in the transaction of the test; its event loop is gone when it has ended."""
    before = {*threading.enumerate()}
    chores.aadd.enqueue(2, 3)
    assert [result.return_value for result in run_pending()] == [5]
    assert {*threading.enumerate()} <= before
    assert Effect.objects.get().attempt == 5


def test_a_failure_is_the_jobs_own(place: str) -> None:
    """It is in its result, and the next job runs; `raise_errors` raises it as it was."""
    bad, good = chores.fail.enqueue("no"), chores.add.enqueue(1, 2)
    failed, successful = run_pending()
    assert (failed.id, failed.status) == (bad.id, FAILED)
    assert failed.errors[0].exception_class is LookupError
    assert "raise LookupError(message)" in failed.errors[0].traceback
    assert "attempt.py" not in failed.errors[0].traceback
    assert (successful.id, successful.return_value) == (good.id, 3)

    worse = chores.fail.enqueue("raised")
    with pytest.raises(LookupError, match="raised"):
        run_pending(raise_errors=True)
    worse.refresh()
    assert worse.status is FAILED


def test_a_job_that_is_tried_again_is_scheduled_and_comes_with_advance(place: str) -> None:
    """Each attempt is counted, as far as the time is advanced, and no clock has to be stopped for it."""
    chores.third_time.enqueue()
    [result] = run_pending()
    assert (result.status, result.attempts, len(result.errors)) == (READY, 1, 1)
    assert run_pending() == []

    [result] = run_pending(advance=timedelta(seconds=30), limit=1)
    assert (result.status, len(result.errors)) == (READY, 2)
    [result] = run_pending(advance=True)
    assert (result.status, result.return_value, len(result.errors)) == (SUCCESSFUL, 3, 2)
    assert len(result.worker_ids) == 3


def test_scheduled_jobs_come_in_the_order_of_their_times(place: str) -> None:
    """And not beyond the moment that is given, nor those of other queues."""
    now = timezone.now()
    for hours in (3, 1, 2):
        chores.add.using(run_after=now + timedelta(hours=hours)).enqueue(hours, 0)
    chores.mail.using(run_after=now + timedelta(hours=1)).enqueue("ann")
    two_hours = run_pending(queue="default", advance=now + timedelta(hours=2))
    assert [result.return_value for result in two_hours] == [1, 2]
    assert [result.return_value for result in run_pending(queue=["other", "default"], advance=True)] == ["1 to ann", 3]
    with pytest.raises(ValueError, match="needs a time zone"):
        run_pending(advance=datetime(2100, 1, 1))  # noqa: DTZ001  # that is the mistake


def test_only_the_queue_and_as_many_as_asked_for(place: str) -> None:
    """The others stay as they are."""
    chores.add.enqueue(1, 2)
    chores.mail.enqueue("ann")
    chores.mail.enqueue("ben")
    assert [result.return_value for result in run_pending(queue="other", limit=1)] == ["1 to ann"]
    assert Job.objects.filter(status=Status.READY).count() == 2


def test_a_paused_queue_is_left_alone(place: str) -> None:
    """Also by `advance`, which brings its jobs no further than to be ready."""
    pause(Store(), ["other"])
    chores.mail.enqueue("ann")
    chores.mail.using(run_after=timezone.now() + timedelta(hours=1)).enqueue("ben")
    chores.add.enqueue(1, 2)
    assert [result.return_value for result in run_pending(advance=True)] == [3]


def test_a_job_that_enqueues_itself_for_ever_is_told(routed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a limit says how often; no job is left claimed."""
    monkeypatch.setattr("jobsup.testing.pending.ATTEMPTS_MAX", 5)
    with transaction.atomic(using=routed):
        chores.again.enqueue()
        with pytest.raises(RuntimeError, match="does a job enqueue itself"):
            run_pending()
        assert len(run_pending(limit=3)) == 3
        assert not Job.objects.filter(status=Status.RUNNING).exists()


@pytest.mark.parametrize("caught", [True, False], ids=["caught", "raised"])
def test_the_transaction_survives_a_jobs_database_error(place: str, *, caught: bool) -> None:
    """Whether the job knows of the error or not, the jobs before and after it are recorded."""
    chores.add.enqueue(1, 2)
    broken = chores.break_down.enqueue(caught=caught)
    chores.add.enqueue(3, 4)
    statuses = [(result.id == broken.id, result.status) for result in run_pending()]
    assert statuses == [(False, SUCCESSFUL), (True, SUCCESSFUL if caught else FAILED), (False, SUCCESSFUL)]


def test_what_a_job_rolled_back_is_gone(place: str) -> None:
    """A block without a savepoint marks the whole transaction, which is the test's own."""
    chores.roll_back.enqueue()
    assert [result.status for result in run_pending()] == [FAILED]
    assert not Effect.objects.exists()


def test_on_commit_of_a_job_happens_when_it_has_ended(place: str) -> None:
    """As in a worker, though the transaction of the test goes on; what the test itself registered is left alone."""
    early: list[str] = []
    with transaction.atomic(using=place):
        transaction.on_commit(lambda: early.append("the test's"), using=place)
        chores.after_commit.enqueue()
        results = run_pending()
        assert early == []
    assert [result.return_value for result in results] == [None, 2]


def test_signals_are_sent_as_in_a_worker(place: str) -> None:
    """Both, from the backend's class, with the job's exception at hand at the end."""
    heard: list[Any] = []

    def hear(sender: type, task_result: Any, signal: Any, **_kwargs: Any) -> None:
        heard.append((signal is task_started, sender.__name__, task_result.status))

    for signal_ in (task_started, task_finished):
        signal_.connect(hear)
    try:
        chores.fail.enqueue("no")
        run_pending()
    finally:
        for signal_ in (task_started, task_finished):
            signal_.disconnect(hear)
    assert heard == [(True, "JobsupBackend", TaskResultStatus.RUNNING), (False, "JobsupBackend", FAILED)]


def test_what_a_job_says_itself_is_heeded_and_no_error(place: str) -> None:
    """That it has begun well, and how it goes on: nothing of that is raised, whatever is asked for."""
    chores.ask_back.enqueue()
    for status, errors in ((READY, 0), (READY, 1), (SUCCESSFUL, 1)):
        [result] = run_pending(advance=timedelta(minutes=2), limit=1, raise_errors=True)
        assert (result.status, len(result.errors), result.ready_message) == (status, errors, "begun")


def test_a_ctrl_c_is_for_the_test_run(place: str) -> None:
    """It is recorded as the job's failure and goes on; handlers of signals are the caller's own all the while."""
    before = signal.getsignal(signal.SIGINT)
    result = chores.give_up.enqueue()
    with pytest.raises(KeyboardInterrupt):
        run_pending()
    result.refresh()
    assert result.status is FAILED
    assert signal.getsignal(signal.SIGINT) is before


def test_immediate_runs_each_job_in_the_call_that_enqueues_it(place: str) -> None:
    """Its result can be read at once, also of jobs that jobs enqueue; outside of the block nothing runs."""
    with immediate() as ran:
        result = chores.add.enqueue(1, 2)
        assert (result.status, result.return_value) == (SUCCESSFUL, 3)
        failed = chores.fail.enqueue("no")
        assert (failed.status, failed.errors[0].exception_class) == (FAILED, LookupError)
        chores.pass_on.enqueue(1)
        chores.add.enqueue_many([(2, 2), (3, 3)])
    assert [each.return_value for each in ran if each.status is SUCCESSFUL] == [3, 0, 1, 4, 6]
    assert chores.add.enqueue(1, 2).status is READY
    assert [result.return_value for result in run_pending()] == [3]


def test_immediate_leaves_what_is_not_due(place: str) -> None:
    """For later and for another attempt: both come with `advance`."""
    with immediate() as ran:
        later = chores.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)
        tried = chores.third_time.enqueue()
    assert (later.status, later.attempts, tried.status, tried.attempts) == (READY, 0, READY, 1)
    assert [each.id for each in ran] == [tried.id]
    assert {result.status for result in run_pending(advance=True)} == {SUCCESSFUL}


def test_immediate_as_a_decorator_with_the_jobs_errors(place: str) -> None:
    """`raise_errors` raises them from the enqueue, once they are recorded."""

    @immediate(raise_errors=True)
    def view() -> None:
        chores.fail.enqueue("no")

    with pytest.raises(LookupError, match="no"):
        view()
    assert Job.objects.get().status == Status.FAILED


def test_immediate_from_a_coroutine(routed: str) -> None:
    """`aenqueue` runs the job, too."""

    async def view() -> Any:
        return await chores.aadd.aenqueue(1, 2)

    with immediate():
        assert async_to_sync(view)().return_value == 3


def test_without_jobsup_in_tasks_there_is_nothing_to_test() -> None:
    """One sentence says so."""
    backend = "django_tasks.backends.dummy.DummyBackend" if TASKS_APPS else "django.tasks.backends.dummy.DummyBackend"
    with (
        override_settings(TASKS={"default": {"BACKEND": backend}}),
        pytest.raises(ImproperlyConfigured, match="no backend in TASKS is jobsup's"),
    ):
        run_pending()
