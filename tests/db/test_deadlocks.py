"""Real deadlocks: somebody's transaction and a statement of ours wait for each other, and ours is undone and repeated.

Trap p14 is that of atomic jobs; these are the statements of supervisors, workers and commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.models import F

from jobsup import changes, runs, untold
from jobsup.models import FailedAttempt, Job, Status
from jobsup.sql.transactions import REPEATS_MAX, insisting, is_conflict
from jobsup.store import Store
from spawnpool.errors import SourceUnavailable
from tests.db.rows import Session, begin, claimed, failure, failures_of, loss, put, row, success
from tests.db.test_source import Fed, runfile
from tests.support import eventually
from tests.vendors import ALIASES, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from spawnpool.runfile import RunFile

__all__ = ["runfile"]  # a fixture

pytestmark = pytest.mark.parametrize(
    "alias",
    [ALIASES[name] for name in wanted("postgresql", "mariadb")],
    ids=wanted("postgresql", "mariadb"),
    indirect=True,
)

HEAVY = 200
"""Whoever has written more is spared by InnoDB; PostgreSQL undoes who looks first."""
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status "
    "WHERE variable_name = 'Innodb_row_lock_current_waits'",
}


@pytest.fixture
def stranger() -> Iterator[Session]:
    """Somebody with a transaction of his own."""
    with Session() as session:
        yield session


class Deadlock:
    """Two jobs, of which a stranger wants the second and then the first, while we want the first and then the second.

    Args:
        store: where they are.
        stranger: his session.
        us: ours.
    """

    def __init__(self, store: Store, stranger: Session, us: Session) -> None:
        self.store, self._stranger, self._us = store, stranger, us
        self.victims = 0

    def with_(self, pks: Sequence[int], ours: Callable[[], Any]) -> Any:
        """Do something of ours while the stranger is in our way; return what it returned."""
        (first, second), self.victims = pks, 0
        others = put(self.store, HEAVY, queue="other")
        with self._stranger.atomic(self.store.alias):
            self._stranger(lambda: self._look_after("1min"))
            self._write(others)
            self._write([second])
            doing = self._us.begin(lambda: self._counting(ours))
            eventually(self._somebody_waits, 10, "our statement to wait for his")
            self._write([first])
        answer = doing.result(30)
        assert self.victims >= 1, "there was no deadlock"
        return answer

    def _write(self, pks: Sequence[int]) -> None:
        jobs = Job.objects.using(self.store.alias).filter(pk__in=pks)
        self._stranger(lambda: jobs.update(keep_s=F("id")))

    def _somebody_waits(self) -> bool:
        connection = connections[self.store.alias]
        with connection.cursor() as cursor:
            cursor.execute(WAITING[connection.vendor])
            (waiting,) = cursor.fetchone()
        return int(waiting) > 0

    def _counting(self, ours: Callable[[], Any]) -> Any:
        def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
            try:
                return execute(sql, params, many, context)
            except OperationalError as error:
                self.victims += is_conflict(error)
                raise

        self._look_after("500ms")
        try:
            with connections[self.store.alias].execute_wrapper(execute):
                return ours()
        finally:
            connections[self.store.alias].close()

    def _look_after(self, delay: str) -> None:
        """Have PostgreSQL look for a deadlock, which it does once, when this session has waited for so long."""
        if connections[self.store.alias].vendor == "postgresql":
            self.store.sql.rows("SELECT set_config('deadlock_timeout', %s, false)", [delay])


@pytest.fixture
def deadlock(alias: str, stranger: Session, session: Session) -> Deadlock:
    """A way to get into one."""
    return Deadlock(Store(alias), stranger, session)


def owned(store: Store) -> tuple[int, list[int]]:
    """Return a run and two jobs that it has."""
    run = begin(store)
    return run, [claimed(store, run) for _ in range(2)]


def ended(store: Store) -> tuple[int, list[int]]:
    """Return a run and two jobs that have failed there."""
    run, pks = owned(store)
    assert store.finish(run, [failure(pk) for pk in pks]) == set(pks)
    return run, pks


def test_p14_jobs_go_back(deadlock: Deadlock) -> None:
    """A supervisor gives back what was not begun."""
    store = deadlock.store
    run, pks = owned(store)
    deadlock.with_(pks, lambda: store.release(run, pks))
    assert [(row(store, pk).status, row(store, pk).attempt) for pk in pks] == [(Status.READY, 0)] * 2


def test_p14_lost_attempts_are_told_once(deadlock: Deadlock) -> None:
    """Of a worker that was killed."""
    store = deadlock.store
    run, pks = owned(store)
    accounts = deadlock.with_(pks, lambda: store.lost(run, [loss(pk) for pk in pks]))
    assert sorted(account.pk for account in accounts) == pks
    assert [len(failures_of(store, pk)) for pk in pks] == [1, 1]


def test_p14_ends_are_recorded_once(deadlock: Deadlock) -> None:
    """Of jobs that went well and of such that failed, together."""
    store = deadlock.store
    run, pks = owned(store)
    good, bad = pks
    assert deadlock.with_(pks, lambda: store.finish(run, [success(good), failure(bad)])) == {good, bad}
    assert (row(store, good).status, row(store, bad).status) == (Status.SUCCESSFUL, Status.FAILED)
    assert FailedAttempt.objects.using(store.alias).count() == 1


def test_p14_jobs_of_a_dead_supervisor_are_taken_over(deadlock: Deadlock) -> None:
    """Each is accounted for once."""
    store = deadlock.store
    run, pks = owned(store)
    runs.end(store, run)
    heir = begin(store)
    accounts = deadlock.with_(pks, lambda: runs.recover(store, heir, "another"))
    assert sorted(account.pk for account in accounts) == pks


def test_p14_what_people_change(deadlock: Deadlock) -> None:
    """They are tried anew, cancelled, get another priority, are removed."""
    store = deadlock.store
    _, pks = ended(store)
    assert deadlock.with_(pks, lambda: changes.retry(store, pks)) == pks
    assert deadlock.with_(pks, lambda: changes.reprioritise(store, pks, 7)) == pks
    assert {row(store, pk).priority for pk in pks} == {7}
    assert deadlock.with_(pks, lambda: store.cancel(pks)) == dict.fromkeys(pks, Status.CANCELLED)
    assert deadlock.with_(pks, lambda: changes.remove(store, pks)) == 2
    assert not store.statuses(pks)


def test_p14_ends_of_which_nobody_has_told_are_adopted(deadlock: Deadlock) -> None:
    """By the supervisor that comes after."""
    store = deadlock.store
    run, pks = ended(store)
    runs.end(store, run)
    Job.objects.using(store.alias).filter(pk__in=pks).update(untold=True)
    heir = begin(store)
    assert deadlock.with_(pks, lambda: untold.adopt(store, heir))
    assert {row(store, pk).claimed_by for pk in pks} == {heir}


def test_p14_ends_of_which_nobody_has_told_are_taken_once(deadlock: Deadlock) -> None:
    """By the worker that tells of them."""
    store = deadlock.store
    run, pks = ended(store)
    Job.objects.using(store.alias).filter(pk__in=pks).update(untold=True)
    assert deadlock.with_(pks, lambda: untold.take(store, pks, run)) == set(pks)
    assert not untold.take(store, pks, run)


def test_p14_within_a_transaction_of_the_callers_it_reaches_the_caller(deadlock: Deadlock) -> None:
    """All of that is undone: only who began it can repeat it."""
    store = deadlock.store
    run, pks = owned(store)

    def ours() -> None:
        with transaction.atomic(using=store.alias):
            store.release(run, pks)

    with pytest.raises(OperationalError) as told:
        deadlock.with_(pks, ours)
    assert is_conflict(told.value)
    assert {row(store, pk).status for pk in pks} == {Status.RUNNING}


def test_p14_it_is_not_repeated_for_ever(deadlock: Deadlock) -> None:
    """Nor is anything else that goes wrong."""
    store, tries = deadlock.store, []

    def raising(error: Exception) -> Callable[[], None]:
        def action() -> None:
            tries.append(1)
            raise error

        return action

    with pytest.raises(OperationalError) as told:
        _conflict(deadlock)
    always = raising(told.value)
    with pytest.raises(OperationalError):
        insisting(connections[store.alias], always)
    assert len(tries) == REPEATS_MAX + 1
    tries.clear()
    with pytest.raises(OperationalError):
        insisting(connections[store.alias], raising(OperationalError("the server has gone")))
    assert len(tries) == 1


def test_a_lock_that_somebody_keeps_for_long_delays_what_a_supervisor_owes(
    routed: str, runfile: RunFile, stranger: Session
) -> None:
    """It waits for a few seconds only, says so, and tries again later; nothing of it is lost or done twice."""
    connections[routed].close()  # earlier tests have prepared this one otherwise
    fed = Fed(routed, runfile, lease_s=9.0)  # so that it waits for 1.5 s
    given, lost = put(fed.store, 2)
    assert fed.source.claim(2).pks == [given, lost]
    jobs = Job.objects.using(routed).filter(pk__in=[given, lost])
    debts: list[Callable[[], object]] = [lambda: fed.source.release([given]), lambda: fed.killed(lost)]
    with stranger.atomic(routed):
        stranger(lambda: jobs.update(keep_s=1))
        for owed in debts:
            with pytest.raises(SourceUnavailable, match=r"^waiting for the database .*(lock|timeout|canceling|time)"):
                owed()
    fed.source.release([given])
    fed.killed(lost)
    assert (row(fed.store, given).status, row(fed.store, given).attempt) == (Status.READY, 0)
    assert len(failures_of(fed.store, lost)) == 1
    fed.source.close(finished=True)


def _conflict(deadlock: Deadlock) -> None:
    """Raise what the server says to the victim of a deadlock."""
    store = deadlock.store
    pks = put(store, 2)

    def ours() -> None:
        with transaction.atomic(using=store.alias):
            store.cancel(pks)

    deadlock.with_(pks, ours)
