"""Cancelling in the database: at once what waits, for certain what runs, and never what has ended or rolls back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.utils import timezone

from jobsup import runs
from jobsup.compat import TaskResultStatus, task_backends, task_finished
from jobsup.models import Job, Status
from jobsup.store import LostAttempt, Store
from tests.db.rows import (
    WORKER,
    at_once,
    begin,
    claimed,
    failure,
    failures_of,
    loss,
    put,
    row,
    statements_of,
    success,
)
from tests.support import eventually
from tests.testapp import limits, tasks

if TYPE_CHECKING:
    from tests.db.bench import Bench
    from tests.db.rows import Session

CANCELLED = "jobsup.errors.JobCancelled"
LOST = "jobsup.errors.WorkerLost"


def status(store: Store, pk: int) -> Status:
    """Return where a job is in its life."""
    return Status(row(store, pk).status)


# -- what waits -------------------------------------------------------------------------------------------------------


def test_what_nobody_has_is_cancelled_at_once_and_never_claimed(store: Store) -> None:
    """READY and SCHEDULED ones, also after their time; those beside them are not touched."""
    ready, other = put(store, 2)
    [later] = put(store, run_after=store.sql.now() + timedelta(hours=1))
    assert store.cancel([ready, later]) == {ready: Status.CANCELLED, later: Status.CANCELLED}
    for pk in (ready, later):
        job = row(store, pk)
        assert (job.status, job.attempt, job.worker) == (Status.CANCELLED, 0, "")
        assert job.finished_at == job.cancel_asked_at is not None
    Job.objects.using(store.alias).filter(pk=later).update(run_after=store.sql.now() - timedelta(hours=1))
    assert store.sql.promote() == 0
    assert store.claim(begin(store), None, 10) == [other]


def test_what_is_cancelled_is_shown_as_failed_with_an_error_that_says_so(bench: Bench) -> None:
    """Never attempted; and cancelled for good."""
    result = tasks.noop.enqueue()
    assert result.cancel() is True
    bench.work()
    result.refresh()
    assert (result.status, result.attempts, result.started_at) == (TaskResultStatus.FAILED, 0, None)
    assert result.is_finished
    [error] = result.errors
    assert (error.exception_class_path, error.traceback) == (CANCELLED, "the job was cancelled while it waited")
    assert error.exception_class.__name__ == "JobCancelled"
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018  # it raises
    assert result.cancel() is True, "it still is"


def test_what_has_ended_is_left_alone(bench: Bench) -> None:
    """False, and nothing in the row changes."""
    good, bad = bench.finished(tasks.add.enqueue(1, 2)), bench.finished(tasks.fail.enqueue("no"))
    before = list(Job.objects.using(bench.alias).order_by("pk").values())
    assert (good.cancel(), bad.cancel()) == (False, False)
    assert list(Job.objects.using(bench.alias).order_by("pk").values()) == before
    good.refresh()
    assert good.return_value == 3


def test_an_id_that_no_job_has_is_no_trouble(bench: Bench) -> None:
    """Nor is one that cannot be one."""
    result = tasks.noop.enqueue()
    backend: Any = task_backends["default"]
    assert backend.cancel([result.id, "999999", "x", "-1", str(2**63), " 1"]) == [result.id]
    assert backend.cancel([]) == []
    Job.objects.using(bench.alias).all().delete()
    assert result.cancel() is False


def test_asynchronous_code_cancels_too(bench: Bench) -> None:
    """`await result.acancel()`."""
    result = tasks.noop.enqueue()
    assert asyncio.iscoroutinefunction(result.acancel)
    assert async_to_sync(result.acancel)() is True
    assert status(bench.store, int(result.id)) is Status.CANCELLED


def test_a_cancellation_belongs_to_its_transaction(routed: str, session: Session) -> None:
    """Nobody else sees it before the commit, and after a rollback it never was."""
    store = Store(routed)
    waiting, running = tasks.noop.enqueue(), tasks.noop.enqueue()
    run = begin(store)
    Job.objects.using(routed).filter(pk=int(running.id)).update(status=Status.RUNNING, claimed_by=run, attempt=1)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=routed):  # noqa: PT012  # all of it is needed
        assert waiting.cancel()
        assert running.cancel()
        assert status(store, int(waiting.id)) is Status.CANCELLED
        assert session(lambda: store.statuses([int(waiting.id)])) == {int(waiting.id): Status.READY}
        1 / 0  # noqa: B018  # so that it rolls back
    assert (status(store, int(waiting.id)), store.cancel_asked(run)) == (Status.READY, [])
    assert row(store, int(running.id)).cancel_asked_at is None
    with transaction.atomic(using=routed):
        assert waiting.cancel()
    assert status(store, int(waiting.id)) is Status.CANCELLED


# -- what runs --------------------------------------------------------------------------------------------------------


def test_what_a_supervisor_has_is_marked_for_it_alone(store: Store) -> None:
    """Once: the time of the first asking stands; a run hears of its own jobs only."""
    run, other = begin(store), begin(store)
    pk = claimed(store, run)
    claimed(store, other)
    assert store.cancel([pk]) == {pk: Status.RUNNING}
    asked_at = row(store, pk).cancel_asked_at
    assert asked_at is not None
    assert store.cancel([pk]) == {pk: Status.RUNNING}
    assert row(store, pk).cancel_asked_at == asked_at
    assert (row(store, pk).finished_at, store.cancel_asked(run), store.cancel_asked(other)) == (None, [pk], [])


def test_one_that_was_claimed_and_given_back_is_cancelled(store: Store) -> None:
    """Not READY again; no attempt is counted; its neighbour goes back to the queue."""
    run = begin(store)
    gone, back = claimed(store, run), claimed(store, run)
    store.cancel([gone])
    store.release(run, [gone, back])
    assert (status(store, gone), row(store, gone).attempt, row(store, gone).claimed_by) == (Status.CANCELLED, 0, None)
    assert row(store, gone).finished_at == row(store, gone).cancel_asked_at
    assert (status(store, back), row(store, back).finished_at) == (Status.READY, None)
    assert store.claim(run, None, 10) == [back]


def test_one_that_was_lost_is_cancelled_and_not_tried_again(store: Store) -> None:
    """However its worker ended, and whoever accounts for it; the account is kept."""
    run = begin(store)
    killed, stopped, limited = (claimed(store, run, max_attempts=5) for _ in range(3))
    store.cancel([killed, stopped, limited])
    by_limit = LostAttempt(limited, WORKER, "too slow", 1.0, False, "jobsup.errors.JobTimeout", True)  # noqa: FBT003
    accounts = store.lost(run, [loss(killed), loss(stopped, at_once=True), by_limit])
    assert [account.status for account in accounts] == [Status.CANCELLED] * 3
    for pk, kind in ((killed, LOST), (stopped, LOST), (limited, "jobsup.errors.JobTimeout")):
        assert (status(store, pk), row(store, pk).finished_at is not None) == (Status.CANCELLED, True)
        assert [failed.exception_class_path for failed in failures_of(store, pk)] == [kind]


def test_one_whose_supervisor_ended_is_cancelled_by_the_next(store: Store) -> None:
    """At the recovery: it would have gone back to the queue."""
    run = begin(store, runfile="same")
    asked, other = claimed(store, run, max_attempts=5), claimed(store, run, max_attempts=5)
    store.cancel([asked])
    runs.recover(store, begin(store, runfile="same"), "same")
    assert (status(store, asked), status(store, other)) == (Status.CANCELLED, Status.READY)


def test_one_that_failed_is_not_tried_again_and_one_that_succeeded_has(store: Store) -> None:
    """It was asked for while they ran: the second attempt is never made; what was done is not denied."""
    run = begin(store)
    failed, final, done = (claimed(store, run, max_attempts=5) for _ in range(3))
    store.cancel([failed, final, done])
    outcomes = [failure(failed, retry_in_s=1), failure(final), success(done)]
    assert store.finish(run, outcomes) == {failed, final, done}
    assert [status(store, pk) for pk in (failed, final, done)] == [Status.CANCELLED, Status.FAILED, Status.SUCCESSFUL]
    assert row(store, failed).finished_at is not None
    assert store.finish(run, outcomes) == {failed, final, done}, "said twice: the answer to the first was lost"
    assert store.sql.promote() == 0


def test_one_that_fails_by_itself_after_it_was_cancelled_has_no_next_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends with its own error, its receivers are told, and the log promises nothing."""
    told: list[tuple[str, str]] = []

    def receive(task_result: Any, **_: Any) -> None:
        told.append((task_result.id, task_result.status.name))

    result = tasks.fail.using(max_attempts=3).enqueue("no")
    pks = bench.claim()
    bench.runner.load(pks)
    assert result.cancel()
    monkeypatch.setattr(bench.runner._interrupts, "_asked", lambda: True)
    task_finished.connect(receive)
    try:
        bench.runner.run(pks[0])
        bench.runner.tidy()
        assert bench.runner.flush() == ""
    finally:
        task_finished.disconnect(receive)
    result.refresh()
    assert status(bench.store, pks[0]) is Status.CANCELLED
    assert told == [(result.id, "FAILED")]
    assert "next attempt" not in caplog.text


