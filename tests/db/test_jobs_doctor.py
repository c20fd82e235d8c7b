"""The doctor finds each trouble where it really is, and nothing where there is none."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone

from jobsup import runs
from jobsup.conf import Conf
from jobsup.doctor import Finding, Limits, Severity, examine
from jobsup.doctor.postgresql import look
from jobsup.models import Queue, Schedule
from jobsup.store import Store
from tests import databases, settings
from tests.db.conftest import TASKS
from tests.db.poolers import pooler
from tests.db.rows import NOOP, begin, claimed, put, silent_for
from tests.db.test_jobs_queries import aged
from tests.postgres import Cluster
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database
    from tests.db.rows import Session

NO_FSYNC = "not-durable"  # the server of the tests is one


def findings(store: Store, limits: Limits | None = None, **conf: Any) -> dict[str, Finding]:
    """Return what is found, by code; what the tests' own server and earlier tests are like is left out."""
    limits = replace(limits or Limits(), dead_rows=10**9)
    found = {finding.code: finding for finding in examine(store, Conf(**conf), limits)}
    return {code: finding for code, finding in found.items() if code != NO_FSYNC}


def ready(store: Store, *, ago_s: float = 0, **values: Any) -> int:
    """Let a job have been ready for so long."""
    [pk] = put(store, **values)
    aged(store, pk, enqueued_at=ago_s)
    return pk


def one(store: Store, code: str, **conf: Any) -> Finding:
    """Return the only finding, with its remedy."""
    [(found, finding)] = findings(store, **conf).items()
    assert found == code
    assert finding.remedy
    return finding


@contextmanager
def declared(alias: str, database: dict[str, Any]) -> Iterator[Store]:
    """Let the project have another database."""
    databases._declare(alias, database)
    try:
        yield Store(alias)
    finally:
        if (driver := connections[alias].connection) is not None:
            driver.close()  # Django leaves one to a database in memory open
        del connections[alias]
        del connections.settings[alias]


# -- nothing ----------------------------------------------------------------------------------------------------------


def test_where_all_is_well_nothing_is_found(store: Store) -> None:
    """With a supervisor, jobs that wait and jobs that run."""
    run = begin(store)
    claimed(store, run)
    put(store)
    assert findings(store) == {}


# -- the project ------------------------------------------------------------------------------------------------------


def test_tables_of_an_older_version_are_found(database: Database) -> None:
    """The migrations are named; nothing that needs the tables is looked at."""
    call_command("migrate", "jobsup", "0002", verbosity=0)
    finding = one(Store(), "unmigrated")
    assert finding.severity is Severity.ERROR
    assert "0003_task_api" in finding.words
    call_command("migrate", "jobsup", "zero", verbosity=0)
    assert "0001_initial, 0002_job_limits, 0003_task_api" in one(Store(), "unmigrated").words


def test_settings_that_hurt_are_found(store: Store) -> None:
    """DEBUG, and a TASKS with which no supervisor starts."""
    begin(store)
    with override_settings(DEBUG=True):
        assert one(store, "debug").severity is Severity.WARNING
    with override_settings(TASKS={"default": {"BACKEND": "jobsup.backend.JobsupBackend", "QUEUE": 1}}):
        assert "TASKS['default']['QUEUE'] is unknown" in one(store, "settings").words


def test_waiting_jobs_of_a_task_that_is_gone_are_found(store: Store) -> None:
    """Ready and scheduled ones; those that have ended hurt nobody."""
    store.cancel(put(store, task="tests.testapp.tasks.ended"))
    begin(store)
    put(store, task="tests.testapp.tasks.gone")
    put(store, task="nowhere.at.all", run_after=store.sql.now() + timedelta(hours=1))
    found = [finding for finding in examine(store, Conf()) if finding.code == "broken-task"]
    assert len(found) == 2
    assert all(finding.severity is Severity.ERROR for finding in found)
    assert "no task nowhere.at.all: workers import no module nowhere.at" in found[0].words
    assert found[1].remedy.endswith("manage.py jobs cancel --task tests.testapp.tasks.gone")


def test_a_schedule_that_cannot_run_is_found(store: Store) -> None:
    """As long as it is in use."""
    begin(store)
    schedules = Schedule.objects.using(store.alias)
    schedules.create(name="nightly", task=NOOP, cron="0 25 * * *")
    assert one(store, "broken-schedule").words.startswith("schedule nightly is in use and cannot run: ")
    schedules.update(enabled=False)
    assert findings(store) == {}


# -- supervisors and queues -------------------------------------------------------------------------------------------


def test_it_is_found_that_nobody_is_there(store: Store) -> None:
    """An error when jobs wait for one."""
    assert one(store, "no-supervisor").severity is Severity.WARNING
    put(store)
    assert one(store, "no-supervisor").severity is Severity.ERROR
    runs.end(store, begin(store))
    assert one(store, "no-supervisor").severity is Severity.ERROR


