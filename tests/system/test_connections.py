"""Connections: the supervisor has none when it touches its children, workers inherit none, and lost ones cost nothing.

The letters are those of the scenarios, such as K (several databases) and L (SQLAlchemy beside Django).
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from jobsup.models import Job, Status
from tests import databases, settings
from tests.databases import Database
from tests.postgres import Cluster
from tests.support import eventually, fds_of, kill, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    assert_nobody_owns_anything,
    assert_once,
    is_idle,
    row,
    runs,
    sessions,
    status,
    terminate,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import StopMode


def two_aliases(database: Database, place: Path) -> dict[str, Any]:
    """Return settings with a second alias on the same server, or on a second file."""
    if database.vendor == "postgresql":
        return {"DATABASES": {"second": settings.postgresql(database.env["JOBSUP_TEST_POSTGRES"])}}
    return {"DATABASES": {"second": settings.sqlite(str(place / "second.sqlite3"))}}


def lines(file: Path) -> list[dict[str, Any]]:
    """Return what a watched supervisor wrote; see `tests.testapp.watch`."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# -- what the supervisor has open, what a worker inherits -------------------------------------------------------------


def test_d_k_l_the_supervisor_has_nothing_open_when_it_spawns_or_looks_at_its_children(
    database: Database, tmp_path: Path
) -> None:
    """No alias of Django, no engine that registered its `dispose`, no descriptor: at the start and after a death."""
    watched = tmp_path / "watch"
    database.env["JOBSUP_TEST_WATCH"] = str(watched)
    with database.supervisor("--workers", "2", **two_aliases(database, tmp_path)) as supervisor:
        supervisor.wait_ready()
        for _ in range(3):
            wait_final(supervisor, [tasks.effect.enqueue()])
            before = len(lines(watched))
            kill(supervisor.workers()[:1])
            eventually(lambda count=before: len(lines(watched)) > count + 1, 10, "a spawn", supervisor.picture)  # type: ignore[misc]
        supervisor.stop()
    seen = lines(watched)
    assert {line["moment"] for line in seen} == {"spawn", "look"}
    assert [line for line in seen if line["open"] or line["connected"] or line["engine"]] == []
    assert seen[-1]["opened"] >= 6, "both aliases were connected in between, again and again"


def test_m10_a_worker_holds_nothing_of_its_parent_but_its_lanes_and_its_card(
    database: Database, tmp_path: Path
) -> None:
    """Not the database, not even a socket that its parent made inheritable."""
    database.env["JOBSUP_TEST_WATCH"] = str(tmp_path / "watch")
    with database.supervisor("--workers", "2", **two_aliases(database, tmp_path)) as supervisor:
        supervisor.wait_ready()
        wait_final(supervisor, [tasks.effect.enqueue()])
        parent = {(fd.device, fd.inode) for number, fd in fds_of(supervisor.pid).items() if number > 2}
        for pid in supervisor.workers():
            shared = [fd for number, fd in fds_of(pid).items() if number > 2 and (fd.device, fd.inode) in parent]
            shared = [fd for fd in shared if "sqlite3" not in fd.target and "anon_inode" not in fd.target]
            assert [fd.target.partition(":")[0] for fd in sorted(shared)] == ["/memfd", "pipe", "pipe"], shared
        supervisor.stop()


def test_d3_a_worker_keeps_one_connection_for_each_alias_however_many_jobs_it_runs(
    database: Database, tmp_path: Path
) -> None:
    """Workers x aliases is the bound; what the recorder opens beside it is closed again."""
    with database.supervisor("--workers", "2", **two_aliases(database, tmp_path)) as supervisor:
        jobs = [tasks.ask_every_database.enqueue() for _ in range(200)]
        jobs += [tasks.sleep.enqueue(0.03) for _ in range(10)]
        jobs += [tasks.ask_every_database.enqueue() for _ in range(20)]
        wait_final(supervisor, jobs)
        workers = supervisor.workers()
        # SQLite keeps the descriptor of a closed connection for the next one, while another one is open in the process.
        most = 2 if database.vendor == "postgresql" else 3
        eventually(lambda: max(map(connections_of, workers)) <= most, 3, "two each", supervisor.picture)
        if database.vendor == "postgresql":
            assert len(sessions()) <= 2 * 2 + 2
        supervisor.stop()
    assert sessions() == [] if database.vendor == "postgresql" else True


def connections_of(pid: int) -> int:
    """Return how many connections a worker has open: sockets, or files of SQLite."""
    targets = [fd.target for number, fd in fds_of(pid).items() if number > 2]
    return sum(target.startswith("socket:") or target.endswith(".sqlite3") for target in targets)


