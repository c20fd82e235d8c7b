"""Wake-ups: at the commit, to whoever wants them, and at no cost for those who enqueue when nobody does."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from jobsup import doorbell
from jobsup.doorbell import SLOTS, Doorbell, ring
from jobsup.locks import HUSH, LOCKS
from jobsup.store import Store
from jobsup.vigil import CALLS_MAX
from tests.db.rows import new_row, put, statements_of
from tests.db.test_source import Fed, emptied, postgresql_routed, runfile
from tests.support import eventually, fds_of
from tests.vendors import ALIASES, wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsup.sql import Statements
    from spawnpool.runfile import RunFile
    from tests.db.rows import Session

__all__ = ["postgresql_routed", "runfile"]  # fixtures

MANY = CALLS_MAX + 20
ON_OTHERS = pytest.mark.parametrize(
    "alias", [ALIASES[name] for name in wanted("sqlite", "mariadb")], ids=wanted("sqlite", "mariadb"), indirect=True
)


def all_speak(sql: Statements) -> None:
    """Wait until nobody hushes: the server may take its time over the end of an earlier session."""
    locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s"
    eventually(lambda: not sql.rows(locks, (LOCKS, HUSH)), 30, "the server's end of that session")


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


class Listener:
    """A supervisor's session beside ours."""

    def __init__(self, alias: str, session: Session) -> None:
        self.sql, self._session = Store(alias).sql, session
        all_speak(self.sql)
        session(lambda: self.sql.attend(listen=True))
        self.called()

    def called(self) -> int:
        """Return how often it was called; the answer to a statement brings what was sent before it."""
        self._session(self.sql.now)
        return self._session(self.sql.woken)

    def hush(self, *, wanted: bool) -> bool:
        """Ask for silence, or for the contrary; return whether it is silent for its sake."""
        self._session(lambda: self.sql.hush(wanted=wanted))
        return self._session(lambda: self.sql.hushing)


def test_p11_nobody_notifies_while_a_supervisor_hushes(postgresql: str, session: Session) -> None:
    """Neither an enqueue, nor many, nor a job that is put back; what is said to supervisors at work gets through."""
    listener = Listener(postgresql, session)
    put(Store(postgresql))
    assert listener.called() == 1
    assert listener.hush(wanted=True)
    store = Store(postgresql)
    put(store, 3)
    store.sql.notify()
    assert listener.called() == 0
    store.sql.notify("cancel")
    assert listener.called() == 1
    assert not listener.hush(wanted=False)
    eventually(lambda: store.sql.may_wake, 10, "the end of what it knew")  # type: ignore[attr-defined]
    put(store)
    assert listener.called() == 1


def test_p11_who_knows_of_a_hush_does_not_ask_again_for_a_moment(postgresql: str, session: Session) -> None:
    """The statement is a plain INSERT then."""
    listener, store = Listener(postgresql, session), Store(postgresql)
    listener.hush(wanted=True)
    put(store)
    store.sql._known_until += 60  # type: ignore[attr-defined]
    with statements_of(postgresql) as statements:
        put(store)
    assert len(statements) == 1
    assert "pg_" not in statements[0]


def test_p11_a_hush_ends_with_its_session(postgresql: str, session: Session) -> None:
    """However that ends: there is nothing to clean up."""
    listener = Listener(postgresql, session)
    assert listener.hush(wanted=True)
    session(connections.close_all)
    assert not session(lambda: listener.sql.hushing)
    listener = Listener(postgresql, session)
    put(Store(postgresql))
    assert listener.called() == 1


def test_p11_an_open_transaction_does_not_keep_a_supervisor_from_hushing(postgresql: str, session: Session) -> None:
    """Whoever enqueues lets go of the lock at once, and has no lock left."""
    listener = Listener(postgresql, session)
    with transaction.atomic(using=postgresql):
        put(Store(postgresql), 2)
        with connections[postgresql].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
            assert cursor.fetchone() == (0,)
        assert listener.hush(wanted=True)
    assert listener.called() == 1, "what was said before the hush is heard"


def test_p11_one_supervisor_hushes_and_the_others_learn_of_it(postgresql: str, session: Session) -> None:
    """By the look that finds nothing; one's own hush is no reason to hear of it."""
    listener, other = Listener(postgresql, session), Store(postgresql).sql
    other.attend(listen=True)
    listener.hush(wanted=True)
    session(listener.sql.next_due_s)
    assert not listener.sql.hushed_by_others
    other.hush(wanted=True)
    assert not other.hushing
    for look in (other.next_due_s, lambda: other.glance(None), lambda: other.glance(["default"])):
        other.hushed_by_others = False
        look()
        assert other.hushed_by_others
    listener.hush(wanted=False)
    other.next_due_s()
    assert not other.hushed_by_others


