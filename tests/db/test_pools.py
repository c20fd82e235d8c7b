"""Claims for pools: queues in order, so many of a queue, none of a queue that is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction

from jobsup import queue_control
from jobsup import source as source_module
from jobsup.conf import Conf
from jobsup.models import Job, Queue, Status
from jobsup.source import DatabaseSource
from jobsup.store import Store
from spawnpool.pools import Pool
from spawnpool.runfile import RunFile
from tests.db.rows import at_once, begin, claimed, put, row, statements_of
from tests.support import eventually
from tests.vendors import ON_ONE_STATEMENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.db.rows import Session

CLAIMERS = 8


def take(store: Store, run: int, queues: Sequence[str] | None, limit: int, **rooms: int) -> list[int]:
    """Claim for a pool with queues in order, with room for so many of some; return the keys."""
    found = store.sql.claim_within(run, queues, rooms, limit, ordered=queues is not None)
    assert all(row(store, pk).queue == queue for pk, queue in found)
    return [pk for pk, _ in found]


# ---- the order


def test_an_earlier_queue_goes_first_and_priority_and_age_count_within(store: Store) -> None:
    """However urgent the jobs of the later one are."""
    [urgent] = put(store, queue="slow", priority=100)
    [first, third] = put(store, 2, queue="mail")
    [second] = put(store, queue="mail", priority=-1)
    run = begin(store)
    assert store.sql.claim(run, ["mail", "slow"], 2, ordered=True) == [first, third]
    assert store.sql.claim(run, ["mail", "slow"], 9, ordered=True) == [second, urgent]
    assert store.sql.claim(run, ["mail", "slow"], 9, ordered=True) == []


def test_without_an_order_all_queues_are_one(store: Store) -> None:
    """As for a supervisor without pools."""
    [usual] = put(store, queue="mail")
    [urgent] = put(store, queue="slow", priority=100)
    assert store.sql.claim(begin(store), ["mail", "slow"], 2) == [urgent, usual]


@pytest.mark.parametrize("queues", [["mail", "slow"], ["slow", "mail"], None])
def test_only_so_many_of_a_queue_are_taken(store: Store, queues: list[str] | None) -> None:
    """In its turn, and the places that it leaves are for the others."""
    mail, slow = put(store, 5, queue="mail"), put(store, 5, queue="slow")
    run = begin(store)
    got = take(store, run, queues, 4, slow=1)
    assert sorted(got) == sorted([*mail[:3], slow[0]] if queues == ["slow", "mail"] else mail[:4])
    assert take(store, run, queues, 9, slow=0) == [pk for pk in mail if pk not in got]
    assert take(store, run, queues, 9, slow=2) == [pk for pk in slow if pk not in got][:2]
    assert take(store, run, queues, 9, slow=0) == []


def test_a_queue_with_a_limit_has_its_turn_by_priority_where_every_queue_is_served(store: Store) -> None:
    """Its most urgent job goes before less urgent ones of the others."""
    mail, [urgent, next_one] = put(store, 2, queue="mail"), put(store, 2, queue="slow", priority=5)
    run = begin(store)
    assert take(store, run, None, 2, slow=1) == [urgent, mail[0]]
    assert take(store, run, None, 9, slow=1) == [next_one, mail[1]]


@ON_ONE_STATEMENT
def test_a_claim_for_a_pool_is_one_statement(store: Store) -> None:
    """Whatever its limits are."""
    put(store, 3)
    run = begin(store)
    with statements_of(store.alias) as statements:
        store.sql.claim_within(run, ["default", "other"], {"default": 1}, 2, ordered=True)
    assert len(statements) == 1, statements


@pytest.mark.parametrize("queues", [["a", "b"], None], ids=["order", "any"])
def test_p9_claimers_with_limits_never_get_the_same_job(store: Store, queues: list[str] | None) -> None:
    """Several at the same time: each job once, no claim beyond its limits, nothing forgotten."""
    pks = put(store, 40, queue="a") + put(store, 40, queue="b")
    run = begin(store)

    def claim_all() -> list[int]:
        mine: list[int] = []
        while Job.objects.using(store.alias).filter(status=Status.READY).exists():
            got = store.sql.claim_within(run, queues, {"a": 1, "b": 2}, 3, ordered=queues is not None)
            assert [queue for _, queue in got].count("a") <= 1
            assert [queue for _, queue in got].count("b") <= 2
            mine += [pk for pk, _ in got]
        return mine

    shares = at_once([claim_all] * CLAIMERS)
    assert sorted(pk for share in shares for pk in share) == pks
    assert {row(store, pk).attempt for pk in pks} == {1}


def test_p9_a_locked_job_of_a_limited_queue_is_passed_over(postgresql: str, session: Session) -> None:
    """The next one of that queue is taken in its place."""
    store = Store(postgresql)
    first, second = put(store, 2, queue="slow")
    run = begin(store)
    with session.atomic(postgresql):
        session(lambda: store.sql.rows("SELECT 1 FROM jobsup_job WHERE id = %s FOR UPDATE", [first]))
        assert take(store, run, ["slow", "mail"], 5, slow=1) == [second]
    assert take(store, run, ["slow", "mail"], 5, slow=1) == [first]


# ---- pausing


@pytest.mark.parametrize("queues", [["mail"], ["other", "mail"], None], ids=["one", "several", "any"])
def test_nobody_takes_jobs_from_a_paused_queue(store: Store, queues: list[str] | None) -> None:
    """The claim itself knows: there is no moment at which a host has not heard of it."""
    pks, run = put(store, 2, queue="mail"), begin(store)
    [other] = put(store, queue="other")
    assert queue_control.pause(store, ["mail"]) == ["mail"]
    rest = [other] if queues != ["mail"] else []
    assert store.sql.claim(run, queues, 9) == rest
    assert take(store, run, queues, 9, mail=1) == []
    assert queue_control.resume(store, ["mail"]) == ["mail"]
    assert store.sql.claim(run, queues, 1, ordered=True) == pks[:1]
    assert take(store, run, queues, 9, mail=1) == pks[1:]


def test_pausing_tells_what_it_changed(store: Store) -> None:
    """Twice is once; what was not paused does not go on."""
    before = store.sql.now()
    assert queue_control.pause(store, ["mail", "other", "mail"]) == ["mail", "other"]
    since = queue_control.paused(store)
    assert list(since) == ["mail", "other"]
    assert all(before <= at <= store.sql.now() for at in since.values())
    assert queue_control.pause(store, ["mail", "third"]) == ["third"]
    assert queue_control.paused(store)["mail"] == since["mail"], "the first time counts"
    assert queue_control.resume(store, ["mail", "never"]) == ["mail"]
    assert list(queue_control.paused(store)) == ["other", "third"]
    assert queue_control.pause(store, []) == queue_control.resume(store, []) == []


@pytest.mark.parametrize("name", ["", "q" * 65, "a\0b"])
def test_what_cannot_be_a_queue_is_refused(store: Store, name: str) -> None:
    """In a sentence, and nothing is changed."""
    for change in (queue_control.pause, queue_control.resume):
        with pytest.raises(ValueError, match=r"is no name of a queue: expected 1 to 64 characters"):
            change(store, ["mail", name])
    with pytest.raises(ValueError, match="'mail' is no name"):
        queue_control.pause(store, "mail")
    assert not Queue.objects.using(store.alias).exists()


def test_a_pause_that_is_rolled_back_never_was(store: Store) -> None:
    """It joins the caller's transaction."""
    put(store, queue="mail")
    with transaction.atomic(using=store.alias):
        queue_control.pause(store, ["mail"])
        transaction.set_rollback(True, using=store.alias)
    assert queue_control.paused(store) == {}
    assert len(store.sql.claim(begin(store), ["mail"], 1)) == 1