def test_a_supervisor_that_went_silent_is_found(store: Store) -> None:
    """Silent while nobody has declared it lost; lost afterwards, for a day."""
    gone, _ = begin(store), begin(store)
    silent_for(store, gone, 100)
    assert "supervisor one on node (pid 100) was heard of last 100 s ago" in one(store, "silent-supervisor").words
    assert store.sql.expire(begin(store), "x") == 1
    assert one(store, "lost-supervisor").severity is Severity.WARNING
    silent_for(store, gone, 2 * 86_400)
    assert findings(store) == {}


def test_a_queue_that_no_setting_names_is_found(store: Store) -> None:
    """At once: nobody will ever come."""
    begin(store)
    ready(store, queue="reprots")
    finding = one(store, "unserved-queue")
    assert (finding.severity, "queue reprots: 1 ready job" in finding.words) == (Severity.ERROR, True)
    with override_settings(TASKS={"default": TASKS["any queue"]}):
        assert findings(store) == {}


def test_a_queue_of_which_nothing_runs_is_found(store: Store) -> None:
    """When its oldest job has waited for long; one that is paused is only noted."""
    begin(store)
    pk = ready(store, queue="slow", ago_s=100)
    assert findings(store) == {}
    aged(store, pk, enqueued_at=900)
    assert "nothing of it runs" in one(store, "unserved-queue").words
    Queue.objects.using(store.alias).create(name="slow", paused_at=store.sql.now())
    assert one(store, "paused-queue").severity is Severity.NOTE


def test_a_queue_that_falls_behind_is_found(store: Store) -> None:
    """Something of it runs, and its oldest job has waited for long all the same."""
    claimed(store, begin(store))
    ready(store, ago_s=1000)
    finding = one(store, "old-ready-job")
    assert "1 ready job in queue default waits since 17 min" in finding.words


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_s", "where"), [(60, "before"), (-60, "behind")])
def test_clocks_that_differ_are_found(
    postgresql: str, monkeypatch: pytest.MonkeyPatch, ahead_s: float, where: str
) -> None:
    """This machine's and the database's."""
    begin(Store(postgresql))
    real = timezone.now
    monkeypatch.setattr("jobsup.doctor.facts.timezone.now", lambda: real() + timedelta(seconds=ahead_s))
    assert f"this machine's clock is 60 s {where} the database's" in one(Store(postgresql), "clock-skew").words


def test_dead_rows_are_found(postgresql: str) -> None:
    """Told with the statement that removes them."""
    store = Store(postgresql)
    begin(store)
    with connections[postgresql].cursor() as cursor:
        cursor.execute("ALTER TABLE jobsup_failedattempt SET (autovacuum_enabled = false)")
        cursor.execute("VACUUM jobsup_failedattempt")
        try:
            cursor.execute(
                "INSERT INTO jobsup_job (id, task, queue, backend, priority, status, arguments, attempt, worker, "
                "enqueued_at) VALUES (1, 'a', 'default', 'default', 0, 5, '{}', 0, '', now())"
            )
            cursor.execute(
                "INSERT INTO jobsup_failedattempt (job_id, attempt, worker, ended_at, exception_class_path, traceback) "
                "SELECT 1, n, '', now(), '', '' FROM generate_series(1, 2000) AS n"
            )
            cursor.execute("DELETE FROM jobsup_failedattempt")
            few = Limits(dead_rows=1000)

            def dead(limits: Limits = few) -> list[Finding]:  # earlier tests leave dead rows of jobs, too
                found = examine(store, Conf(), limits)
                return [each for each in found if each.code == "dead-rows" and "failedattempt" in each.words]

            eventually(dead, what="the server's statistics")
            [found] = dead()
            assert "2,000 dead rows beside 0" in found.words
            assert found.remedy.startswith("VACUUM (ANALYZE) jobsup_failedattempt;")
            assert "for table jobsup_failedattempt" in findings(store)["autovacuum-off"].words
            assert not dead(Limits()), "so few are no trouble by themselves"
        finally:
            cursor.execute("ALTER TABLE jobsup_failedattempt RESET (autovacuum_enabled)")


def test_an_old_transaction_is_found(postgresql: str, session: Session) -> None:
    """With who holds it and what it did last."""
    store = Store(postgresql)
    begin(store)
    with session.atomic(postgresql):
        session(lambda: Store(postgresql).sql.rows("SELECT 'what it did last'"))
        young = Limits(transaction_s=0.01)
        eventually(lambda: "old-transaction" in findings(store, young), what="the age of it")
        found = findings(store, young)["old-transaction"]
        [[pid]] = session(lambda: Store(postgresql).sql.rows("SELECT pg_backend_pid()"))
        assert f"(pid {pid}, idle in transaction), last statement: SELECT 'what it did last'" in found.words
        assert f"pg_terminate_backend({pid})" in found.remedy
        assert "may keep dead rows from being removed by what it does next" in found.words
        session(lambda: Store(postgresql).sql.rows("SELECT pg_current_xact_id()"))
        assert "keeps dead rows from being removed" in findings(store, young)["old-transaction"].words
        assert findings(store) == {}, "that it is young is no trouble"
    assert findings(store, Limits(transaction_s=0.01)) == {}


