"""What a job does to its connection does not reach the next job (D1, D2, faults 9 and 34)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.signals import connection_created

from jobsup.compat import TaskResultStatus
from jobsup.hygiene import CLEAN, Hygiene, check_connections, drop
from jobsup.models import Job
from jobsup.runner import IDLE_CONNECTIONS_S
from jobsup.sql.postgresql.driver import is_psycopg3
from tests.db import misfits
from tests.testapp.models import Effect
from tests.vendors import ALIASES, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.db.bench import Bench
from tests.db.rows import Session

UNTIDY = [
    "atomic",
    "nested atomic",
    "broken atomic",
    "autocommit off",
    "begin",
    "closed",
    "driver closed",
    "close in atomic",
]


@pytest.mark.parametrize("way", UNTIDY)
def test_d1_an_untidy_job_leaves_nothing_to_the_next_one(bench: Bench, way: str, session: Session) -> None:
    """Its open transaction is gone with its writes, its end is recorded, the next job has a clean connection."""
    untidy = misfits.leave.enqueue(way)
    following = misfits.session_of.enqueue()
    bench.work()
    untidy.refresh()
    following.refresh()
    assert untidy.status == TaskResultStatus.SUCCESSFUL, untidy.errors
    assert following.status == TaskResultStatus.SUCCESSFUL, following.errors
    assert following.return_value[:2] == [False, True]
    effects = session(lambda: list(Effect.objects.values_list("job", flat=True)))
    assert effects == [1]


def test_d1_dropping_a_dirty_connection_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The log says which connection the job left in a transaction; a clean job is not accused."""
    misfits.use_database.enqueue()
    bench.work()
    assert "left behind" not in caplog.text
    untidy = misfits.leave.enqueue("atomic")
    bench.work()
    words = f"left behind: an open transaction on '{bench.alias}' (restored)"
    assert f"job {untidy.id} tests.db.misfits.leave {words}" in caplog.text
    assert Job.objects.using(bench.alias).get(pk=int(untidy.id)).left_behind == words


def test_a_tidy_job_keeps_its_connection(bench: Bench) -> None:
    """From job to job it is the same session, also with CONN_MAX_AGE 0."""
    results = [misfits.session_of.enqueue() for _ in range(3)]
    bench.work()
    bench.runner.rest(5.0)
    results.append(misfits.session_of.enqueue())
    bench.work()
    for result in results:
        result.refresh()
    assert len({result.return_value[2] for result in results}) == 1


def test_d1_drop_closes_for_certain(alias: str) -> None:
    """Where close() only marks a connection, inside of atomic, drop() ends it and it can be used anew."""
    connection = connections[alias]
    transaction.atomic(using=alias).__enter__()
    connection.close()
    assert connection.connection is not None
    drop(connection)
    assert connection.connection is None
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert not connection.in_atomic_block
    assert connection.get_autocommit()


def end_sessions(session: Session, besides: str = "pg_backend_pid()") -> None:
    """Have the server end every session of this database but the one that asks."""

    def terminate() -> None:
        with connections["postgresql"].cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> {besides}"
            )

    session(terminate)


@pytest.fixture
def postgresql_bench(postgresql: str) -> Any:
    """A worker without its process, on PostgreSQL."""
    from django.test import override_settings

    from tests.db.bench import Bench
    from tests.db.conftest import TASKS, Everything

    with override_settings(DATABASE_ROUTERS=[Everything(postgresql)], TASKS=TASKS):
        yield Bench(postgresql)


def test_d2_a_session_that_ended_while_idle_harms_no_job(postgresql_bench: Bench, session: Session) -> None:
    """The worker notices before it runs the next job, which never knows."""
    bench = postgresql_bench
    misfits.use_database.enqueue()
    bench.work()
    result = session(misfits.use_database.enqueue)
    pks = session(bench.claim)
    bench.runner.rest(5.0)
    end_sessions(session)
    bench.play(pks)
    result.refresh()
    assert result.status == TaskResultStatus.SUCCESSFUL, result.errors


