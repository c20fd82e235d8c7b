"""What people change: jobs are tried anew with their history, get another priority, are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections

from jobsup import changes
from jobsup.compat import TaskResultStatus
from jobsup.models import FailedAttempt, Job, Status
from jobsup.store import Store
from tests.db.rows import begin, claimed, failure, failures_of, loss, put, row, statements_of, success
from tests.support import eventually
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.db.bench import Bench
    from tests.db.rows import Session


def retry(store: Store, *pks: int) -> list[int]:
    """Try jobs anew."""
    return changes.retry(store, pks)


# -- tried anew -------------------------------------------------------------------------------------------------------


def test_what_failed_has_all_its_attempts_again_and_keeps_its_history(bench: Bench) -> None:
    """The number of the attempt goes on, so that each of them has its own account."""
    result = tasks.fail.using(max_attempts=2).enqueue("no")
    bench.finished(result)
    bench.tried_again(result)
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 2)
    pk = int(result.id)
    assert retry(bench.store, pk) == [pk]
    result.refresh()
    assert (result.status, result.finished_at, len(result.errors)) == (TaskResultStatus.READY, None, 2)
    bench.finished(result)
    assert Job.objects.using(bench.alias).get(pk=pk).status == Status.SCHEDULED, "the first of two again"
    bench.tried_again(result)
    assert (result.status, result.attempts, len(result.errors)) == (TaskResultStatus.FAILED, 4, 4)
    assert [each.attempt for each in failures_of(bench.store, pk)] == [1, 2, 3, 4]


def test_a_job_without_declared_attempts_may_crash_as_often_as_before(store: Store) -> None:
    """The attempts of its earlier life do not count."""
    limit = 5
    run = begin(store)
    pk = claimed(store, run)
    ends = []
    for number in range(1, 2 * limit + 1):
        ends += [account.status for account in store.lost(run, [loss(pk, at_once=True)])]
        if number == limit:
            assert retry(store, pk) == [pk]
        assert number == 2 * limit or store.claim(run, None, 1) == [pk]
    assert ends == [*[Status.READY] * (limit - 1), Status.FAILED] * 2
    assert [each.attempt for each in failures_of(store, pk)] == list(range(1, 2 * limit + 1))


def test_what_was_cancelled_is_tried_anew_too(bench: Bench) -> None:
    """And is not cancelled again by what was asked before."""
    result = tasks.add.enqueue(1, 2)
    assert result.cancel()
    assert retry(bench.store, int(result.id)) == [int(result.id)]
    bench.finished(result)
    assert (result.status, result.return_value, result.errors) == (TaskResultStatus.SUCCESSFUL, 3, [])


def test_nothing_else_is_tried_anew(store: Store) -> None:
    """What waits, runs or went well stays as it is, column by column."""
    run = begin(store)
    fine, running, [waiting] = claimed(store, run), claimed(store, run), put(store)
    store.finish(run, [success(fine)])
    before = list(Job.objects.using(store.alias).order_by("pk").values())
    assert retry(store, fine, running, waiting, 10**9) == []
    assert list(Job.objects.using(store.alias).order_by("pk").values()) == before


def test_a_job_whose_unique_key_is_taken_goes_on_without_it(store: Store) -> None:
    """The others of its batch are not hindered."""
    run = begin(store)
    first, other = claimed(store, run), claimed(store, run)
    Job.objects.using(store.alias).filter(pk=first).update(unique_key="k")
    store.finish(run, [failure(first), failure(other)])
    [second] = put(store)
    Job.objects.using(store.alias).filter(pk=second).update(unique_key="k")
    assert retry(store, first, other) == [first, other]
    held = dict(Job.objects.using(store.alias).values_list("pk", "unique_key"))
    assert held == {first: None, other: None, second: "k"}


def test_a_supervisor_is_woken(postgresql: str, session: Session) -> None:
    """At the commit; not where nobody is to be woken, nor for nothing."""
    listener = Store(postgresql)
    run = begin(listener)
    pk = claimed(listener, run)
    listener.finish(run, [failure(pk)])
    listener.sql.attend(listen=True)
    try:
        listener.sql.changed()
        session(lambda: retry(Store(postgresql), pk))
        eventually(listener.sql.changed, what="the word that a job is ready")
    finally:
        connections[postgresql].close()
    with statements_of(postgresql) as said:
        assert changes.retry(Store(postgresql), [pk]) == [], "it is ready already"
    assert not [sql for sql in said if "pg_notify" in sql]


# -- priority ---------------------------------------------------------------------------------------------------------


def test_a_priority_is_changed_in_place(store: Store) -> None:
    """The order of the claims follows; what has ended keeps what it had."""
    run = begin(store)
    ended = claimed(store, run)
    store.finish(run, [success(ended)])
    first, second = put(store, 2)
    assert changes.reprioritise(store, [second, ended], 50) == [second]
    assert (row(store, second).priority, row(store, ended).priority) == (50, 0)
    assert store.claim(run, None, 2) == [second, first]


# -- removed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True])
def test_what_has_ended_is_removed_with_its_history(store: Store, again: bool) -> None:  # noqa: FBT001
    """What waits or runs stays."""
    run = begin(store)
    broken, running, [waiting] = claimed(store, run), claimed(store, run), put(store)
    store.finish(run, [failure(broken)])
    if again:
        retry(store, broken)
    assert changes.remove(store, [broken, running, waiting, 10**9]) == (0 if again else 1)
    left = set(Job.objects.using(store.alias).values_list("pk", flat=True))
    assert left == {running, waiting} | ({broken} if again else set())
    assert FailedAttempt.objects.using(store.alias).count() == again


def test_p3_what_is_removed_is_not_read_first(store: Store) -> None:
    """Arguments and results may be long."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [success(pk)])
    with statements_of(store.alias) as statements:
        assert changes.remove(store, [pk]) == 1
    assert not [sql for sql in statements if "arguments" in sql or "traceback" in sql]
