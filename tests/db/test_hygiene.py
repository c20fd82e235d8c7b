"""What a job does to its connection does not reach the next job (D1, D2, faults 9 and 34)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction

from jobsup.compat import TaskResultStatus
from jobsup.hygiene import check_connections, drop, tidy_connections
from jobsup.runner import IDLE_CONNECTIONS_S
from tests.db import misfits
from tests.testapp.models import Effect

if TYPE_CHECKING:
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
    assert "was dropped" not in caplog.text
    misfits.leave.enqueue("atomic")
    bench.work()
    assert f"the connection '{bench.alias}' was dropped" in caplog.text


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


def test_tidying_touches_only_what_is_dirty(alias: str) -> None:
    """The clean connection stays, the other one goes; what was never opened is not opened."""
    connections[alias].ensure_connection()
    driver = connections[alias].connection
    assert tidy_connections() == []
    assert connections[alias].connection is driver
    transaction.set_autocommit(False, using=alias)
    assert tidy_connections() == [alias]
    assert connections[alias].connection is None
    assert tidy_connections() == []


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