def test_one_that_was_cancelled_after_it_had_run_does_not_say_that_it_waited(bench: Bench) -> None:
    """Its account comes first, the cancellation after that."""
    result = tasks.noop.using(max_attempts=5).enqueue()
    [pk] = bench.claim()
    assert result.cancel()
    bench.store.lost(bench.run, [loss(pk)])
    result.refresh()
    first, second = result.errors
    assert (first.exception_class_path, second.exception_class_path) == (LOST, CANCELLED)
    assert second.traceback == "the job was cancelled after that"


def test_between_two_attempts_it_is_cancelled_at_once(bench: Bench) -> None:
    """The failure of the first is still told."""
    result = bench.finished(tasks.fail_once.using(max_attempts=3).enqueue())
    assert result.status is TaskResultStatus.READY
    assert result.cancel()
    result.refresh()
    assert [error.exception_class_path for error in result.errors] == ["builtins.ValueError", CANCELLED]
    Job.objects.using(bench.alias).update(run_after=timezone.now() - timedelta(hours=1))
    assert (bench.store.sql.promote(), bench.claim()) == (0, [])


def test_what_was_cancelled_before_its_worker_loaded_it_never_begins(bench: Bench) -> None:
    """The others of the same hand do."""
    first, gone, last = tasks.effect.enqueue(), tasks.effect.enqueue(), tasks.add.enqueue(1, 2)
    pks = bench.claim()
    assert gone.cancel()
    bench.play(pks)
    for result in (first, gone, last):
        result.refresh()
    assert [result.status.name for result in (first, gone, last)] == ["SUCCESSFUL", "FAILED", "SUCCESSFUL"]
    assert status(bench.store, int(gone.id)) is Status.CANCELLED
    [error] = gone.errors
    assert error.exception_class_path == CANCELLED
    assert "the job was cancelled before it began" in error.traceback


