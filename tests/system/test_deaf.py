"""Deaf connections: a server that is frozen, or refuses to write, and pools of connections.

Traps S2, D2 and D4, faults 10, 12 and 48. A server whose processes are all stopped is the worst of them: the kernel
goes on taking in what it is sent, so that no time-out of TCP fires.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from django.db import connection, connections

from jobsup.models import Status
from jobsup.sql.postgresql.driver import is_psycopg3
from tests import databases, settings
from tests.listener import Listener
from tests.support import eventually, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    assert_nobody_owns_anything,
    assert_once,
    is_idle,
    row,
    sessions,
    status,
    terminate,
    wait_begun,
    wait_final,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database
    from tests.postgres import Cluster
    from tests.support import Supervisor

WAIT_S = 60
WAITING = "waiting for the database 'default'"
SLACK_S = 60
"""How much longer a busy machine may take, for what would else never happen."""
LONG = {"LEASE": 300}
"""So that the freeze is shorter than the lease on any machine."""
ALIVE_USEC = 6_000_000
VISIBLE_S, STOP_S = 10, 6
"""Within how long a frozen server is shown, and how long a stop may take with it, on a machine that is not busy."""
AWAY = 10
"""The exit code of `status` then."""
ROLE = "jobsup_limited"

pytestmark = pytest.mark.timeout(300)


def wait_idle(supervisor: Supervisor, workers: int) -> None:
    """Wait until so many workers have nothing to do."""
    eventually(lambda: sum(map(is_idle, supervisor.workers())) == workers, WAIT_S, "rest", supervisor.picture)


def complaints(supervisor: Supervisor) -> int:
    """Return how many lines say that the database cannot be used."""
    return sum("(try " in line for line in supervisor.log().splitlines())


@ON_POSTGRESQL
def test_s2_d2_a_frozen_server_is_shown_within_10_s_and_costs_nothing_but_time(
    database: Database, postgres_cluster: Cluster, tmp_path: Path
) -> None:
    """In the log, the service manager's status and `status`; the watchdog is fed, and then everything goes on."""
    database.env.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC=str(ALIVE_USEC))
    with (
        Listener(str(tmp_path / "notify")) as manager,
        database.supervisor("--workers", "2", JOBSUP=LONG) as supervisor,
    ):
        supervisor.wait_ready(WAIT_S)
        held = tasks.hold.enqueue(str(tmp_path / "go"))
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        jobs = [tasks.effect.enqueue() for _ in range(5)]
        wait_final(supervisor, jobs, WAIT_S)
        with postgres_cluster.frozen():
            began = time.monotonic()
            supervisor.wait_log(WAITING, SLACK_S)
            assert time.monotonic() - began < VISIBLE_S + SLACK_S
            eventually(lambda: WAITING in "".join(manager.heard()), SLACK_S, "the status", supervisor.picture)
            told = run_django(supervisor.env, "jobsupervisor", "status")
            assert (told.returncode, WAITING in told.stdout) == (AWAY, True), told.stdout
            manager.heard()
            before = len(manager.all)
            (tmp_path / "go").touch()  # it ends now, and cannot be recorded
            eventually(
                lambda: manager.heard() is not None and manager.all[before:].count("WATCHDOG=1") >= 2,
                SLACK_S, "two signs of life", lambda: manager.all,
            )  # fmt: skip
            assert complaints(supervisor) <= 2 + (time.monotonic() - began) / 10
        supervisor.wait_log("it answers again", SLACK_S)
        jobs += [tasks.effect.enqueue() for _ in range(5)]
        wait_final(supervisor, [held, *jobs], WAIT_S)
        eventually(lambda: WAITING not in manager.heard()[-1:], SLACK_S)
        supervisor.stop(timeout_s=WAIT_S)
    for job in (held, *jobs):
        assert_once(job)
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_s2_term_ends_an_idle_supervisor_whose_server_is_frozen(database: Database, postgres_cluster: Cluster) -> None:
    """Whatever it and its workers have open; it has not noticed yet."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready(WAIT_S)
        wait_final(supervisor, [tasks.effect.enqueue() for _ in range(5)], WAIT_S)
        wait_idle(supervisor, 2)
        with postgres_cluster.frozen():
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait(STOP_S + SLACK_S) == 0, supervisor.log()
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_fault_12_s2_a_server_that_is_frozen_at_the_start_is_waited_for_and_term_ends_a_supervisor_that_waits(
    database: Database, postgres_cluster: Cluster
) -> None:
    """It takes the connection in, and nobody greets; nothing is ready until it answers."""
    job = tasks.effect.enqueue()
    connection.close()
    with ExitStack() as stack:
        with postgres_cluster.frozen():
            supervisor = stack.enter_context(database.supervisor("--workers", "1"))
            supervisor.wait_log(WAITING, SLACK_S)
            assert "on duty" not in supervisor.log()
        supervisor.wait_ready(WAIT_S)
        wait_final(supervisor, [job], WAIT_S)
        wait_idle(supervisor, 1)
        connection.close()
        with postgres_cluster.frozen():
            supervisor.wait_log(WAITING, SLACK_S, count=supervisor.log().count(WAITING) + 1)
            supervisor.signal(signal.SIGTERM)
            assert supervisor.wait(STOP_S + SLACK_S) == 0, supervisor.log()
    assert_once(job)
    assert_nobody_owns_anything()


@pytest.fixture
def limited(database: Database) -> Iterator[Database]:
    """A database that supervisors and workers use by a role which has only what it was granted."""
    name = connection.settings_dict["NAME"]
    run_as_superuser(
        f"CREATE ROLE {ROLE} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE}",
    )
    database.env["JOBSUP_TEST_POSTGRES"] = database.env["JOBSUP_TEST_POSTGRES"].replace("postgres@", f"{ROLE}@")
    yield database
    run_as_superuser(
        f"ALTER DATABASE {name} RESET default_transaction_read_only", f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}"
    )


def run_as_superuser(*statements: str) -> None:
    """Execute statements on the database that is `default` here."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        for statement in statements:
            cursor.execute(statement)