def test_f9_a_session_that_ends_during_a_job_fails_that_job_only(postgresql_bench: Bench) -> None:
    """The job fails with the database's error, the next one runs over a new connection."""
    killed, following = misfits.end_own_session.enqueue(), misfits.use_database.enqueue()
    postgresql_bench.work()
    killed.refresh()
    following.refresh()
    assert killed.status == TaskResultStatus.FAILED
    assert killed.errors[0].exception_class_path == "django.db.utils.OperationalError"
    assert "terminat" in killed.errors[0].traceback
    assert following.status == TaskResultStatus.SUCCESSFUL, following.errors


def test_d2_dead_connections_are_found_and_live_ones_kept(postgresql: str, session: Session) -> None:
    """What does not answer is dropped."""
    connections[postgresql].ensure_connection()
    driver = connections[postgresql].connection
    check_connections()
    assert connections[postgresql].connection is driver
    end_sessions(session)
    check_connections()
    assert connections[postgresql].connection is None


def test_long_idleness_lets_go_of_the_connections(bench: Bench) -> None:
    """After a while without work none is held, and the next job gets a new one."""
    bench.runner.rest(IDLE_CONNECTIONS_S)
    assert connections[bench.alias].connection is None
    assert bench.finished(misfits.use_database.enqueue()).status == TaskResultStatus.SUCCESSFUL


# -- what hygiene finds on a connection -------------------------------------------------------------------------------

MARKS = {
    "postgresql": {
        "SET search_path TO pg_catalog": "session settings",
        "SELECT set_config('statement_timeout', '12345', false)": "session settings",
        "SET ROLE pg_monitor": "session settings",
        "LISTEN elsewhere": "a LISTEN",
        "PREPARE question AS SELECT 1": "a prepared statement",
        "DECLARE answers CURSOR WITH HOLD FOR SELECT 1": "a cursor WITH HOLD",
        "CREATE TEMP TABLE scratch (id int)": "a temporary table",
        "SELECT 1 AS id INTO TEMPORARY scratch": "a temporary table",
        "SELECT pg_advisory_lock(1)": "an advisory lock",
        "SELECT pg_try_advisory_lock_shared(1, 2)": "an advisory lock",
        "DO $$ BEGIN SET statement_timeout = 12345; END $$": "session settings",
    },
    "sqlite": {
        "ATTACH ':memory:' AS other": "an attached database",
        "PRAGMA cache_size = 5": "a PRAGMA",
        "PRAGMA foreign_keys = OFF": "a PRAGMA",
        "CREATE TEMP TABLE scratch (id int)": "a temporary table",
    },
    "mysql": {
        "SET SESSION sort_buffer_size = 65536": "session settings",
        "SET @mine = 1": "session settings",
        "CREATE TEMPORARY TABLE scratch (id int)": "a temporary table",
        "SELECT GET_LOCK('jobsup tests', 0)": "an advisory lock",
        "PREPARE question FROM 'SELECT 1'": "a prepared statement",
        "LOCK TABLES testapp_effect READ": "a table lock",
        "USE information_schema": "another database in use",
    },
}
NO_MARKS = {
    "postgresql": [
        "UPDATE testapp_effect SET job = 2 WHERE job = 1",
        "SELECT 'SET search_path TO nowhere; LISTEN x'",
        "SELECT set_config('statement_timeout', '12345', true)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
        "CREATE TEMP TABLE scratch (id int) ON COMMIT DROP",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "BEGIN; SET LOCAL statement_timeout = 12345; COMMIT",
        "NOTIFY jobsup",
        "LISTEN elsewhere; UNLISTEN elsewhere",
    ],
    "sqlite": [
        "UPDATE testapp_effect SET job = 2 WHERE job = 1",
        "SELECT 'PRAGMA cache_size = 5; ATTACH x'",
        "PRAGMA foreign_key_check",
        "PRAGMA table_info(testapp_effect)",
    ],
    "mysql": [
        "UPDATE testapp_effect SET job = 2 WHERE job = 1",
        "SELECT 'SET @mine = 1; USE x'",
        "SELECT 1 -- USE x",
        "SHOW TABLES",
    ],
}