@ON_POSTGRESQL
def test_p4_no_transaction_is_open_while_a_job_runs(database: Database, tmp_path: Path) -> None:
    """Neither of the worker nor of the supervisor, so that nothing holds back the vacuum."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, job)
        eventually(lambda: bool(row(job).worker), 5, "the mark", supervisor.picture)
        eventually(lambda: not sessions("xact_start IS NOT NULL"), 1, "no transaction", sessions)
        assert len(sessions()) >= 2
        (tmp_path / "go").touch()
        wait_final(supervisor, [job])
        supervisor.stop()


# -- connections that are lost ----------------------------------------------------------------------------------------


@ON_POSTGRESQL
def test_f9_a_session_that_is_ended_under_a_job_costs_one_attempt_and_no_worker(database: Database) -> None:
    """pg_terminate_backend in the middle of a query: the attempt is told, the same process runs the next one."""
    job = tasks.ask_for.enqueue(1.5)
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        workers = supervisor.workers()
        eventually(lambda: sessions("query LIKE '%%pg_sleep%%' AND state = 'active'"), 10, "the query")
        terminate(sessions("query LIKE '%%pg_sleep%%'"))
        wait_final(supervisor, [job])
        assert supervisor.workers() == workers
        supervisor.stop()
    assert (status(job), row(job).attempt) == (Status.SUCCESSFUL, 2)
    assert "django.db.utils.OperationalError" in words(job)[0]


@ON_POSTGRESQL
def test_f10_d2_sessions_that_are_ended_while_idle_are_noticed_by_nobody(database: Database) -> None:
    """Of workers and supervisor alike, three times: the next jobs run at their first attempt, soon."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        workers = supervisor.workers()
        for _ in range(3):
            eventually(lambda: len(sessions()) >= 3, 10, "the supervisor's session and two more", supervisor.picture)
            terminate(sessions())
            jobs = [tasks.effect.enqueue() for _ in range(10)]
            wait_final(supervisor, jobs, timeout_s=6)
            for job in jobs:
                assert_once(job)
        assert supervisor.workers() == workers
        supervisor.stop()


@ON_POSTGRESQL
def test_a_job_that_comes_after_the_death_of_a_worker_is_noticed_at_once(database: Database) -> None:
    """Looking at the children closed the connection that listens; it must not stay closed until the next poll (5 s)."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        for count in range(1, 4):
            kill(supervisor.workers()[:1])
            supervisor.wait_log("while idle", count=count)
            eventually(lambda: sum(map(is_idle, supervisor.workers())) == 2, 10, "a successor", supervisor.picture)
            job = tasks.effect.enqueue()
            wait_final(supervisor, [job])
            assert runs(job)[0].made_at - row(job).enqueued_at < timedelta(seconds=1.5)
        supervisor.stop()


@ON_POSTGRESQL
def test_d5_without_notify_a_job_begins_within_the_poll_interval(database: Database) -> None:
    """A pooler swallows notifications: polling is the truth, every second."""
    with database.supervisor("--workers", "1", JOBSUP={"NOTIFY": False}) as supervisor:
        supervisor.wait_ready()
        for _ in range(2):
            job = tasks.effect.enqueue()
            wait_final(supervisor, [job], timeout_s=4)
            assert runs(job)[0].made_at - row(job).enqueued_at < timedelta(seconds=2)
        supervisor.stop()


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    """A server that a test may stop."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def own_database(request: pytest.FixtureRequest, own_cluster: Cluster, tmp_path: Path) -> Iterator[Database]:
    """A migrated database on that server, which is also `default` here."""
    own_cluster.start()
    url = own_cluster.create_database(f"own_{request.node.name.partition('[')[2].strip(']') or 'down'}")
    env = {"JOBSUP_TEST_DEFAULT": "postgresql", "JOBSUP_TEST_RUN_DIR": str(tmp_path), "JOBSUP_TEST_POSTGRES": url}
    done = run_django(env, "migrate", "--run-syncdb", "--verbosity", "0")
    assert done.returncode == 0, done.stdout
    with databases._as_default(settings.postgresql(url)):
        yield Database("postgresql", env)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_f11_the_server_is_restarted_under_load_and_everything_is_counted(
    own_cluster: Cluster, own_database: Database, mode: StopMode
) -> None:
    """As an administrator does it, and as in a crash: every job ends, every attempt is told."""
    jobs = [tasks.work.enqueue(8) for _ in range(300)]
    with own_database.supervisor("--workers", "2") as supervisor:
        eventually(lambda: Job.objects.filter(status=Status.SUCCESSFUL).count() > 30, 15, "a beginning")
        connection.close()
        own_cluster.restart(mode)
        wait_final(supervisor, jobs, timeout_s=40)
        supervisor.stop()
    for job in jobs:
        attempt = row(job).attempt
        assert (status(job), len(words(job))) == (Status.SUCCESSFUL, attempt - 1)
        assert runs(job)[-1].attempt == attempt
    assert_nobody_owns_anything()


def test_f12_a_server_that_is_down_at_the_start_is_waited_for_in_words(
    own_cluster: Cluster, own_database: Database
) -> None:
    """Ready only once it is up; then without a restart, and the job that waited is run."""
    job = tasks.effect.enqueue()
    connection.close()
    own_cluster.stop()
    with own_database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("(try 1, next in 1 s)")
        assert "waiting for the database 'default': " in supervisor.log()
        assert "connection to server on socket" in supervisor.log()
        assert "ready" not in supervisor.log()
        own_cluster.start()
        supervisor.wait_ready()
        wait_final(supervisor, [job])
        supervisor.stop()
        assert "it answers again after" in supervisor.log()
    assert_once(job)
