"""Unique jobs that were taken and go back to those that wait: another one may have their key by then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import IntegrityError, connections, transaction

from jobsup.models import Job, Status
from jobsup.store import Store
from jobsup.unique import giving_way
from tests.db.rows import begin, failure, loss, new_row, row, statements_of
from tests.db.uniques import held_keys, put_unique

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.db.rows import Session


def claimed_with_rival(store: Store, run: int) -> tuple[int, int]:
    """Return a job that was claimed, and a later one of its key that waits."""
    pk, _ = put_unique(store)
    assert store.claim(run, None, 1) == [pk]
    rival, new = put_unique(store)
    assert new
    return pk, rival


def put_back_by_release(store: Store, run: int, pks: list[int]) -> None:
    """Give jobs back unstarted."""
    store.release(run, pks)


def put_back_by_finish(store: Store, run: int, pks: list[int]) -> None:
    """Let jobs fail, to be tried again."""
    assert store.finish(run, [failure(pk, retry_in_s=60) for pk in pks]) == set(pks)


def put_back_by_loss(store: Store, run: int, pks: list[int]) -> None:
    """Let the worker die."""
    assert {account.pk for account in store.lost(run, [loss(pk) for pk in pks])} == set(pks)


WAYS = pytest.mark.parametrize("put_back", [put_back_by_release, put_back_by_finish, put_back_by_loss])


@WAYS
@pytest.mark.parametrize("inside", [False, True])
def test_a_job_that_goes_back_gives_way_to_the_one_that_waits(
    store: Store, put_back: Callable[..., None], inside: bool  # noqa: FBT001
) -> None:  # fmt: skip
    """It goes on without its key; others of the batch keep theirs, and nobody's account is lost."""
    run = begin(store)
    pk, rival = claimed_with_rival(store, run)
    [other, plain] = [put_unique(store, "other")[0], store.enqueue(new_row())[0]]
    store.claim(run, None, 1)
    assert set(store.claim(run, None, 9)) | {rival} >= {other, plain}
    Job.objects.using(store.alias).filter(pk=rival).update(status=0, claimed_by=None, attempt=0)
    if inside:
        with transaction.atomic(using=store.alias):
            put_back(store, run, [pk, other, plain])
    else:
        put_back(store, run, [pk, other, plain])
    assert held_keys(store.alias) == [(pk, None), (rival, "k"), (other, "other"), (plain, None)]


@WAYS
def test_two_of_one_key_that_go_back_together(store: Store, put_back: Callable[..., None]) -> None:
    """Nobody waits, both were claimed: the later one keeps the key."""
    run = begin(store)
    pk, rival = claimed_with_rival(store, run)
    assert store.claim(run, None, 1) == [rival]
    put_back(store, run, [pk, rival])
    assert held_keys(store.alias) == [(pk, None), (rival, "k")]


@WAYS
def test_without_a_rival_the_key_is_taken_up_again(store: Store, put_back: Callable[..., None]) -> None:
    """A job that waits for its next attempt is the one of its key, and no statement more is needed for that."""
    run = begin(store)
    pk, _ = put_unique(store)
    store.claim(run, None, 1)
    with statements_of(store.alias) as statements:
        put_back(store, run, [pk])
    assert put_unique(store) == (pk, False)
    assert "SAVEPOINT" not in statements[0], statements


def test_a_running_job_keeps_its_key_when_it_is_tried_again(store: Store) -> None:
    """With unique_while="running" there is never a rival."""
    run = begin(store)
    pk, _ = put_unique(store, running=True)
    store.claim(run, None, 1)
    put_back_by_finish(store, run, [pk])
    assert put_unique(store, running=True) == (pk, False)


def test_a_job_that_goes_back_does_not_wait_for_an_enqueuer_for_ever(postgresql: str, session: Session) -> None:
    """One who enqueued the same and does not commit: a supervisor's session gives up waiting, and the job its key."""
    store = Store(postgresql)
    run = begin(store)
    pk, _ = put_unique(store)
    store.claim(run, None, 1)
    with session.atomic(postgresql):
        rival, new = session(lambda: put_unique(store))
        assert new
        with transaction.atomic(using=postgresql), connections[postgresql].cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 300")
            put_back_by_release(store, run, [pk])
    assert held_keys(postgresql) == [(pk, None), (rival, "k")]


def test_a_rival_that_is_gone_again_costs_no_key(store: Store) -> None:
    """It was claimed between the refusal and the look: the same write goes through now."""
    run = begin(store)
    pk, rival = claimed_with_rival(store, run)

    def write() -> int:
        try:
            return Job.objects.using(store.alias).filter(pk=pk).update(status=0)
        except IntegrityError:
            assert store.claim(run, None, 1) == [rival]
            raise

    assert giving_way(store.alias, [pk], write) == 1
    assert held_keys(store.alias) == [(pk, "k")]


def test_an_error_that_no_key_explains_goes_up(store: Store) -> None:
    """Only what is in the way of others loses its key."""
    run = begin(store)
    pk, _ = put_unique(store)
    store.claim(run, None, 1)
    bad = failure(pk, retry_in_s=60)
    bad = bad._replace(row=bad.row._replace(worker=None))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=r"(?i)not.{0,4}null"):
        store.finish(run, [bad])
    assert row(store, pk).status == Status.RUNNING
    assert Job.objects.using(store.alias).get(pk=pk).unique_key == "k"