def test_p11_a_supervisor_that_is_called_all_the_time_hushes_and_looks(
    postgresql_routed: str, runfile: RunFile, session: Session
) -> None:
    """It finds everything, also over a new connection; when there is nothing left it is called again."""
    connections[postgresql_routed].close()  # earlier tests listened on this one
    fed = Fed(postgresql_routed, runfile)
    sql = fed.source._store.sql
    emptied(fed)
    rare_s = fed.source.next_due_s()
    session(lambda: put(fed.store, MANY))
    eventually(lambda: fed.source.woken() and fed.source._lookout.must_speak, 10, "too many calls")
    assert fed.source.claim(MANY).pks
    assert sql.hushing
    assert (fed.source.next_due_s() or 0) < 0.1 < (rare_s or 0)
    fed.source.before_check()
    assert fed.source.woken(), "the hush goes on over a new connection at once"
    assert not fed.source.woken()
    fed.source.cancelled()
    assert sql.hushing
    late = session(lambda: put(fed.store, 2))
    assert fed.source.claim(MANY).pks == late
    eventually(lambda: not fed.source.claim(1).pks and not sql.hushing, 30, "the end of the hush")
    eventually(lambda: fed.store.sql.may_wake, 10, "the end of what was known")  # type: ignore[attr-defined]
    [pk] = session(lambda: put(Store(postgresql_routed)))
    eventually(fed.source.woken, 10, "the call")
    assert fed.source.claim(5).pks == [pk]


def test_a_look_without_reason_is_one_statement_that_locks_nothing(postgresql_routed: str, runfile: RunFile) -> None:
    """As long as there is nothing; it learns of what is scheduled, and a job that nobody told of is claimed."""
    fed = Fed(postgresql_routed, runfile)
    emptied(fed)
    with statements_of(postgresql_routed) as statements:
        assert fed.source.claim(5).pks == []
    assert len(statements) == 1, statements
    assert "UPDATE" not in statements[0]
    silent = Store(postgresql_routed, notify=False)
    put(silent, run_after=silent.sql.now() + timedelta(seconds=2))
    fed.source.claim(5)
    assert (fed.source.next_due_s() or 9) <= 2
    pks = put(silent, 2)
    assert fed.source.claim(5).pks == pks


def test_a_glance_says_what_a_look_would(alias: str) -> None:
    """Whether anything is ready in these queues, and when the next job is due."""
    store = Store(alias)
    assert store.sql.glance(None) == store.sql.glance(["default"]) == (False, None)
    put(store, run_after=store.sql.now() + timedelta(hours=1))
    ready, due_in_s = store.sql.glance(None)
    assert not ready
    assert due_in_s == pytest.approx(3600, abs=60)
    put(store)
    assert store.sql.glance(None)[0]
    assert store.sql.glance(["other", "default"])[0]
    assert not store.sql.glance(["other"])[0]


# -- where the database tells nobody ----------------------------------------------------------------------------------


@pytest.fixture
def bell(alias: str) -> Iterator[Doorbell]:
    """The doorbell of a supervisor."""
    sql: Any = Store(alias).sql
    hung = Doorbell(sql.identity())
    yield hung
    hung.close()


@ON_OTHERS
def test_d7_it_rings_at_the_commit_and_never_before(alias: str, bell: Doorbell) -> None:
    """Not at all for what was rolled back; once for many; after what users had registered before, none of it lost."""
    store, done = Store(alias), []
    put(store)
    assert bell.heard() == 1
    with transaction.atomic(using=alias):
        transaction.on_commit(lambda: done.append(bell.heard()), using=alias)
        put(store, 3)
        transaction.on_commit(lambda: done.append(bell.heard()), using=alias)
        assert bell.heard() == 0
    assert done == [0, 1]
    with transaction.atomic(using=alias):
        put(store)
        transaction.set_rollback(True, using=alias)
    with transaction.atomic(using=alias), transaction.atomic(using=alias):
        put(store)
        transaction.set_rollback(True, using=alias)
    assert bell.heard() == 0
    store.enqueue_many(new_row(), [['{"args":[],"kwargs":{}}'] * 2] * 3, lambda *_: None)
    assert bell.heard() == 1
    put(Store(alias, notify=False))
    assert bell.heard() == 0


@ON_OTHERS
def test_a_transaction_without_atomic_is_left_to_the_looks(alias: str, bell: Doorbell) -> None:
    """Nobody tells when that commits; it is no error."""
    connection = connections[alias]
    connection.ensure_connection()
    transaction.set_autocommit(False, using=alias)
    try:
        put(Store(alias))
        transaction.commit(using=alias)
    finally:
        transaction.set_autocommit(True, using=alias)
    assert bell.heard() == 0