def test_only_one_of_many_pauses_a_queue(store: Store) -> None:
    """The others learn that it was paused already."""
    changed = at_once([lambda: queue_control.pause(store, ["mail", "other"])] * CLAIMERS)
    assert sorted(name for names in changed for name in names) == ["mail", "other"]


def test_the_jobs_of_a_run_in_paused_queues_are_known(store: Store) -> None:
    """Those that it has claimed, nobody else's."""
    run, other = begin(store), begin(store)
    mine = claimed(store, run, queue="mail")
    claimed(store, run, queue="other")
    claimed(store, other, queue="mail")
    put(store, queue="mail")
    queue_control.pause(store, ["mail"])
    assert queue_control.paused_jobs(store, run) == [mine]
    queue_control.resume(store, ["mail"])
    assert queue_control.paused_jobs(store, run) == []


# ---- the source


POOLS = (
    Pool(name="mail", workers=1, feeds=("mail",), ordered=True),
    Pool(name="rest", workers=2, feeds=("slow", "other"), ordered=True, at_once={"slow": 1}),
)
NONE: dict[str, int] = {}


@pytest.fixture
def source(routed: str, tmp_path: Path) -> Iterator[DatabaseSource]:
    """A source for two pools, on each database."""
    runfile = RunFile(tmp_path / "source.run")
    connections[routed].close()
    fed = DatabaseSource(Conf(), POOLS, runfile, 1)
    fed.open()
    yield fed
    runfile.release()