def end_sessions() -> None:
    """Have everybody connect anew."""
    if pids := sessions():
        terminate(pids)


@ON_POSTGRESQL
def test_fault_48_a_role_that_may_not_and_a_database_that_takes_no_writes_are_waited_for_in_words(
    limited: Database,
) -> None:
    """Told at once and then at most every 10 s; it goes on by itself when it may again."""
    name = connection.settings_dict["NAME"]
    troubles = {
        "refuses: permission denied for table jobsup_job": (
            f"REVOKE UPDATE ON jobsup_job FROM {ROLE}",
            f"GRANT UPDATE ON jobsup_job TO {ROLE}",
        ),
        "in a read-only transaction": (
            f"ALTER DATABASE {name} SET default_transaction_read_only = on",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
        ),
    }
    with limited.supervisor("--workers", "1", JOBSUP=LONG) as supervisor:
        supervisor.wait_ready(WAIT_S)
        for count, (words, (harm, repair)) in enumerate(troubles.items(), 1):
            wait_idle(supervisor, 1)
            began, before = time.monotonic(), complaints(supervisor)
            run_as_superuser(harm)
            end_sessions()
            job = tasks.effect.enqueue()
            supervisor.wait_log(words, WAIT_S)
            supervisor.signal(signal.SIGUSR2)
            supervisor.wait_log("state running", WAIT_S, count=count)
            run_as_superuser(repair)
            end_sessions()
            wait_final(supervisor, [job], WAIT_S)
            assert_once(job)
            assert complaints(supervisor) - before <= 2 + (time.monotonic() - began) / 10, supervisor.log()
        supervisor.stop(timeout_s=WAIT_S)
        assert "Traceback" not in supervisor.log()


@ON_POSTGRESQL
@pytest.mark.parametrize(
    "pool", [False, True] if is_psycopg3() else [False], ids=lambda pool: "pool" if pool else "none"
)
def test_d4_with_a_pool_in_the_settings_nothing_is_open_at_a_spawn_and_workers_have_one_connection_each(
    database: Database, tmp_path: Path, *, pool: bool
) -> None:
    """A pool is for the processes that enqueue: here jobs are enqueued out of one, one by one and by COPY."""
    place = settings.postgresql(database.env["JOBSUP_TEST_POSTGRES"]) | {"OPTIONS": {"pool": True} if pool else {}}
    database.env["JOBSUP_TEST_WATCH"] = str(tmp_path / "watch")
    with (
        databases._as_default(place),
        database.supervisor("--workers", "2", DATABASES={"default": place}) as supervisor,
    ):
        supervisor.wait_ready(WAIT_S)
        jobs = [tasks.effect.enqueue() for _ in range(20)]
        jobs += tasks.noop.enqueue_many([{}] * 50)
        wait_final(supervisor, jobs, WAIT_S)
        assert tasks.add.enqueue(2, 3).wait(WAIT_S).ok
        untidy = tasks.query.enqueue(3)
        wait_final(supervisor, [untidy], WAIT_S)
        own = 4 if pool else 0  # that of this process: those that its pool keeps besides the one that asks
        # The server may take a moment over the end of one that was closed.
        eventually(lambda: len(sessions()) <= 2 * 2 + 1 + own, WAIT_S, "no more sessions than it may have", sessions)
        os.kill(supervisor.workers()[0], signal.SIGKILL)
        supervisor.wait_log("was killed by SIGKILL", WAIT_S)
        wait_final(supervisor, [tasks.effect.enqueue() for _ in range(5)], WAIT_S)
        supervisor.stop(timeout_s=WAIT_S)
        if pool:
            connections["default"].close_pool()  # type: ignore[attr-defined]
    seen = [json.loads(line) for line in (tmp_path / "watch").read_text().splitlines()]
    assert [line for line in seen if line["open"] or line["connected"] or line["engine"]] == []
    assert len(seen) >= 3
    for job in jobs[:20]:
        assert_once(job)
    assert {status(job) for job in jobs} == {Status.SUCCESSFUL}
    assert row(untidy).left_behind is None
