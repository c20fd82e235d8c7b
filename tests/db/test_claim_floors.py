"""P1: claims that stay cheap beside a transaction that keeps every dead entry of the index, and lose nothing by it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from jobsup import queue_control
from jobsup.models import Job, Status
from jobsup.sql.postgresql import claims, floors, walks
from jobsup.store import Store
from tests.db.rows import Session, begin, put
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEAD = 12_000
"""So many jobs are claimed while a transaction is open: more than a claim may walk over."""

HAND = 100
"""So many by each claim."""


@pytest.fixture
def store(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store on PostgreSQL, in a table without any past; each claim counts what it walks over, however fast it is."""
    monkeypatch.setattr(claims, "SUSPECT_S", 0.0)
    with connections[postgresql].cursor() as cursor:
        cursor.execute("TRUNCATE jobsup_job, jobsup_failedattempt")
    return Store(postgresql)


@contextmanager
def old_transaction(session: Session, alias: str) -> Iterator[None]:
    """Have a transaction open that sees everything as it is now."""
    with session.atomic(alias):
        session(lambda: Store(alias).sql.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        session(lambda: Store(alias).sql.rows("SELECT 1"))
        yield


def fill(store: Store, jobs: int = DEAD, *, queues: str = "a", priority: str = "0") -> None:
    """Put ready jobs there; `n` in the SQL for the priority is their number."""
    store.sql.run(
        f"""INSERT INTO jobsup_job (task, queue, backend, priority, status, arguments, attempt, worker, enqueued_at)
            SELECT 'tests.testapp.tasks.noop', substr('{queues}', 1 + n %% {len(queues)}, 1), 'default', {priority}, 0,
                   '{{}}', 0, '', now() FROM generate_series(1, {jobs}) AS n"""
    )


def work_off(store: Store, run: int, queues: Sequence[str] | None, jobs: int = DEAD) -> None:
    """Claim so many jobs; each leaves a dead entry."""
    while jobs > 0:
        pks = store.claim(run, queues, min(jobs, HAND))
        assert pks, "nothing was found"
        jobs -= len(pks)


def read_by(store: Store, queues: Sequence[str] | None, limit: int = 10) -> tuple[int, list[int]]:
    """Claim; return how many entries of the index of ready jobs that read, and what was claimed."""
    with transaction.atomic(using=store.alias):  # the server counts per transaction
        [(before,)] = store.sql.rows(f"SELECT {walks.READ}")
        pks = store.claim(1, queues, limit)
        [(after,)] = store.sql.rows(f"SELECT {walks.READ}")
    return after - before, pks


def test_p1_a_claim_does_not_walk_over_what_was_claimed_before(store: Store, session: Session) -> None:
    """Beside an old transaction it reads few of the dead entries; another process, which knows nothing, all."""
    fill(store, DEAD + 100)
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"])
        assert store.sql.floors(["a"]).active  # type: ignore[attr-defined]
        reads = [read_by(store, ["a"]) for _ in range(5)]  # one of them may have looked behind the floors as well
        assert all(len(pks) == 10 for _, pks in reads)
        assert min(reads)[0] <= 2 * floors.MARGIN, reads
        read, pks = read_by(Store(store.alias), ["a"])
        assert len(pks) == 10
        assert read > DEAD, "the dead entries are there"


def test_p1_what_many_claimers_leave_at_a_time_is_walked_over(store: Store, session: Session) -> None:
    """Dead entries of 64 claimers that are all at it are no old transaction's: floors would cost more than they do."""
    of_a_crowd, claimers = floors.DEAD_PER_KEY * HAND, 64
    fill(store, of_a_crowd + 10 * HAND)
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"], claimers * HAND)
        assert not store.sql.floors(["a"]).active  # type: ignore[attr-defined]
        work_off(store, run, ["a"], of_a_crowd - claimers * HAND + 5 * HAND)
        assert store.sql.floors(["a"]).active  # type: ignore[attr-defined]


@pytest.mark.parametrize("queues", [["a", "b", "c"], None], ids=["several", "any"])
def test_p1_several_queues_and_priorities_have_floors_of_their_own(
    store: Store, session: Session, queues: list[str] | None
) -> None:
    """With rests of some of them at the end; they come in the order that they always have."""
    fill(store, queues="abc", priority="n %% 2")
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, queues)
        [low] = put(store, queue="b", priority=-7)
        [usual] = put(store, queue="c")
        [urgent] = put(store, queue="a", priority=30)
        [new] = put(store, queue="d" if queues is None else "b", priority=1)
        assert store.claim(run, queues, 4) == [urgent, new, usual, low]
        fill(store, 100, queues="abc", priority="n %% 2")
        reads = [read_by(store, queues, 4) for _ in range(5)]
        assert all(len(pks) == 4 for _, pks in reads)
        assert min(reads)[0] < DEAD / 2, reads


