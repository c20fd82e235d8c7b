"""A server that takes no more connections: known by what it says, whatever server, driver and limit that is."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from django.db import OperationalError, connections

from jobsup import recorder
from jobsup.reaching import connect
from jobsup.recorder import ROOM_TRIES, insist
from jobsup.sql.trouble import CROWDED_WORDS, is_crowded
from spawnpool.errors import SourceCrowded, SourceUnavailable
from tests.vendors import ON_MARIADB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mariadb import Server
    from tests.postgres import Cluster

FULL = "connection to server failed: FATAL:  sorry, too many clients already\nmore"


@pytest.fixture
def limited(postgresql: str, postgres_cluster: Cluster) -> Iterator[Any]:
    """The wrapper of a connection whose user may have none."""
    postgres_cluster.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    connection = connections.create_connection(postgresql)
    connection.settings_dict = {**connection.settings_dict, "USER": "crowded"}
    yield connection
    postgres_cluster.execute("DROP ROLE crowded")


def test_d3_postgresql_says_so_and_a_worker_does_not_wait(limited: Any) -> None:
    """It has no code for that where somebody wants to connect."""
    with pytest.raises(OperationalError) as told:
        limited.ensure_connection()
    assert is_crowded(told.value)
    with pytest.raises(SourceCrowded, match=r"^the database 'postgresql' has no connection left: .*crowded"):
        connect(limited)


@ON_MARIADB
def test_d3_mariadb_says_so(mariadb_server: Server) -> None:
    """To a user that has as many as it may."""
    mariadb_server.execute("CREATE USER crowded@localhost WITH MAX_USER_CONNECTIONS 1")

    def one() -> Any:
        return pymysql.connect(unix_socket=str(mariadb_server.socket), user="crowded")

    with closing(one()), pytest.raises(pymysql.OperationalError) as told:
        one()
    mariadb_server.execute("DROP USER crowded@localhost")
    assert is_crowded(told.value)
    assert is_crowded(pymysql.OperationalError(1040, "Too many connections"))


def test_d3_a_server_that_is_away_is_not_crowded(limited: Any) -> None:
    """It is waited for by the first job."""
    limited.settings_dict = {**limited.settings_dict, "HOST": "/nowhere"}
    connect(limited)
    with pytest.raises(OperationalError) as told:
        limited.ensure_connection()
    assert not is_crowded(told.value)


@pytest.mark.parametrize("words", CROWDED_WORDS)
def test_d3_other_words_for_it(words: str) -> None:
    """Of servers, roles and poolers."""
    assert is_crowded(OperationalError(f"FATAL:  {words}"))


def test_d3_who_can_be_replaced_gives_way_and_who_has_something_to_record_waits(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that were not begun can be run by others; ends cannot be recorded by them."""
    monkeypatch.setattr(recorder, "RETRY_S", (0.0,) * 7)
    tries: list[int] = []

    def refused() -> None:
        tries.append(1)
        raise OperationalError(FULL)

    with pytest.raises(SourceCrowded, match=rf"^the database {sqlite!r} has no connection left: [^\n]*already$"):
        insist(refused, sqlite, "jobs cannot be read", gives_way=True)
    assert len(tries) == ROOM_TRIES
    tries.clear()
    with pytest.raises(SourceUnavailable, match=r"^ends cannot be recorded in the database"):
        insist(refused, sqlite, "ends cannot be recorded")
    assert len(tries) == 7