def test_a_job_that_was_told_and_returned_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value is not kept; one that never asked keeps its success."""
    told, deaf = limits.watch_out.enqueue(), tasks.add.enqueue(1, 2)
    monkeypatch.setattr(bench.runner._interrupts, "_asked", lambda: True)
    bench.work()
    told.refresh()
    deaf.refresh()
    assert (status(bench.store, int(told.id)), told.errors[0].exception_class_path) == (Status.CANCELLED, CANCELLED)
    assert deaf.return_value == 3


def test_many_who_cancel_claim_and_finish_at_once_agree_in_the_end(store: Store) -> None:
    """Each job is cancelled or done, never both, and no cancellation of one that waits is without effect."""
    run = begin(store)
    pks = put(store, 40)
    said: dict[int, Status] = {}

    def work() -> None:
        while mine := store.claim(run, None, 5):
            store.finish(run, [success(pk) for pk in mine])

    def cancel() -> None:
        for pk in reversed(pks):
            said.update(store.cancel([pk]))

    at_once([work, cancel])
    for pk in pks:
        final = status(store, pk)
        assert final in (Status.SUCCESSFUL, Status.CANCELLED)
        assert (said[pk] is Status.CANCELLED) == (final is Status.CANCELLED)


def test_only_what_runs_wakes_a_supervisor(postgresql: str) -> None:
    """One NOTIFY with the word, at the commit; none for those that wait, and none where that is switched off."""
    store = Store(postgresql)
    run = begin(store)
    running, [waiting] = claimed(store, run), put(store)

    def notified(store: Store, pk: int) -> list[str]:
        with statements_of(postgresql) as statements:
            store.cancel([pk])
        return [statement for statement in statements if "pg_notify('jobsup'," in statement]

    assert notified(store, waiting) == []
    [statement] = notified(store, running)
    assert "'cancel'" in statement
    assert notified(Store(postgresql, notify=False), running) == []


def test_a_supervisor_that_listens_hears_of_a_cancellation(postgresql: str, session: Session) -> None:
    """An enqueue is no cancellation; what was missed while nobody listened counts as heard."""
    listener = Store(postgresql)
    pk = claimed(listener, begin(listener))

    def heard() -> bool:
        listener.sql.changed()
        return listener.sql.cancel_heard()

    listener.sql.attend(listen=True)
    try:
        assert heard()
        assert not heard()
        session(lambda: put(Store(postgresql)))
        assert not heard()
        session(lambda: Store(postgresql).cancel([pk]))
        eventually(heard, what="the word that a job was cancelled")
        assert not heard()
    finally:
        connections[postgresql].close()


# -- the command ------------------------------------------------------------------------------------------------------


def command(*args: Any) -> str:
    """Return what the command says."""
    output = StringIO()
    call_command("jobs", *args, stdout=output)
    return output.getvalue()


def test_the_command_says_what_became_of_each(routed: str) -> None:
    """In words, or as JSON."""
    store = Store(routed)
    run = begin(store)
    running, [waiting] = claimed(store, run), put(store)
    assert command("cancel", str(waiting), str(running)) == (
        f"job {waiting}: cancelled\njob {running}: is running and will be ended\n"
    )
    assert command("cancel", "--json", str(running)) == f'{{"{running}": "running"}}\n'
    store.finish(run, [success(running)])
    assert command("cancel", "--wait", str(running)) == f"job {running}: had ended before: successful\n"


@pytest.mark.parametrize("pk", ["999999", str(2**63), "0", "-5"])
def test_the_command_fails_for_a_job_that_is_not_there(routed: str, pk: str) -> None:
    """After it has done the rest; a number that no id can be is none either."""
    store = Store(routed)
    [waiting] = put(store)
    with pytest.raises(CommandError, match=rf"^there is no job {pk}$"):
        command("cancel", str(waiting), pk, "--wait")
    assert status(store, waiting) is Status.CANCELLED
