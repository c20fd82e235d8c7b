"""Waiting for a job without a supervisor: who is told, who has to look, and what cannot be waited for."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction

from jobsup.models import Job
from jobsup.store import Store
from jobsup.waiting import wait
from tests.db.rows import begin, claimed, failure, put, row, statements_of, success
from tests.support import eventually
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.db.bench import Bench
    from tests.db.rows import Session


def awaited(store: Store, pk: int) -> bool:
    """Tell whether somebody waits for a job."""
    return Job.objects.using(store.alias).get(pk=pk).awaited


def test_h_the_end_of_a_job_ends_the_wait(store: Store, session: Session) -> None:
    """Its success, its failure and its cancellation, each with its words."""
    run = begin(store)
    good, bad, unwanted = claimed(store, run), claimed(store, run), put(store)[0]
    ends: list[Any] = [
        (good, lambda: store.finish(run, [success(good)]), (True, None)),
        (bad, lambda: store.finish(run, [failure(bad, words="ValueError: no")]), (False, "ValueError: no")),
        (unwanted, lambda: store.cancel([unwanted]), (False, "the job was cancelled")),
    ]
    for pk, end, told in ends:
        waiting = session.begin(partial(wait, Store(store.alias), pk, "finished", 60))
        eventually(partial(awaited, store, pk), 30, "the wait")
        end()
        assert waiting.result(30) == told


def test_h_on_postgresql_a_wait_is_notified(postgresql: str, session: Session) -> None:
    """Nobody looks before the end is there, and jobs that nobody waits for notify nobody."""
    store = Store(postgresql)
    run = begin(store)
    pk, other = claimed(store, run), claimed(store, run)

    def watched() -> tuple[Any, list[str]]:
        with statements_of(postgresql) as statements:
            return wait(Store(postgresql), pk, "finished", 60), statements

    waiting = session.begin(watched)
    eventually(lambda: awaited(store, pk), 30, "the wait")
    store.finish(run, [success(other)])
    store.finish(run, [success(pk)])
    waited, statements = waiting.result(30)
    assert waited
    assert [statement for statement in statements if "LISTEN" in statement] == [
        "LISTEN jobsup_done",
        "UNLISTEN jobsup_done",
    ]
    assert not awaited(store, other)


def test_h_without_notify_a_wait_looks(postgresql: str, session: Session) -> None:
    """Behind a pooler a LISTEN would only be left on somebody else's session; so nobody notifies, either."""
    store = Store(postgresql)
    run = begin(store)
    pk = claimed(store, run)

    def watched() -> tuple[list[Any], list[str]]:
        waits = partial(wait, Store(postgresql, notify=False), pk, "finished")
        with statements_of(postgresql) as statements:
            first = waits(0.1)
            store.finish(run, [success(pk)])
            return [first, waits(60)], statements

    waited, statements = session(watched)
    assert [bool(each) for each in waited] == [False, True]
    assert not [statement for statement in statements if "LISTEN" in statement]
    assert not awaited(store, pk)


def test_h_a_wait_in_another_thread_does_not_look_more_often(postgresql: str) -> None:
    """It only has to notice when nobody wants it any more."""
    store = Store(postgresql)
    [pk] = put(store)
    with statements_of(postgresql) as statements:
        assert not wait(store, pk, "finished", 0.7, threading.Event())
    assert len([statement for statement in statements if "jobsup_job WHERE id" in statement]) <= 4
    gone = threading.Event()
    gone.set()
    assert wait(store, pk, "finished", None, gone) == (False, "nobody waits any more")


def test_h_what_a_job_failed_of_is_its_error_and_not_a_note_below_it(store: Store) -> None:
    """Nor the last line of a long message."""
    run = begin(store)
    pk = claimed(store, run)
    words = "Traceback (most recent call last):\n  ValueError\nValueError: no\nDETAIL: none\nspeak wrote:\nword"
    store.finish(run, [failure(pk, words=words)])
    assert wait(store, pk, "finished", 60) == (False, "ValueError: no")