@pytest.fixture
def hygiene(alias: str) -> Iterator[Hygiene]:
    """Hygiene as a fresh worker has it, which is connected."""
    connections[alias].ensure_connection()
    made = Hygiene()
    yield made
    connections[alias].close()


def cases(by_vendor: Mapping[str, Iterable[str]]) -> pytest.MarkDecorator:
    """Parametrise a test over the statements of each vendor."""
    aliases = {"postgresql": "postgresql", "sqlite": "default", "mysql": "mariadb"}
    there = [ALIASES[name] for name in wanted(*ALIASES)]
    found = [
        (aliases[vendor], sql)
        for vendor, statements in by_vendor.items()
        for sql in statements
        if aliases[vendor] in there
    ]
    return pytest.mark.parametrize(("alias", "sql"), found, indirect=["alias"])


def execute(alias: str, sql: Any, params: Any = None) -> None:
    """Execute as a job does."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)


@cases(MARKS)
def test_d9_f34_a_session_that_a_job_has_marked_is_dropped(alias: str, hygiene: Hygiene, sql: str) -> None:
    """It is told once, in words; the next session carries no mark and is kept."""
    execute(alias, sql)
    left = hygiene.restore()
    assert left.restored == (f"{MARKS[connections[alias].vendor][sql]} on '{alias}'",)
    assert left.spoiled == ()
    assert connections[alias].connection is None
    execute(alias, "SELECT 1")
    assert hygiene.restore() is CLEAN
    assert connections[alias].connection is not None


@cases(NO_MARKS)
def test_d9_f34_a_session_without_a_lasting_mark_is_kept(alias: str, hygiene: Hygiene, sql: str) -> None:
    """Neither the ordinary words of SQL, nor what ends with the transaction, nor what was undone."""
    driver = connections[alias].connection
    execute(alias, sql)
    assert hygiene.restore() is CLEAN
    assert connections[alias].connection is driver


def test_f34_a_value_is_no_statement(alias: str, hygiene: Hygiene) -> None:
    """What is passed as a parameter may say anything."""
    execute(alias, "SELECT %s", ["; SET search_path TO nowhere"])
    assert hygiene.restore() is CLEAN


def test_d1_f34_a_transaction_is_ended_and_told(alias: str, hygiene: Hygiene) -> None:
    """Django's, and the driver's own, which Django knows nothing of."""
    transaction.atomic(using=alias).__enter__()
    assert hygiene.restore().words() == f"left behind: an open transaction on '{alias}' (restored)"
    execute(alias, "BEGIN")
    assert hygiene.restore().restored == (f"an open transaction on '{alias}'",)
    transaction.set_autocommit(False, using=alias)
    assert hygiene.restore().restored == (f"autocommit off on '{alias}'",)
    connections[alias].ensure_connection()
    driver: Any = connections[alias].connection
    driver.close()
    assert hygiene.restore().restored == (f"a broken connection to '{alias}'",)
    with transaction.atomic(using=alias), transaction.atomic(using=alias):
        execute(alias, "SELECT 1")
    assert hygiene.restore() is CLEAN


def test_f34_a_swallowed_error_is_nothing_to_tell(alias: str, hygiene: Hygiene) -> None:
    """The connection is asked, found well and kept."""
    driver = connections[alias].connection
    with pytest.raises(DatabaseError):
        execute(alias, "SELECT nothing FROM nowhere")
    assert connections[alias].errors_occurred
    assert hygiene.restore() is CLEAN
    assert connections[alias].connection is driver


def test_f34_the_watch_stays_with_its_connection(alias: str, hygiene: Hygiene) -> None:
    """Over new sessions, when others wrap statements too, and when a job takes every wrapper away."""
    sql = next(iter(MARKS[connections[alias].vendor]))
    connections[alias].close()
    del connections[alias]
    with connections[alias].execute_wrapper(lambda execute, *rest: execute(*rest)):
        execute(alias, "SELECT 1")
    execute(alias, sql)
    assert hygiene.restore()
    execute(alias, sql)
    assert hygiene.restore()
    connections[alias].ensure_connection()
    connections[alias].execute_wrappers.clear()
    assert hygiene.restore() is CLEAN
    execute(alias, sql)
    assert hygiene.restore()
    assert len(connections[alias].execute_wrappers) == 1


def test_f34_what_prepares_every_new_connection_is_no_job_s_doing(alias: str, hygiene: Hygiene) -> None:
    """A receiver may come before hygiene or after it."""
    sql = next(iter(MARKS[connections[alias].vendor]))

    def prepare(connection: Any, **_kwargs: Any) -> None:
        execute(connection.alias, sql)

    connections[alias].close()
    connection_created.connect(prepare)
    try:
        execute(alias, "SELECT 1")
        assert hygiene.restore() is CLEAN
        connections[alias].close()
        later = Hygiene()
        execute(alias, "SELECT 1")
        assert later.restore() is CLEAN
    finally:
        connection_created.disconnect(prepare)


def test_f34_a_session_that_the_job_closed_itself_leaves_no_mark(alias: str, hygiene: Hygiene) -> None:
    """Its mark went with it."""
    execute(alias, next(iter(MARKS[connections[alias].vendor])))
    connections[alias].close()
    execute(alias, "SELECT 1")
    assert hygiene.restore() is CLEAN


def test_f34_another_thread_has_connections_of_its_own(alias: str, hygiene: Hygiene, session: Session) -> None:
    """What it does to them is not the next job's concern."""
    session(lambda: execute(alias, next(iter(MARKS[connections[alias].vendor]))))
    assert hygiene.restore() is CLEAN


