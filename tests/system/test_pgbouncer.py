"""Through a real PgBouncer: supervisors and workers behind it, by transactions and by sessions (trap D5)."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from jobsup.models import Status
from tests import databases, settings
from tests.databases import Database
from tests.pgbouncer import PgBouncer
from tests.postgres import Cluster
from tests.support import eventually, kill
from tests.system.jobs import (
    assert_nobody_owns_anything,
    assert_once,
    is_idle,
    row,
    status,
    wait_begun,
    wait_final,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 60
SESSIONS = 3
DEAF = "a pooler that pools by transactions, such as PgBouncer, stands before database 'default'"


@pytest.fixture(scope="module")
def bouncer(postgresql_template: Cluster) -> Iterator[PgBouncer]:
    """A pooler by transactions with few sessions, so that clients get each other's."""
    with PgBouncer(postgresql_template, size=SESSIONS) as pooler:
        yield pooler


@pytest.fixture
def behind(postgresql_template: Cluster, bouncer: PgBouncer, tmp_path: Path) -> Iterator[Database]:
    """A database of which supervisors and workers know only the way through the pooler; `default` here is direct."""
    with databases.fresh_postgresql(postgresql_template, tmp_path) as fresh:
        name = fresh.env["JOBSUP_TEST_POSTGRES"].rpartition("/")[2]
        yield Database("postgresql", {**fresh.env, "JOBSUP_TEST_POSTGRES": bouncer.url(name)})


def listening_at(url: str) -> dict[str, Any]:
    """Return settings with an entry that supervisors listen on."""
    return {"DATABASES": {"direct": settings.postgresql(url)}, "JOBSUP": {"LISTEN_ALIAS": "direct"}}


def name_of(database: Database) -> str:
    """Return how the server calls a database."""
    return database.env["JOBSUP_TEST_POSTGRES"].rpartition("/")[2]


def left_on_sessions(url: str, count: int) -> set[tuple[Any, ...]]:
    """Return what clients of a pooler find on the sessions that they get, as many of them at once as there are."""
    found: set[tuple[Any, ...]] = set()
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(closing(psycopg2.connect(url)))  # in a transaction until it is closed
            with client.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_backend_pid(), current_setting('statement_timeout'), current_setting('lock_timeout'), "
                    "array_to_string(ARRAY(SELECT pg_listening_channels()), ','), "
                    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
                )
                found.add(cursor.fetchone())  # type: ignore[arg-type]
    assert len(found) == count, found
    return {facts[1:] for facts in found}


def test_d5_behind_a_pooler_by_transactions_everything_works_and_nothing_is_left_on_its_sessions(
    behind: Database, bouncer: PgBouncer, tmp_path: Path
) -> None:
    """It is said once; jobs begin within the poll interval, are killed, tried again, cancelled."""
    with behind.supervisor("--workers", "2") as supervisor:
        supervisor.wait_log(DEAF, WAIT_S)
        supervisor.wait_ready(WAIT_S)
        alone = tasks.effect.enqueue()
        wait_final(supervisor, [alone], WAIT_S)
        held = tasks.hold.enqueue(str(tmp_path / "go"))
        kill([wait_begun(supervisor, held, timeout_s=WAIT_S)])
        wait_begun(supervisor, held, times=2, timeout_s=WAIT_S)
        cancelled = tasks.hold.enqueue(str(tmp_path / "never"))
        wait_begun(supervisor, cancelled, timeout_s=WAIT_S)
        cancelled.cancel()
        wait_final(supervisor, [cancelled], WAIT_S)
        (tmp_path / "go").touch()
        many = [tasks.effect.enqueue() for _ in range(50)]
        wait_final(supervisor, [held, *many], WAIT_S)
        assert left_on_sessions(bouncer.url(name_of(behind)), SESSIONS) == {("0", "0", "", 0)}
        supervisor.stop(timeout_s=WAIT_S)
        assert supervisor.log().count(DEAF) == 1
    for job in (alone, *many):
        assert_once(job)
    assert (status(held), row(held).attempt) == (Status.SUCCESSFUL, 2)
    assert status(cancelled) is Status.CANCELLED
    assert_nobody_owns_anything()


def test_d5_with_an_alias_that_leads_past_the_pooler_notifications_arrive(
    behind: Database, bouncer: PgBouncer, postgresql_template: Cluster
) -> None:
    """One idle supervisor, and each job wakes it."""
    url = postgresql_template.url(name_of(behind))
    with behind.supervisor("--workers", "1", **listening_at(url)) as supervisor:
        supervisor.wait_ready(WAIT_S)
        for _ in range(3):
            eventually(lambda: is_idle(supervisor.workers()[0]), WAIT_S, "rest", supervisor.picture)
            job = tasks.effect.enqueue()
            wait_final(supervisor, [job], WAIT_S)
            assert_once(job)
        assert left_on_sessions(bouncer.url(name_of(behind)), SESSIONS) == {("0", "0", "", 0)}
        supervisor.stop(timeout_s=WAIT_S)
        assert "once a second" not in supervisor.log()


def test_d5_an_alias_of_another_database_is_found_out(behind: Database, postgresql_template: Cluster) -> None:
    """What is notified here does not arrive there: said in words, and jobs are looked for."""
    with behind.supervisor("--workers", "1", **listening_at(postgresql_template.url())) as supervisor:
        supervisor.wait_log("do not arrive at 'direct' (JOBSUP['LISTEN_ALIAS'])", WAIT_S)
        job = tasks.effect.enqueue()
        wait_final(supervisor, [job], WAIT_S)
        supervisor.stop(timeout_s=WAIT_S)
        assert "are both the same database" in supervisor.log()
    assert_once(job)


def test_d5_a_pooler_that_keeps_sessions_is_as_good_as_none(postgresql_template: Cluster, tmp_path: Path) -> None:
    """Notifications arrive, and nothing is said of it."""
    with (
        PgBouncer(postgresql_template, "session", size=20) as pooler,
        databases.fresh_postgresql(postgresql_template, tmp_path) as fresh,
    ):
        url = pooler.url(name_of(fresh))
        database = Database("postgresql", {**fresh.env, "JOBSUP_TEST_POSTGRES": url})
        with database.supervisor("--workers", "1") as supervisor:
            supervisor.wait_ready(WAIT_S)
            jobs = [tasks.effect.enqueue() for _ in range(20)]
            wait_final(supervisor, jobs, WAIT_S)
            supervisor.stop(timeout_s=WAIT_S)
            assert "once a second" not in supervisor.log()
        for job in jobs:
            assert_once(job)
