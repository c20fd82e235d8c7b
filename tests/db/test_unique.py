"""Unique jobs: what a key is made of, who has it, what happens on a conflict, and many at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction
from django.utils import timezone

from jobsup import task
from jobsup.compat import InvalidTask, task_enqueued
from jobsup.errors import AlreadyEnqueued
from jobsup.models import Job, Status
from jobsup.store import Store
from jobsup.unique import KEY_CHARS_MAX, key_of
from tests.db import misfits
from tests.db.rows import at_once, begin, crowd, new_row, row, statements_of, success
from tests.db.uniques import put_unique, unique_row
from tests.vendors import ON_ONE_STATEMENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tests.db.bench import Bench
    from tests.db.rows import Session

ENQUEUERS = 50
HERE = __name__


@task(unique=True)
def once(number: int = 0, text: str = "", *more: int, **named: int) -> None:
    """Be there once for the same arguments."""


@task(unique=lambda number, text="": number or None)
def by_number(number: int, text: str = "") -> None:
    """Be there once for each number."""


@task(unique=True, unique_while="running")
def alone(number: int = 0) -> None:
    """Be there once, and while it runs, too."""


@task(unique=True, takes_context=True)
def with_context(context: Any, number: int) -> None:
    """Be there once, whatever the context."""


def key(task_: Any, *args: Any, **kwargs: Any) -> str:
    """Return the key of a job."""
    found = key_of(task_, args, kwargs)
    assert found is not None
    return found


# ---- the key


def test_the_key_of_arguments_does_not_depend_on_how_they_are_given() -> None:
    """By position, by name, in another order; tuples are lists, as they are in JSON."""
    assert key(once, 1, "x") == key(once, 1, text="x") == key(once, text="x", number=1)
    assert key(once, 1) != key(once, 2)
    assert key(once, b=1, a=2) == key(once, a=2, b=1)
    assert key(once, (1, 2)) == key(once, [1, 2])
    assert key(with_context, 1) == key(with_context, number=1)
    assert key(once.using(unique=True), 1, 2, 3, 4) == key(once, 1, 2, 3, 4)
    assert key(once, wrong=1, number=2) == key(once, number=2, wrong=1)
    assert key_of(once, (1,), {"number": 2}) is not None, "a call that fails has a key all the same"


def test_the_key_belongs_to_its_task() -> None:
    """The same text in two tasks is two keys."""
    assert key(once.using(unique="k")) != key(by_number.using(unique="k"), 1)
    assert key(once.using(unique="k")) == f"{HERE}.once k"


def test_a_callable_says_what_the_key_is() -> None:
    """Called with the job's own arguments; a text, or anything that is JSON; None: any number may wait."""
    assert key(by_number, 7, "a") == key(by_number, 7, text="b") == f"{HERE}.by_number 7"
    assert key_of(by_number, (0,), {}) is None
    assert key(once.using(unique=lambda number: {"b": number, "a": (1,)}), 2) == f'{HERE}.once {{"a":[1],"b":2}}'
    with pytest.raises(TypeError, match=r"the unique key of .*once cannot be stored as JSON"):
        key(once.using(unique=lambda number: object()), 1)


@pytest.mark.parametrize("text", ["x" * 300, "a\0b", "\ud800", "é" * 250])
def test_any_text_is_a_key_that_fits_its_column(store: Store, text: str) -> None:
    """Long ones and those that a database does not take are hashed, and stay apart."""
    long = key(once.using(unique=text))
    assert len(long) <= KEY_CHARS_MAX
    assert long.startswith(f"{HERE}.once ")
    assert long != key(once.using(unique=text + "y"))
    assert put_unique(store, long)[1]
    assert not put_unique(store, long)[1]