def composed() -> Any:
    """Return a statement as the driver composes them."""
    sql: Any = importlib.import_module("psycopg.sql" if is_psycopg3() else "psycopg2.sql")
    return sql.SQL("SET search_path TO {}").format(sql.Identifier("pg_catalog"))


@pytest.mark.parametrize("make", [composed, lambda: b"SET search_path TO pg_catalog"], ids=["composed", "bytes"])
def test_f34_a_statement_need_not_be_a_string(postgresql: str, make: Callable[[], Any]) -> None:
    """The driver takes bytes and compositions as well; `executemany` passes the same way."""
    connections[postgresql].ensure_connection()
    hygiene = Hygiene()
    execute(postgresql, make())
    assert hygiene.restore().restored == ("session settings on 'postgresql'",)
    with connections[postgresql].cursor() as cursor:
        cursor.executemany("SET statement_timeout = %s", [[1000], [2000]])
    assert hygiene.restore().restored == ("session settings on 'postgresql'",)


def test_f34_migrations_on_sqlite_are_not_accused(sqlite: str) -> None:
    """Django switches foreign keys off and on while it remakes a table."""
    connections[sqlite].ensure_connection()
    hygiene = Hygiene()
    with connections[sqlite].constraint_checks_disabled():
        pass
    assert hygiene.restore() is CLEAN
    assert connections[sqlite].connection is not None


def test_d9_the_log_of_queries_does_not_grow_from_job_to_job(alias: str, hygiene: Hygiene) -> None:
    """With DEBUG on, Django keeps every query."""
    connections[alias].force_debug_cursor = True
    try:
        execute(alias, "SELECT 1")
        assert connections[alias].queries_log
        assert hygiene.restore() is CLEAN
        assert not connections[alias].queries_log
    finally:
        connections[alias].force_debug_cursor = False
