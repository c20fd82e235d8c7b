"""Enqueueing: one INSERT in the caller's transaction; the wake-up comes with the commit."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import IntegrityError, connections, transaction

from jobsup.models import Job, Status
from jobsup.store import Store
from tests.db.rows import begin, new_row, put, row, statements_of
from tests.support import eventually

if TYPE_CHECKING:
    from tests.db.rows import Session


def listen(store: Store) -> None:
    """Have the session be told of new work."""
    store.sql.connection.ensure_connection()
    assert store.sql.attend(listen=True) is not None


def awakened(store: Store) -> bool:
    """Tell whether a notification is there; the answer to any statement brings those that were sent before it."""
    store.sql.now()
    return store.sql.changed()


def test_enqueue_is_one_statement(store: Store) -> None:
    """No round trip besides the INSERT, whatever it wakes."""
    with statements_of(store.alias) as statements:
        put(store)
    assert len(statements) == 1, statements


def test_d7_a_job_is_seen_at_the_commit(store: Store, session: Session) -> None:
    """Others see the job when the caller's transaction commits, not before."""
    with transaction.atomic(using=store.alias):
        [pk] = put(store)
        assert session(lambda: store.sql.load([pk])) == []
    assert session(lambda: row(store, pk)).status == Status.READY


def test_d7_a_rolled_back_job_never_was(store: Store) -> None:
    """The job goes with the caller's transaction."""
    with transaction.atomic(using=store.alias):
        put(store)
        transaction.set_rollback(True, using=store.alias)
    assert not Job.objects.using(store.alias).exists()


def test_d7_a_savepoint_takes_only_its_own_jobs_along(store: Store) -> None:
    """A rolled back inner block leaves the jobs of the outer one."""
    with transaction.atomic(using=store.alias):
        [kept] = put(store)
        with transaction.atomic(using=store.alias):
            put(store)
            transaction.set_rollback(True, using=store.alias)
    assert store.claim(begin(store), None, 10) == [kept]


def test_d7_the_wake_up_comes_with_the_commit(postgresql: str, session: Session) -> None:
    """A listener hears nothing before the commit, and is woken by it."""
    store, listener = Store(postgresql), Store(postgresql)
    session(lambda: listen(listener))
    with transaction.atomic(using=postgresql):
        put(store)
        assert not session(lambda: awakened(listener))
    eventually(lambda: session(lambda: awakened(listener)), 5, "the notification")
    assert not session(lambda: awakened(listener)), "told twice"


def test_d7_a_rollback_wakes_nobody(postgresql: str, session: Session) -> None:
    """The notification goes with the transaction."""
    store, listener = Store(postgresql), Store(postgresql)
    session(lambda: listen(listener))
    with transaction.atomic(using=postgresql):
        put(store)
        transaction.set_rollback(True, using=postgresql)
    assert not session(lambda: awakened(listener))


def test_p11_notifying_can_be_switched_off(postgresql: str, session: Session) -> None:
    """With `notify=False` neither an enqueue nor a job given back wakes anybody."""
    store, listener = Store(postgresql, notify=False), Store(postgresql)
    session(lambda: listen(listener))
    put(store)
    run = begin(store)
    store.release(run, store.claim(run, None, 1))
    assert not session(lambda: awakened(listener))


def test_what_is_put_back_wakes_too(postgresql: str, session: Session) -> None:
    """A job that was given back and one that waits for its next attempt are news to other supervisors."""
    store, listener = Store(postgresql), Store(postgresql, notify=False)
    put(listener)
    run = begin(store)
    session(lambda: listen(listener))
    store.release(run, store.claim(run, None, 1))
    eventually(lambda: session(lambda: awakened(listener)), 5, "the notification")


def test_a_new_job_has_all_its_values(store: Store) -> None:
    """What was asked for stands in the row; the rest is empty."""
    before = store.sql.now()
    pk, enqueued_at = store.enqueue(new_row(queue="slow", priority=-7, max_attempts=3, arguments='{"args":[1]}'))
    found = row(store, pk)
    assert (found.queue, found.priority, found.max_attempts, found.arguments) == ("slow", -7, 3, '{"args":[1]}')
    assert (found.status, found.attempt, found.claimed_by, found.worker) == (Status.READY, 0, None, "")
    assert (found.started_at, found.last_attempted_at, found.finished_at, found.result) == (None, None, None, None)
    assert found.enqueued_at == enqueued_at
    assert before <= enqueued_at <= store.sql.now()


def test_a_future_job_is_scheduled_and_a_past_one_is_ready(store: Store) -> None:
    """Only what lies ahead by the database's clock waits."""
    now = store.sql.now()
    [later] = put(store, run_after=now + timedelta(hours=1))
    [due] = put(store, run_after=now - timedelta(hours=1))
    assert row(store, later).status == Status.SCHEDULED
    assert row(store, due).status == Status.READY
    assert row(store, later).run_after == now + timedelta(hours=1)


def test_enqueued_at_is_the_moment_and_not_the_beginning_of_the_transaction(store: Store) -> None:
    """Two jobs of one transaction have two times (P5: now() would be the transaction's start)."""
    with transaction.atomic(using=store.alias):
        first, second = put(store, 2)
    assert row(store, first).enqueued_at < row(store, second).enqueued_at


def test_a_failed_enqueue_leaves_no_open_transaction(store: Store) -> None:
    """A row that the database refuses is the caller's error, and the connection goes on."""
    with pytest.raises(IntegrityError):
        store.enqueue(new_row()._replace(arguments=None))  # type: ignore[arg-type]
    assert not connections[store.alias].in_atomic_block
    assert put(store)