def test_too_few_connections_are_found(database: Database) -> None:
    """The formula stands in the sentence; a server that is nearly full is told, too."""
    store = Store()
    begin(store)
    if database.vendor == "sqlite":
        assert findings(store, workers=1000) == {}
        return
    finding = one(store, "connections", workers=1000)
    assert finding.severity is Severity.ERROR
    aliases = sum(each.settings_dict["HOST"] == connection.settings_dict["HOST"] for each in connections.all())
    needed = f"1 x (1000 workers x ({aliases} + 1) + 1) = {1000 * (aliases + 1) + 1} connections"
    assert f"supervisors need {needed}, the server has 197 for ordinary users" in finding.words
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 4')
    assert "the server has 4 for ordinary users" in one(store, "connections", workers=2).words
    found = findings(store, Limits(connections_used=0.0), workers=1)
    assert found["connections"].severity is Severity.WARNING


def test_a_server_that_cares_for_nothing_is_found(sqlite_template: Path) -> None:
    """No autovacuum, no commit that lasts, prepared transactions that nobody ends, no writing."""
    odd = {"autovacuum": "off", "synchronous_commit": "off", "max_prepared_transactions": "2"}
    with Cluster(settings=odd) as cluster:
        url = cluster.create_database("odd")
        with declared("odd server", settings.postgresql(url)) as store:
            call_command("migrate", database=store.alias, verbosity=0)
            begin(store)
            preparing = psycopg2.connect(host=str(cluster.directory), user="postgres", dbname="odd")
            with preparing.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.execute("PREPARE TRANSACTION 'forgotten'")
            preparing.close()
            found = {finding.code: finding for finding in examine(store, Conf(), Limits(transaction_s=0.0))}
            assert set(found) == {NO_FSYNC, "autovacuum-off", "old-transaction"}
            assert "the prepared transaction forgotten of postgres: has been open" in found["old-transaction"].words
            assert found["old-transaction"].remedy == "COMMIT PREPARED 'forgotten', or ROLLBACK PREPARED 'forgotten'"
            cluster.execute("ALTER DATABASE odd SET default_transaction_read_only = on")
            connections[store.alias].close()
            assert "read-only" in findings(store, notify=False)
            assert "no-notify" in findings(store, notify=False)


@pytest.mark.parametrize("by_sessions", [False, True])
def test_a_pooler_is_found(postgresql_template: Cluster, postgresql: str, by_sessions: bool) -> None:  # noqa: FBT001
    """By the process that it makes up; a note only, when notifications come through it."""
    begin(Store(postgresql))
    with (
        pooler(postgresql_template.directory, by_sessions=by_sessions) as folder,
        declared("pooled", {**connections[postgresql].settings_dict, "HOST": folder}) as store,
    ):
        finding = one(store, "pooler")
        assert finding.severity is (Severity.NOTE if by_sessions else Severity.WARNING)
        assert ("notifications are lost" in finding.words) is not by_sessions
        assert ("DISABLE_SERVER_SIDE_CURSORS" in finding.remedy) is not by_sessions
    assert look(postgresql).pooler is None


def test_d5_a_pooler_past_which_supervisors_listen_is_a_note_as_long_as_that_works(
    postgresql_template: Cluster, postgresql: str
) -> None:
    """The other alias must hear what is said through the pooler."""
    begin(Store(postgresql))
    direct = connections[postgresql].settings_dict
    with (
        pooler(postgresql_template.directory) as folder,
        declared("pooled", {**direct, "HOST": folder}) as store,
        declared("elsewhere", {**direct, "NAME": "postgres"}),
    ):
        assert one(store, "pooler", listen_alias=postgresql).severity is Severity.NOTE
        assert one(store, "pooler", listen_alias="elsewhere").severity is Severity.WARNING


# -- SQLite -----------------------------------------------------------------------------------------------------------


def test_modes_of_sqlite_that_hurt_are_found(tmp_path: Path) -> None:
    """A journal that keeps readers out, writers that do not wait, transactions that begin by reading, no sync."""
    odd = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "odd.sqlite3"),
        "OPTIONS": {"timeout": 1, "init_command": "PRAGMA synchronous=OFF"},
    }
    with declared("odd file", odd) as store:
        codes = {finding.code for finding in examine(store, Conf())}
    modes = {"sqlite-journal", "sqlite-timeout", "sqlite-transactions", "not-durable"}
    assert codes == {"unmigrated", *modes}
    with declared("good file", settings.sqlite(str(tmp_path / "good.sqlite3"))) as store:
        assert set(findings(store)) == {"unmigrated"}


def test_a_database_in_memory_is_found() -> None:
    """No other process sees it."""
    with declared("memory", settings.sqlite(":memory:")) as store:
        assert findings(store)["sqlite-in-memory"].severity is Severity.ERROR
