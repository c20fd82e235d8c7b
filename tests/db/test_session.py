"""The supervisor's session of PostgreSQL: no wait is endless, what it hears is proven, a pooler is borne."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction

from jobsup.sql import connecting, statements
from jobsup.sql.postgresql import PostgreSQL
from jobsup.sql.postgresql.driver import is_psycopg3
from jobsup.sql.postgresql.poolers import LocalTimeouts
from jobsup.store import Store
from tests import databases, settings
from tests.db.poolers import pooler
from tests.db.rows import begin, put
from tests.postgres import Cluster
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

MOST_S = 0.5
SLACK_S = 20.0  # a busy machine may take that much longer; what is shown would else wait for ever
OTHER = "another"


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that a test may stop."""
    with Cluster() as cluster:
        yield cluster


@contextmanager
def declared(alias: str, database: dict[str, Any]) -> Iterator[None]:
    """Have an alias in this process for a while."""
    databases._declare(alias, database)
    try:
        yield
    finally:
        connections[alias].close()
        connecting.leave_out_pools()
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture
def freezing(own_cluster: Cluster) -> Iterator[PostgreSQL]:
    """The statements of a server that a test may stop, with short waits."""
    with declared(OTHER, settings.postgresql(own_cluster.url())):
        found = statements(OTHER)
        assert isinstance(found, PostgreSQL)
        found.bound_waits(MOST_S)
        yield found


@contextmanager
def given_up(most_s: float) -> Iterator[None]:
    """Fail unless the server is given up in the time that it has."""
    began = time.monotonic()
    with pytest.raises(OperationalError):
        yield
    assert time.monotonic() - began < most_s + SLACK_S


def test_s2_a_statement_that_a_frozen_server_does_not_answer_is_given_up(
    freezing: PostgreSQL, own_cluster: Cluster
) -> None:
    """Also within a transaction; its connection is closed without a word, and the next one works."""
    with freezing.briefly():
        freezing.attend(listen=True)
        with own_cluster.frozen(), given_up(MOST_S):
            freezing.rows("SELECT 1")
        connections[OTHER].close()
        freezing.attend(listen=True)
        with own_cluster.frozen(), given_up(MOST_S), transaction.atomic(using=OTHER):
            freezing.rows("SELECT 1")
        connections[OTHER].close()
        freezing.attend(listen=True)
        assert freezing.rows("SELECT 1") == [(1,)]


def test_s2_a_large_statement_that_a_frozen_server_does_not_take_in_is_given_up(
    freezing: PostgreSQL, own_cluster: Cluster
) -> None:
    """It fills the socket, so that sending it waits."""
    with freezing.briefly():
        freezing.attend(listen=True)
        with own_cluster.frozen(), given_up(MOST_S):
            freezing.rows("SELECT length(%s)", ["x" * 10_000_000])
        connections[OTHER].close()


def test_s2_a_frozen_server_that_takes_a_connection_in_is_given_up(freezing: PostgreSQL, own_cluster: Cluster) -> None:
    """The kernel accepts it, nobody greets."""
    with freezing.briefly(), own_cluster.frozen(), given_up(2 * MOST_S):
        freezing.attend(listen=True)


def test_s2_the_server_is_the_first_to_give_up_and_the_connection_stays(freezing: PostgreSQL) -> None:
    """A statement, or a lock, that takes too long costs no connection."""
    with freezing.briefly():
        freezing.attend(listen=True)
        driver = connections[OTHER].connection
        with pytest.raises(OperationalError, match="statement timeout"):
            freezing.rows("SELECT pg_sleep(60)")
        assert connections[OTHER].connection is driver
        assert freezing.rows("SELECT 1") == [(1,)]


def test_s2_only_what_the_supervisor_does_is_bounded(freezing: PostgreSQL, own_cluster: Cluster) -> None:
    """Else this process waits as it always did, and may COPY."""
    with freezing.briefly():
        freezing.attend(listen=True)
    answer: list[Any] = []
    connection = connections[OTHER]
    connection.inc_thread_sharing()
    waiting = threading.Thread(target=lambda: answer.append(one(connection)))
    with own_cluster.frozen():
        waiting.start()
        waiting.join(MOST_S * 2)
        assert waiting.is_alive()
    waiting.join(SLACK_S)
    connection.dec_thread_sharing()
    assert answer == [1]