def test_each_pool_gets_its_own(source: DatabaseSource, routed: str) -> None:
    """The keys of a queue with a limit are told with it."""
    store = Store(routed)
    slow, mail, other = (put(store, 3, queue=queue) for queue in ("slow", "mail", "other"))
    assert source.claim(2, "mail", NONE).pks == mail[:2]
    taken = source.claim(2, "rest", {"slow": 1})
    assert (taken.pks, taken.feeds) == ([slow[0], other[0]], {slow[0]: "slow"})
    taken = source.claim(2, "rest", {"slow": 0})
    assert (taken.pks, taken.feeds) == (other[1:], {})
    assert source.backlog() == 3


def test_a_pool_finds_what_another_one_was_woken_for(source: DatabaseSource, routed: str, session: Session) -> None:
    """One change of the database is news for every pool."""
    store = Store(routed)
    for _ in range(3):
        assert source.claim(5, "mail", NONE).pks == source.claim(5, "rest", {"slow": 1}).pks == []
    [pk] = session(lambda: put(store, queue="other"))
    assert source.claim(5, "mail", NONE).pks == []
    assert source.claim(5, "rest", {"slow": 1}).pks == [pk]


def test_room_for_one_more_is_a_reason_to_look(source: DatabaseSource, routed: str) -> None:
    """Also when the database has told of no change since the last look."""
    first, second = put(Store(routed), 2, queue="slow")
    assert source.claim(5, "rest", {"slow": 1}).pks == [first]
    for _ in range(3):
        assert source.claim(5, "rest", {"slow": 0}).pks == []
    assert source.claim(5, "rest", {"slow": 1}).pks == [second]


def test_other_pools_serve_other_queues_from_now_on(source: DatabaseSource, routed: str) -> None:
    """As after a reload."""
    [pk] = put(Store(routed), queue="default")
    assert source.claim(5, "mail", NONE).pks == []
    assert source.backlog() == 0
    source.serve([Pool(name="mail", workers=1, feeds=None)])
    assert source.claim(5, "mail", NONE).pks == [pk]


def test_a_pause_is_noticed_and_then_not_told_again(
    source: DatabaseSource, routed: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the notification where there is one; a look in vain costs a statement now and then."""
    monkeypatch.setattr(source_module, "CANCEL_LOOK_S", 1000.0)
    store = Store(routed)
    pks = put(store, 2, queue="mail")
    source.claim(5, "mail", NONE)
    assert source.paused() == []
    session(lambda: queue_control.pause(store, ["mail"]))
    assert eventually(lambda: (source.woken(), source.paused())[1], 60, "the notification") == pks
    if not store.sql.tells_every_change:
        with statements_of(routed) as statements:
            assert source.paused() == []
        assert statements == []
    source.release(pks)
    assert source.paused() == []
    assert source.claim(5, "mail", NONE).pks == []


def test_a_queue_that_goes_on_wakes_the_supervisors(source: DatabaseSource, routed: str, session: Session) -> None:
    """At once."""
    store = Store(routed)
    [pk] = put(store, queue="mail")
    queue_control.pause(store, ["mail"])
    source.woken()
    assert source.claim(5, "mail", NONE).pks == source.claim(5, "mail", NONE).pks == []
    session(lambda: queue_control.resume(store, ["mail"]))
    eventually(lambda: source.woken() or store.sql.tells_every_change, 60, "the notification")
    assert source.claim(5, "mail", NONE).pks == [pk]