def test_p1_a_new_priority_and_a_new_queue_are_seen_at_once(store: Store, session: Session) -> None:
    """Above, between and below those that are known."""
    fill(store, priority="10 * (n %% 2)")
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, None)
        for priority in (11, 9, 5, -1):
            [pk] = put(store, queue="a", priority=priority)
            assert store.claim(run, None, 1) == [pk]
        for queue in ("A", "aa", "z"):
            [pk] = put(store, queue=queue)
            assert store.claim(run, None, 1) == [pk]


def test_p1_what_is_put_back_is_claimed_next(store: Store, session: Session) -> None:
    """One's own releases and promotions are known of, however old the job is."""
    fill(store, DEAD + 10)
    run = begin(store)
    [first] = store.claim(run, ["a"], 1)
    [second] = store.claim(run, ["a"], 1)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"])
        store.release(run, [first])
        assert store.claim(run, ["a"], 1) == [first]
        Job.objects.using(store.alias).filter(pk=second).update(status=Status.SCHEDULED, run_after=store.sql.now())
        assert store.sql.promote() == 1
        assert store.claim(run, ["a"], 1) == [second]


def test_p1_a_queue_that_goes_on_is_served_at_once(store: Store, session: Session) -> None:
    """What waits in a queue that is paused is not taken for something that was seen."""
    fill(store, queues="ab")
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a", "b"])
        queue_control.pause(store, ["b"])
        [first] = put(store, queue="b")
        fill(store, 4 * floors.MARGIN)
        work_off(store, run, ["a", "b"], 4 * floors.MARGIN)
        assert store.claim(run, ["a", "b"], 1) == []
        queue_control.resume(store, ["b"])
        known = store.sql.floors(["a", "b"])  # type: ignore[attr-defined]
        assert known.after["b"][0] < first <= known.after["a"][0]
        assert store.claim(run, ["a", "b"], 1) == [first]


def test_p10_beside_an_old_transaction_nothing_stays_behind(store: Store, session: Session) -> None:
    """Jobs that others put back, at any place, are found while there is always something new; so is a late commit."""
    fill(store, 3 * DEAD)
    run = begin(store)
    lost = store.claim(run, ["a"], 5)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"])
        Job.objects.using(store.alias).filter(pk__in=lost).update(status=Status.READY)
        came: set[int] = set()

        def all_came() -> bool:
            came.update(store.claim(run, ["a"], 5))
            return came >= {*lost}

        eventually(all_came, what="the jobs behind the floor", timeout_s=60)


def test_p10_what_is_committed_late_is_found_soon_when_idle(store: Store, session: Session) -> None:
    """A claim that finds nothing new looks through the newest keys behind the floors."""
    run = begin(store)
    fill(store)
    with Session() as holder, old_transaction(holder, store.alias):
        work_off(store, run, ["a"])
        with session.atomic(store.alias):
            [late] = session(lambda: put(store, queue="a"))
            fill(store, 5_000)
            work_off(store, run, ["a"], 5_000)
            assert store.claim(run, ["a"], 1) == []
        eventually(lambda: store.claim(run, ["a"], 1) == [late], what="the late job", timeout_s=60)


def test_p1_afterwards_everything_is_looked_at_again(store: Store, session: Session) -> None:
    """Once the transaction is over and the dead entries are gone, each claim sees the whole queue as before."""
    fill(store, DEAD)
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"])
    known = store.sql.floors(["a"])  # type: ignore[attr-defined]
    assert known.active

    with connections[store.alias].cursor() as cursor:
        cursor.execute("VACUUM jobsup_job")  # else by the first looks, as far as they come, or by autovacuum

    def forgotten() -> bool:
        store.claim(run, ["a"], 1)
        return not known.active

    eventually(forgotten, what="the end of the care", timeout_s=60)


def test_p1_a_fresh_process_gets_through_when_a_full_look_takes_too_long(store: Store, session: Session) -> None:
    """The server gives the first look up; the process begins at the newest jobs then, and finds the others later."""
    fill(store, 4 * DEAD)
    run = begin(store)
    with old_transaction(session, store.alias):
        work_off(store, run, ["a"], 4 * DEAD)
        [pk] = put(store, queue="a")
        fresh = Store(store.alias)
        failed: list[str] = []

        def slow(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
            """Let the first claim take longer than it may."""
            if "picked" in sql and not failed:
                failed.append(sql)
                execute("SET statement_timeout = '5ms'", (), many, context)
                try:
                    return execute("SELECT pg_sleep(60)", (), many, context)
                finally:
                    execute("RESET statement_timeout", (), many, context)
            return execute(sql, params, many, context)

        with connections[store.alias].execute_wrapper(slow):
            assert fresh.claim(run, ["a"], 1) == [pk]
        assert failed