def one(connection: BaseDatabaseWrapper) -> Any:
    """Return 1, by way of the server."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()[0]


# -- what it hears ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sql(postgresql: str) -> Iterator[PostgreSQL]:
    """Statements as a supervisor begins with them."""
    connections[postgresql].close()
    found = statements(postgresql)
    assert isinstance(found, PostgreSQL)
    yield found
    connections[postgresql].close()
    connections[postgresql].execute_wrappers.clear()


@contextmanager
def through(cluster: Cluster, name: str, **how: bool) -> Iterator[PostgreSQL]:
    """Provide statements that go through a stand-in for a pooler."""
    with pooler(cluster.directory, **how) as folder:
        there = settings.postgresql(cluster.url(name)) | {"HOST": folder}
        with declared(OTHER, there):
            found = statements(OTHER)
            assert isinstance(found, PostgreSQL)
            found.bound_waits(MOST_S)
            yield found


def listens(sql: PostgreSQL) -> set[str]:
    """Return the channels of the session."""
    return {name for (name,) in sql.rows("SELECT pg_listening_channels()")}


def say(statement: str) -> None:
    """Execute a statement as somebody else, straight at the server."""
    with closing(connections["postgresql"].copy()) as other, other.cursor() as cursor:
        cursor.execute(statement)


def test_a_session_that_listens_has_heard_itself(sql: PostgreSQL) -> None:
    """It is woken by others afterwards; how long its statements may take is set."""
    assert sql.attend(listen=True) is not None
    assert (sql.deafness, "jobsup" in listens(sql)) == ("", True)
    assert not sql.changed(), "its own words are no news"
    say("NOTIFY jobsup, 'cancel'")
    eventually(sql.changed, what="the wake-up")
    assert sql.cancel_heard()
    assert sql.rows("SHOW statement_timeout") == [("4050ms",)]


def test_it_hears_itself_only_now_and_then(sql: PostgreSQL) -> None:
    """A connection lives for seconds; the proof costs a statement a minute."""
    counts = []
    for _ in range(3):
        sql.connection.close()
        sql.attend(listen=True)
        counts.append(len(listens(sql)))
    assert counts == [2, 1, 1], "the channel of the proof, and that of the wake-ups"


def test_one_that_does_not_listen_is_not_deaf(sql: PostgreSQL) -> None:
    """NOTIFY = False."""
    assert sql.attend(listen=False) is None
    assert (sql.deafness, listens(sql)) == ("", set())


def test_d5_a_pooler_by_transactions_is_found_and_its_sessions_are_left_as_they_are(
    postgresql: str, postgres_cluster: Cluster
) -> None:
    """No LISTEN, no SET; each statement has its own time-outs, and what it returns is what it returned."""
    name = connections[postgresql].settings_dict["NAME"]
    with through(postgres_cluster, name) as sql, sql.briefly():
        assert sql.attend(listen=True) is None
        assert "pools by transactions" in sql.deafness
        assert listens(sql) == set()
        assert sql.rows("SELECT current_setting('lock_timeout')") == [("450ms",)]
        with pytest.raises(OperationalError, match="statement timeout"):
            sql.rows("SELECT pg_sleep(60)")
        with transaction.atomic(using=OTHER):
            assert sql.rows("SELECT x FROM unnest(%s) AS x", [[1, 2]]) == [(1,), (2,)]
            assert sql.run("UPDATE jobsup_job SET status = 0 WHERE false") == 0
        own = [wrapper for wrapper in connections[OTHER].execute_wrappers if isinstance(wrapper, LocalTimeouts)]
        assert len(own) == 1
        connections[OTHER].execute_wrappers.clear()
        assert sql.rows("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')") == [("0", "0")]


def test_d5_through_a_pooler_by_transactions_jobs_are_enqueued_claimed_and_finished(
    postgresql: str, postgres_cluster: Cluster
) -> None:
    """With the time-outs before each statement."""
    name = connections[postgresql].settings_dict["NAME"]
    with through(postgres_cluster, name) as sql, sql.briefly():
        store = Store(OTHER)
        sql.attend(listen=True)
        run = begin(store)
        pks = put(store, 3)
        assert store.claim(run, None, 3) == pks
        store.release(run, pks[:1])
        assert store.claimed_by(run) == {*pks[1:]}
        assert store.claim(run, ["default"], 1) == pks[:1]
        assert sql.rows("SELECT name FROM pg_prepared_statements") == []
        assert store.beat(run, "running")


def test_d5_a_pooler_by_sessions_is_listened_through(postgresql: str, postgres_cluster: Cluster) -> None:
    """It is asked once what it keeps."""
    name = connections[postgresql].settings_dict["NAME"]
    with through(postgres_cluster, name, by_sessions=True) as sql, sql.briefly():
        assert sql.attend(listen=True) is not None
        assert sql.deafness == ""
        assert "jobsup" in listens(sql)
        say("NOTIFY jobsup")
        eventually(sql.changed, what="the wake-up")


def test_d5_another_alias_is_listened_on_and_proven_by_what_is_said_on_its_own(
    postgresql: str, postgres_cluster: Cluster
) -> None:
    """Past the pooler; one of another database, or one that is not there, is told of and tried again later."""
    name = connections[postgresql].settings_dict["NAME"]
    past = {
        "right": settings.postgresql(postgres_cluster.url(name)),
        "wrong": settings.postgresql(postgres_cluster.url()),
    }
    with ExitStack() as stack:
        for alias, place in {**past, "none": past["right"] | {"HOST": "/nowhere"}}.items():
            stack.enter_context(declared(alias, place))
        sql = stack.enter_context(through(postgres_cluster, name))
        stack.enter_context(sql.briefly())
        for alias, words in {"right": "", "wrong": "the same database", "none": "cannot be reached"}.items():
            sql.listening_alias = alias
            sql._prove_at = 0.0  # a minute has passed
            connections.close_all()
            assert (sql.attend(listen=True) is None) is bool(words)
            assert words in sql.deafness
        began = connections["none"].connection
        connections[OTHER].close()
        assert sql.attend(listen=True) is None, "it is left alone for a while"
        assert began is None
        connections["none"].settings_dict["HOST"] = past["right"]["HOST"]
        sql._prove_at = 0.0
        connections[OTHER].close()
        assert sql.attend(listen=True) is not None
        assert sql.deafness == ""
        say("NOTIFY jobsup")
        eventually(sql.changed, what="the wake-up")


# -- how jobsup's processes connect -----------------------------------------------------------------------------------


def test_d4_a_pool_is_closed_and_left_out(postgresql: str, postgres_cluster: Cluster) -> None:
    """What stands in DATABASES is for other processes; with psycopg 2 there is no pool."""
    place = settings.postgresql(postgres_cluster.url())
    with declared(OTHER, place | {"OPTIONS": {"pool": True} if is_psycopg3() else {}}):
        connection: Any = connections[OTHER]
        one(connection)
        before = threading.active_count()
        connecting.leave_out_pools()
        assert connection.pool is None
        assert threading.active_count() == (before - 4 if is_psycopg3() else before), "those of the pool"
        assert connection.connection is None or not is_psycopg3()
        assert one(connection) == 1


def test_d2_what_the_project_says_of_its_connections_stands(postgres_cluster: Cluster) -> None:
    """A worker notices a server that has gone within a minute, unless the project has it otherwise."""
    place = settings.postgresql(postgres_cluster.url()) | {"OPTIONS": {"tcp_user_timeout": 77}}
    with declared(OTHER, place):
        connecting.for_worker()
        options = connections[OTHER].settings_dict["OPTIONS"]
        assert options == connecting.WORKER | {"tcp_user_timeout": 77}
        assert one(connections[OTHER]) == 1
        connecting.for_supervisor(OTHER, 4.5)
        assert (options["connect_timeout"], options["tcp_user_timeout"]) == (4, 77)
        assert one(connections[OTHER]) == 1