@ON_OTHERS
def test_a_source_hears_its_doorbell(routed: str, runfile: RunFile, bell: Doorbell, session: Session) -> None:
    """Its own one: the first name is taken; and it keeps that when it closes its connections."""
    fed = Fed(routed, runfile)
    emptied(fed)
    fd = fed.source.wakeup_fd()
    assert fd not in (None, bell.fileno())
    assert not fed.source.woken()
    pks = session(lambda: put(fed.store))
    assert fed.source.woken()
    assert not fed.source.woken()
    assert fed.source.claim(5).pks == pks
    fed.source.before_check()
    assert fed.source.wakeup_fd() == fd
    assert not fed.source.woken(), "closing connections is no reason to look"
    assert connections[routed].connection is None
    put(fed.store)
    assert fed.source.woken(), "it needs no connection to hear"
    assert len(fed.source.claim(5).pks) == 1
    assert fed.source.wakeup_fd() == fd


@ON_OTHERS
def test_p11_a_doorbell_that_rings_all_the_time_is_not_heard_for_a_while(
    routed: str, runfile: RunFile, bell: Doorbell, session: Session
) -> None:
    """Each ring would cost a look, and a look takes the lock of those who enqueue."""
    fed = Fed(routed, runfile)
    emptied(fed)
    found: list[int] = []
    pks: list[int] = []
    give_up_at = time.monotonic() + 60
    while not fed.source._lookout.must_speak:
        assert time.monotonic() < give_up_at
        pks += session(lambda: put(fed.store, 4))
        fed.source.woken()
    found += fed.source.claim(1000).pks
    found += fed.source.claim(1000).pks
    assert fed.source.wakeup_fd() is None
    pks += session(lambda: put(fed.store, 4))

    def quiet() -> bool:
        found.extend(fed.source.claim(1000).pks)
        return fed.source.wakeup_fd() is not None

    eventually(quiet, 30, "the end of the hush")
    assert sorted(found) == pks
    session(lambda: put(fed.store))
    assert fed.source.woken()


@ON_OTHERS
def test_a_supervisor_that_has_left_gives_its_name_back(routed: str, runfile: RunFile) -> None:
    """Whatever still knows of it in its process."""
    fed = Fed(routed, runfile)
    assert fed.source.wakeup_fd() is not None
    fed.source.close(finished=True)
    for other in [Doorbell(fed.store.sql.identity()) for _ in range(SLOTS)]:  # type: ignore[attr-defined]
        other.close()


@ON_OTHERS
def test_without_a_doorbell_it_looks_every_second(routed: str, runfile: RunFile) -> None:
    """All names are taken: nobody can call this one."""
    sql: Any = Store(routed).sql
    others = [Doorbell(sql.identity()) for _ in range(SLOTS)]
    fed = Fed(routed, runfile)
    emptied(fed)
    assert fed.source.wakeup_fd() is None
    assert (fed.source.next_due_s() or 9) <= 1
    for other in others:
        other.close()


def test_several_supervisors_are_rung_for() -> None:
    """Each has a name of its own until all are taken; one that was killed leaves none behind."""
    bell = Doorbell(f"of the test in process {os.getpid()}")
    others = [Doorbell(bell.database) for _ in range(SLOTS - 1)]
    with pytest.raises(OSError, match="in use"):
        Doorbell(bell.database)
    ring(bell.database)
    assert [each.heard() for each in (bell, *others)] == [1] * SLOTS
    others.pop(0).close()
    others.append(Doorbell(bell.database))
    ring(bell.database)
    assert [each.heard() for each in (bell, *others)] == [1] * SLOTS
    for each in (bell, *others):
        each.close()


@ON_OTHERS
def test_a_doorbell_costs_a_producer_nothing(bell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nobody, leaves nothing open, and needs nobody at home; without such sockets nothing happens."""
    before = fds_of(os.getpid()).keys()
    for _ in range(2000):  # far more than the kernel keeps for a receiver
        ring(bell.database)
    assert 0 < bell.heard() < 2000
    ring("nobody's database")
    assert fds_of(os.getpid()).keys() == before
    assert not os.get_inheritable(bell.fileno())
    monkeypatch.setattr(doorbell, "POSSIBLE", False)
    ring(bell.database)
    assert bell.heard() == 0
    with pytest.raises(OSError, match="only Linux"):
        Doorbell(bell.database)


@ON_OTHERS
def test_what_a_stranger_sends_is_a_ring_and_no_more(bell: Doorbell) -> None:
    """Anybody on the machine may send; nothing of it is read."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"x" * 10_000, bell._socket.getsockname())
    assert bell.heard() == 1


def test_a_database_in_memory_rings_for_nobody(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is this process' own; so tests of users' projects have no callback of ours at their commits."""
    sql: Any = Store(sqlite).sql
    monkeypatch.setattr(connections[sqlite], "is_in_memory_db", lambda: True)
    assert sql.identity() is None
    with transaction.atomic(using=sqlite):
        sql.notify()
        assert connections[sqlite].run_on_commit == []
    assert sql.attend(listen=True) is None