def test_without_the_option_nothing_is_unique(routed: str) -> None:
    """None and False are the same."""
    for plain in (misfits.plain, once.using(unique=False)):
        assert len({plain.enqueue(1).id for _ in range(2)}) == 2
    assert set(Job.objects.values_list("unique_key", flat=True)) == {None}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unique": ""}, "unique is '': expected True, a text that is not empty, or a callable that returns the key"),
        ({"unique": 7}, "unique is 7: expected True"),
        ({"unique_while": "waiting"}, "unique_while is 'waiting': expected 'pending' or 'running'"),
        ({"on_conflict": "ignore"}, "on_conflict is 'ignore': expected 'return' or 'raise' or 'replace'"),
        ({"keep": -1}, "keep is -1: must lie between 0 and"),
        ({"keep": "7d"}, "keep is '7d': expected seconds or a timedelta"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    """At the declaration and by using()."""
    with pytest.raises(InvalidTask, match=words):
        once.using(**options)
    with pytest.raises(InvalidTask, match=words):
        task(**options)(misfits.no_task)


def test_keep_stands_in_the_row(routed: str) -> None:
    """In whole seconds, not less than what was asked for."""
    for keep, seconds in ((timedelta(days=7), 604_800), (0.5, 1), (0, 0), (None, None)):
        job = misfits.plain.enqueue(1) if keep is None else once.using(unique=False, keep=keep).enqueue()
        assert Job.objects.get(pk=int(job.id)).keep_s == seconds


# ---- conflicts


def test_a_second_job_is_the_first_one(routed: str) -> None:
    """Its result is returned, and task_enqueued is sent for what was really inserted."""
    sent: list[str] = []

    def receive(task_result: Any, **_rest: Any) -> None:
        sent.append(task_result.id)

    task_enqueued.connect(receive)
    try:
        first, second, other = once.enqueue(1), once.enqueue(number=1), once.enqueue(2)
    finally:
        task_enqueued.disconnect(receive)
    assert first.id == second.id != other.id
    assert (second.args, second.status.name, second.enqueued_at) == ([1], "READY", first.enqueued_at)
    assert sent == [first.id, other.id]


def test_raise_names_the_job_that_is_there(routed: str) -> None:
    """And leaves the caller's transaction as it was."""
    strict = once.using(on_conflict="raise")
    first = strict.enqueue(1)
    with transaction.atomic(using=routed):
        with pytest.raises(AlreadyEnqueued, match=f"job {first.id} of {HERE}.once has this unique key") as refused:
            strict.enqueue(1)
        other = strict.enqueue(2)
    assert refused.value.result.id == first.id
    assert Job.objects.filter(pk=int(other.id)).exists()


def test_replace_gives_the_waiting_job_a_new_time_priority_and_arguments(routed: str) -> None:
    """Later, earlier, and at once."""
    hour = timezone.now() + timedelta(hours=1)
    latest = by_number.using(on_conflict="replace")
    first = latest.using(run_after=hour).enqueue(7, "first")
    assert row(Store(routed), int(first.id)).status == Status.SCHEDULED
    second = latest.using(run_after=hour + timedelta(hours=1), priority=5).enqueue(7, "second")
    assert (second.id, second.args, second.task.priority) == (first.id, [7, "second"], 5)
    found = row(Store(routed), int(first.id))
    assert (found.run_after, found.status, found.priority) == (hour + timedelta(hours=1), Status.SCHEDULED, 5)
    third = latest.enqueue(7, "third")
    found = row(Store(routed), int(first.id))
    assert (third.id, found.run_after, found.status, found.priority) == (first.id, None, Status.READY, 0)


def test_replace_leaves_a_running_job_alone(bench: Bench) -> None:
    """What has been begun is returned as it is."""
    latest = alone.using(on_conflict="replace")
    first = latest.enqueue(1)
    bench.claim()
    second = latest.using(priority=9).enqueue(1)
    assert second.id == first.id
    assert row(bench.store, int(first.id)).priority == 0


def test_pending_ends_when_a_supervisor_takes_the_job(bench: Bench) -> None:
    """The default: one that was claimed may still read old data, so another one may wait behind it."""
    first = once.enqueue(1)
    bench.claim()
    second = once.enqueue(1)
    assert second.id != first.id
    assert once.enqueue(1).id == second.id


def test_running_ends_with_the_job(bench: Bench) -> None:
    """While it runs no second one is there; afterwards there may be."""
    first = alone.enqueue(1)
    pks = bench.claim()
    assert alone.enqueue(1).id == first.id
    bench.play(pks)
    assert alone.enqueue(1).id != first.id


def test_a_cancelled_job_gives_its_key_up(routed: str) -> None:
    """It does not wait any more."""
    first = once.enqueue(1)
    assert first.cancel()
    assert once.enqueue(1).id != first.id


@ON_ONE_STATEMENT
def test_a_unique_job_costs_one_statement_and_a_plain_one_has_no_conflict_clause(store: Store) -> None:
    """As long as there is no conflict."""
    with statements_of(store.alias) as statements:
        put_unique(store)
        store.enqueue(new_row())
    assert ["ON CONFLICT" in sql for sql in statements] == [True, False], statements


def test_both_keys_are_found_by_their_indexes(postgresql: str) -> None:
    """Whoever looks for the job that has a key reads no other."""
    store = Store(postgresql)
    crowd(store, Status.READY)
    crowd(store, Status.RUNNING, begin(store))
    plans = []
    with transaction.atomic(using=postgresql), connections[postgresql].cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        with statements_of(postgresql) as statements:
            store.sql.holder(unique_row(running=True), hold=True)
        for sql in statements:
            cursor.execute(f"EXPLAIN {sql}")
            plans.append(str(cursor.fetchall()))
    assert "jobsup_unique_waiting" in plans[0]
    assert "jobsup_unique_running" in plans[1]


# ---- many at once


def test_fifty_enqueuers_make_one_job(store: Store) -> None:
    """Each commits by itself, over its own connection."""
    found = at_once([lambda: put_unique(store)] * ENQUEUERS)
    assert len({pk for pk, _ in found}) == 1
    assert sum(new for _, new in found) == 1


def test_fifty_enqueuers_in_transactions_make_one_job(store: Store) -> None:
    """The others wait for the first one's commit, and see it."""

    def put() -> tuple[int, bool]:
        with transaction.atomic(using=store.alias):
            return put_unique(store)

    found = at_once([put] * ENQUEUERS)
    assert len({pk for pk, _ in found}) == 1
    assert sum(new for _, new in found) == 1


def test_fifty_enqueuers_that_replace_make_one_job(store: Store) -> None:
    """The last one's values stand, whoever that is."""
    actions = [lambda number=number: put_unique(store, priority=number, replace=True) for number in range(ENQUEUERS)]
    found = at_once(actions)
    assert len({pk for pk, _ in found}) == 1
    assert row(store, found[0][0]).priority in range(ENQUEUERS)


@pytest.mark.parametrize("running", [False, True])
def test_no_two_have_the_key_while_others_claim_and_finish(store: Store, running: bool) -> None:  # noqa: FBT001
    """The job that is there may be claimed and ended between the conflict and the look."""
    run, over = begin(store), threading.Event()
    taken: list[int] = []

    def work() -> list[int]:
        while not over.is_set():
            if pks := store.claim(run, None, 10):
                assert len(pks) == 1, "two of one key waited at the same time"
                taken.extend(pks)
                store.finish(run, [success(pk) for pk in pks])
        return []

    def put() -> list[int]:
        try:
            return [put_unique(store, running=running)[0] for _ in range(40)]
        finally:
            waiting.release()
            if waiting._value == 4:
                over.set()

    waiting = threading.Semaphore(0)
    found = at_once([work, *[put] * 4])
    pks = {pk for each in found for pk in each}
    assert set(taken) <= pks
    assert Job.objects.using(store.alias).count() == len(pks), "a job that nobody was told of"


def test_an_enqueuer_waits_for_the_first_ones_rollback_and_then_has_the_key(store: Store, session: Session) -> None:
    """A job that never was is in nobody's way."""
    entered = threading.Event()
    waiting: Future[tuple[int, bool]]
    with transaction.atomic(using=store.alias):
        first = put_unique(store)

        def put() -> tuple[int, bool]:
            entered.set()
            return put_unique(store)

        waiting = session.begin(put)
        assert entered.wait(30)
        assert not waiting.done()
        transaction.set_rollback(True, using=store.alias)
    pk, new = waiting.result(30)
    assert new
    assert (pk,) == tuple(Job.objects.using(store.alias).values_list("pk", flat=True)), first


def test_what_is_returned_in_a_transaction_begins_after_it(store: Store, session: Session) -> None:
    """Else it might not see what the transaction wrote, and nobody would do the work for that."""
    pk, _ = put_unique(store)
    run = begin(store)
    claim: Future[list[int]]
    with transaction.atomic(using=store.alias):
        assert put_unique(store) == (pk, False)
        if store.alias == "postgresql":
            assert session(lambda: store.claim(run, None, 1)) == []
            claim = session.begin(list)
        else:
            claim = session.begin(lambda: store.claim(run, None, 1))
        assert row(store, pk).status == Status.READY
    assert claim.result(30) or store.claim(run, None, 1) == [pk]


def test_claimers_that_did_not_see_it_are_woken(postgresql: str, session: Session) -> None:
    """A transaction that returned a job wakes supervisors at its end; without a transaction nothing was held."""
    store, listener = Store(postgresql), Store(postgresql)
    put_unique(store)

    def awakened() -> bool:
        listener.sql.now()
        return listener.sql.changed()

    def listen() -> None:
        listener.sql.connection.ensure_connection()
        listener.sql.attend(listen=True)

    session(listen)
    put_unique(store)
    assert not session(awakened)
    with transaction.atomic(using=postgresql):
        put_unique(store)
        assert not session(awakened)
    assert session(awakened)


def test_repeatable_read_tells_what_to_do(postgresql: str, session: Session) -> None:
    """The transaction cannot see the other one's job, so it has to be repeated; then it finds it."""
    store = Store(postgresql)

    def attempt(before: Callable[[], Any]) -> tuple[int, bool]:
        with transaction.atomic(using=postgresql), connections[postgresql].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM jobsup_job")
            before()
            return put_unique(store)

    with pytest.raises(OperationalError, match="could not serialize") as refused:
        attempt(lambda: session(lambda: put_unique(store)))
    assert refused.value.__notes__ == [
        "Another transaction holds the unique key of this job; repeat this one from its beginning."
    ]
    assert not attempt(lambda: None)[1]