def test_h_a_server_that_goes_away_is_told_as_django_tells_it(postgresql: str, session: Session) -> None:
    """So the connection is known to be broken, and the next request gets a new one."""
    store = Store(postgresql)
    [pk] = put(store)
    pid = session(lambda: store.sql.rows("SELECT pg_backend_pid()")[0][0])
    waiting = session.begin(partial(wait, Store(postgresql), pk, "finished", 60))
    eventually(partial(awaited, store, pk), 30, "the wait")
    store.sql.rows("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(OperationalError):
        waiting.result(30)
    assert session(lambda: connections[postgresql].errors_occurred)


def test_h_a_long_run_is_told_when_it_is_written_down(store: Store, session: Session) -> None:
    """Until then nobody but its supervisor knows that it was begun."""
    run = begin(store)
    pk = claimed(store, run)
    waiting = session.begin(lambda: wait(Store(store.alias), pk, "started", 60))
    eventually(lambda: awaited(store, pk), 30, "the wait")
    store.mark_running(run, pk, "node:worker 1:1", 0.5)
    assert waiting.result(30) == (True, None)


def test_h_a_job_says_that_it_has_begun_well(store: Store, session: Session) -> None:
    """Of this attempt only: what an earlier one says late is not believed."""
    run = begin(store)
    pk = claimed(store, run)
    begun = row(store, pk)._replace(worker="node:worker 1:1")
    waiting = session.begin(lambda: wait(Store(store.alias), pk, "ready", 60))
    eventually(lambda: awaited(store, pk), 30, "the wait")
    store.note_ready(begun._replace(attempt=7), "somebody else")
    store.note_ready(begun, "all is well")
    assert waiting.result(30) == (True, None)
    assert row(store, pk).ready_message == "all is well"


def test_h_what_an_attempt_said_is_not_said_of_the_next_one(store: Store) -> None:
    """It began well and failed: whether the next one does nobody knows yet."""
    run = begin(store)
    pk = claimed(store, run, max_attempts=2)
    store.note_ready(row(store, pk)._replace(worker="node:worker 1:1"), "all is well")
    assert wait(store, pk, "ready", 0)
    store.finish(run, [failure(pk, retry_in_s=600)])
    assert not wait(store, pk, "ready", 0)


def test_h_a_wait_is_over_in_time(store: Store) -> None:
    """It says what the job is about; what failed and is tried again is told, too."""
    run = begin(store)
    running, ready = claimed(store, run), put(store)[0]
    assert wait(store, running, "finished", 0.1) == (False, "not finished after 0.1 s: the job is running")
    assert wait(store, ready, "ready", 0) == (False, "not ready after 0 s: the job is ready")


def test_h_a_failed_attempt_that_is_followed_by_another_one_is_told(store: Store) -> None:
    """The wait goes on, and says at its end what it was about."""
    run = begin(store)
    pk = claimed(store, run, max_attempts=2)
    store.finish(run, [failure(pk, retry_in_s=600, words="OSError: no route")])
    told = "not finished after 0.1 s: attempt 1 failed (OSError: no route) and another one follows"
    assert wait(store, pk, "finished", 0.1) == (False, told)


def test_h_in_the_transaction_that_enqueued_it_nobody_can_wait(store: Store) -> None:
    """No worker sees it before the commit; what is over already can be asked for."""
    run = begin(store)
    done = claimed(store, run)
    store.finish(run, [success(done)])
    with transaction.atomic(using=store.alias):
        [pk] = put(store)
        assert wait(store, done, "finished", 1)
        with pytest.raises(transaction.TransactionManagementError, match=rf"job {pk} cannot be waited for within atom"):
            wait(store, pk, "finished", 1)


def test_h_without_autocommit_nobody_can_wait(store: Store) -> None:
    """What is not committed is seen by no worker, and would keep the end of the job from being written."""
    pk = claimed(store, begin(store))
    connection = connections[store.alias]
    connection.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError, match=f"job {pk} cannot be waited for"):
            wait(store, pk, "finished", 1)
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def test_h_a_job_that_is_gone_is_not_waited_for(store: Store) -> None:
    """It was deleted, or there never was one."""
    assert wait(store, 123456, "finished", 60) == (False, "the job does not exist any more")


def test_h_a_result_is_refreshed_by_the_wait(bench: Bench) -> None:
    """It shows what the job came to."""
    result: Any = tasks.add.enqueue(2, 3)
    assert result.wait(timeout=0) == (False, "not finished after 0 s: the job is ready")
    bench.store.cancel([int(result.id)])
    assert result.wait(timeout=60) == (False, "the job was cancelled")
    assert result.status == "FAILED"


def test_h_nothing_is_listened_to_after_a_wait(postgresql: str) -> None:
    """The connection is the caller's own, and goes on to be used."""
    store = Store(postgresql)
    [pk] = put(store)
    wait(store, pk, "finished", 0.05)
    with connections[postgresql].cursor() as cursor:
        cursor.execute("SELECT pg_listening_channels()")
        assert cursor.fetchall() == []
