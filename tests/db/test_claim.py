"""Claiming: the order, the limits, and that nobody gets what another one has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from jobsup.models import Job, Status
from jobsup.store import Store
from tests.db.rows import at_once, begin, claimed, put, row, statements_of
from tests.vendors import ON_ONE_STATEMENT

if TYPE_CHECKING:
    from tests.db.rows import Session

CLAIMERS = 16


def test_the_most_urgent_come_first_and_then_the_oldest(store: Store) -> None:
    """Priority descending, then age; also over several claims."""
    [usual] = put(store)
    [last] = put(store, priority=-100)
    [also_usual] = put(store)
    [first] = put(store, priority=100)
    run = begin(store)
    assert store.claim(run, ["default"], 2) == [first, usual]
    assert store.claim(run, ["default"], 9) == [also_usual, last]


@pytest.mark.parametrize("queues", [["a", "b", "c"], None], ids=["named", "any"])
def test_several_queues_are_one_order(store: Store, queues: list[str] | None) -> None:
    """The best of all queues come first, whichever queue they stand in."""
    [a_old] = put(store, queue="a")
    [b] = put(store, queue="b")
    [a_new] = put(store, queue="a")
    [c_urgent] = put(store, queue="c", priority=5)
    [a_last] = put(store, queue="a", priority=-5)
    run = begin(store)
    assert store.claim(run, queues, 3) == [c_urgent, a_old, b]
    assert store.claim(run, queues, 3) == [a_new, a_last]
    assert store.claim(run, queues, 3) == []


def test_other_queues_are_left_alone(store: Store) -> None:
    """Only the queues that were named are served; a name without jobs harms nobody."""
    put(store, queue="other")
    [mine] = put(store, queue="mine")
    run = begin(store)
    assert store.claim(run, ["mine", "nothing here"], 10) == [mine]
    assert store.claim(run, ["nothing here"], 10) == []


@pytest.mark.parametrize("queues", [["a"], ["a", "b", "c"], None], ids=["one", "several", "any"])
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_p9_the_limit_is_kept(store: Store, queues: list[str] | None, limit: int) -> None:
    """Never more than asked for, and never fewer while there are enough."""
    for queue in ("a", "b", "c"):
        put(store, 5, queue=queue)
    run = begin(store)
    assert len(store.claim(run, queues, limit)) == limit
    assert Job.objects.using(store.alias).filter(status=Status.RUNNING).count() == limit


def test_a_claim_counts_the_attempt_and_names_the_owner(store: Store) -> None:
    """The row belongs to the run; who works on it is not known yet."""
    run = begin(store)
    pk = claimed(store, run)
    found = row(store, pk)
    assert (found.status, found.attempt, found.claimed_by, found.worker) == (Status.RUNNING, 1, run, "")


def test_only_ready_jobs_are_claimed(store: Store) -> None:
    """What waits for its time, runs or is over is not work."""
    run = begin(store)
    put(store, run_after=store.sql.now() + timedelta(hours=1))
    for status in set(Status) - {Status.READY, Status.SCHEDULED}:
        [pk] = put(store)
        Job.objects.using(store.alias).filter(pk=pk).update(status=status)
    assert store.claim(run, None, 10) == []


@ON_ONE_STATEMENT
def test_a_claim_is_one_statement(store: Store) -> None:
    """The claim commits by itself, without a transaction around it."""
    put(store, 3)
    run = begin(store)
    with statements_of(store.alias) as statements:
        store.claim(run, ["default", "other"], 2)
    assert len(statements) == 1, statements


def test_p4_no_transaction_is_open_after_a_claim(postgresql: str, session: Session) -> None:
    """The server sees an idle session, neither in a transaction nor holding a lock on the table."""
    store = Store(postgresql)
    put(store, 3)
    store.claim(begin(store), None, 2)
    [[pid]] = store.sql.rows("SELECT pg_backend_pid()")
    seen = "SELECT state, xact_start IS NULL FROM pg_stat_activity WHERE pid = %s"
    assert session(lambda: store.sql.rows(seen, [pid])) == [("idle", True)]
    locks = "SELECT count(*) FROM pg_locks WHERE relation = 'jobsup_job'::regclass AND pid = %s"
    assert session(lambda: store.sql.rows(locks, [pid])) == [(0,)]


def test_p4_sqlite_has_no_transaction_open_after_a_claim(sqlite: str, session: Session) -> None:
    """Another session can write at once."""
    store = Store(sqlite)
    put(store, 3)
    store.claim(begin(store), None, 2)
    driver: Any = connections[sqlite].connection
    assert not driver.in_transaction
    assert session(lambda: put(store))


@pytest.mark.parametrize("queues", [["default"], ["default", "other"], None], ids=["one", "several", "any"])
def test_p9_many_claimers_never_get_the_same_job(store: Store, queues: list[str] | None) -> None:
    """Sixteen claimers that take one at a time: each job once, each claim at most one."""
    pks = put(store, 40, queue="default") + put(store, 40, queue="other")
    wanted = pks[:40] if queues == ["default"] else pks
    run = begin(store)

    def claim_all() -> list[int]:
        mine = []
        while Job.objects.using(store.alias).filter(status=Status.READY, pk__in=wanted).exists():
            got = store.claim(run, queues, 1)
            assert len(got) <= 1
            mine += got
        return mine

    shares = at_once([claim_all] * CLAIMERS)
    assert sorted(pk for share in shares for pk in share) == wanted
    assert {row(store, pk).attempt for pk in wanted} == {1}


def test_p9_two_claimers_share_the_work(store: Store) -> None:
    """What one run has claimed the other one does not get, and together they have everything."""
    pks = put(store, 30)
    runs = [begin(store), begin(store)]
    first, second = at_once([lambda run=run: store.claim(run, None, 15) for run in runs])  # type: ignore[misc]
    assert not set(first) & set(second)
    rest = store.claim(runs[0], None, 30)
    assert sorted(first + second + rest) == pks
    assert {row(store, pk).claimed_by for pk in first} <= {runs[0]}


def test_p9_locked_rows_are_passed_over_and_not_waited_for(postgresql: str, session: Session) -> None:
    """A claimer takes the next job when somebody else holds the first one."""
    store = Store(postgresql)
    first, second = put(store, 2)
    run = begin(store)
    with session.atomic(postgresql):
        session(lambda: store.sql.rows("SELECT 1 FROM jobsup_job WHERE id = %s FOR UPDATE", [first]))
        assert store.claim(run, None, 1) == [second]
    assert store.claim(run, None, 1) == [first]


def test_p10_a_job_that_commits_late_is_not_missed(postgresql: str, session: Session) -> None:
    """A smaller key that becomes visible after a bigger one was claimed is claimed all the same."""
    store = Store(postgresql)
    run = begin(store)
    with session.atomic(postgresql):
        [early] = session(lambda: put(store))
        late = claimed(store, run)
        assert early < late
        assert store.claim(run, None, 10) == []
    assert store.claim(run, None, 10) == [early]


def test_l1_writers_wait_for_each_other(sqlite: str) -> None:
    """Eight sessions that enqueue and claim at once: no "database is locked", nothing lost."""
    store = Store(sqlite)
    run = begin(store)

    def enqueue_and_claim() -> list[int]:
        mine: list[int] = []
        for _ in range(10):
            put(store)
            mine += store.claim(run, ["default"], 1)
        return mine

    shares = at_once([enqueue_and_claim] * 8)
    pks = [pk for share in shares for pk in share] + store.claim(run, ["default"], 100)
    assert sorted(pks) == sorted(Job.objects.using(sqlite).values_list("pk", flat=True))
    assert len(pks) == 80


def test_simultaneous_claims_over_several_queues_find_what_the_other_leaves(postgresql: str) -> None:
    """A claimer locks only what it takes: while one holds a row, the next one gets another."""
    store = Store(postgresql)
    run = begin(store)
    first, second = put(store, 1, queue="a")[0], put(store, 1, queue="b")[0]
    with transaction.atomic(using=postgresql):
        assert store.claim(run, ["a", "b"], 1) == [first]
        with ThreadPoolExecutor(1) as other:
            assert other.submit(claim_and_hang_up, postgresql, run).result(10) == [second]


def claim_and_hang_up(alias: str, run: int) -> list[int]:
    """Claim one job from a thread, which has a connection of its own."""
    try:
        return Store(alias).claim(run, ["a", "b"], 1)
    finally:
        connections.close_all()
