"""What only MariaDB and MySQL need: indexes over generated columns, names as bytes, deadlocks, lost answers."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connections, transaction
from django.test import override_settings

from jobsup import queue_control, runs, untold
from jobsup.conf import Conf
from jobsup.doctor import examine
from jobsup.models import Job, Schedule, Status, Supervisor
from jobsup.sql import NewRow
from jobsup.sql.mariadb import MariaDB
from jobsup.store import Store
from tests.db.rows import NO_ARGUMENTS, NOOP, at_once, begin, claimed, loss, new_row, put, row, success
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tests.db.rows import Session
    from tests.mariadb import Server

JOBS = 30_000


@pytest.fixture
def mariadb(mariadb_template: Server, sqlite_template: object) -> Iterator[str]:
    """The alias of MariaDB; emptied after the test."""
    from tests import databases

    yield "mariadb"
    databases.empty("mariadb")


@pytest.fixture
def store(mariadb: str) -> Store:
    """The store on MariaDB."""
    return Store(mariadb)


def keyed(key: str, *, running: bool = False) -> NewRow:
    """Return a unique job."""
    return new_row()._replace(unique_key=key, unique_running=running)


def test_names_and_keys_are_compared_byte_by_byte(store: Store) -> None:
    """Neither case, nor accents, nor blanks at the end make two of them the same."""
    names = ["mail", "Mail", "mail ", "m\u00e4il"]
    for name in names:
        put(store, queue=name)
    assert sorted(store.sql.queues(None)) == sorted(names)
    for name in names:
        assert {row(store, pk).queue for pk in store.claim(begin(store), [name], 9)} == {name}
    assert len({store.enqueue_unique(keyed(name), replace=False)[0] for name in names}) == len(names)
    assert queue_control.pause(store, ["mail"]) == ["mail"]
    assert queue_control.pause(store, ["MAIL"]) == ["MAIL"]


def test_no_warning_says_that_constraints_are_left_out(mariadb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are not: the migration makes them."""
    for model in (Job, Schedule, Supervisor):
        assert not model.check(databases=[mariadb])
    call_command("check", databases=[mariadb])
    assert "W03" not in capsys.readouterr().err


def test_the_migration_goes_back_and_forth(mariadb: str) -> None:
    """Also where it was cut short: the servers know no transactions of such statements."""
    introspection = connections[mariadb].introspection

    def indexes() -> set[str]:
        with connections[mariadb].cursor() as cursor:
            return {name for name in introspection.get_constraints(cursor, "jobsup_job") if name.startswith("jobsup_")}

    before = indexes()
    assert {"jobsup_job_ready", "jobsup_unique_waiting", "jobsup_unique_running", "jobsup_tick_once"} <= before
    call_command("migrate", "jobsup", "0005", database=mariadb, verbosity=0)
    assert "jobsup_unique_waiting" not in indexes()
    call_command("migrate", "jobsup", database=mariadb, verbosity=0)
    assert indexes() == before


@pytest.mark.parametrize("returns", [True, False], ids=["returning", "last id"])
def test_ids_are_told_with_and_without_returning(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, returns: bool
) -> None:
    """MySQL has no INSERT ... RETURNING."""
    monkeypatch.setattr(MariaDB, "_returns", returns)
    pk, enqueued_at = store.enqueue(new_row())
    assert row(store, pk).enqueued_at == enqueued_at
    texts = [f'{{"args":[{number}],"kwargs":{{}}}}' for number in range(300)]

    def many() -> list[int]:
        found: list[int] = []
        store.enqueue_many(new_row(), [texts[:200], texts[200:]], lambda _batch, pks, _at: found.extend(pks))
        return found

    for pks in at_once([many] * 4):
        assert [each.arguments for each in sorted(store.sql.load(pks), key=lambda each: each.id)] == texts


def test_ids_that_do_not_follow_each_other_are_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is inserted then."""
    from jobsup.errors import JobsupError

    monkeypatch.setattr(MariaDB, "_returns", False)
    monkeypatch.setattr("jobsup.sql.mariadb.FIRST_TO_LAST", "SELECT 1, 1, 1 WHERE %s <> %s OR %s <> %s OR %s <> %s")
    with pytest.raises(JobsupError, match="do not follow each other"):
        store.enqueue_many(new_row(), [[NO_ARGUMENTS] * 3], lambda *_: None)
    assert not Job.objects.using(store.alias).exists()


def test_f42_a_claim_whose_commit_was_answered_to_nobody_is_found_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The jobs are the run's, as its next look tells."""
    pks, run = put(store, 2), begin(store)
    connection: Any = connections[store.alias]
    commit = connection._commit

    def lose() -> None:
        commit()
        raise OperationalError(2013, "Lost connection to server during query")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", lose)
        with pytest.raises(OperationalError):
            store.claim(run, None, 5)
    connection.close()
    assert store.claimed_by(run) == set(pks)
    assert store.claim(run, None, 5) == []


def test_a_deadlock_is_tried_again_unless_it_has_undone_the_callers_transaction(store: Store) -> None:
    """A statement of its own is repeated; within atomic() the caller has to repeat everything, and is told."""

    class Victim:
        def __init__(self) -> None:
            self.left = 9

        def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
            if "INSERT" in sql and self.left:
                self.left -= 1
                error = OperationalError(1213, "Deadlock found when trying to get lock; try restarting transaction")
                error.__cause__ = pymysql.OperationalError(1213, str(error))
                raise error
            return execute(sql, params, many, context)

    connection = connections[store.alias]
    with connection.execute_wrapper(Victim()):
        pk, _ = store.enqueue(new_row())
    assert row(store, pk).status == Status.READY
    with connection.execute_wrapper(Victim()), pytest.raises(OperationalError), transaction.atomic(using=store.alias):
        store.enqueue(new_row())


def test_at_repeatable_read_the_holder_of_a_key_is_found_all_the_same(store: Store, session: Session) -> None:
    """Though the transaction began before it was enqueued and sees nothing of it."""
    connection: Any = connections[store.alias]
    connection.close()
    connection.settings_dict["OPTIONS"]["isolation_level"] = "repeatable read"
    try:
        with transaction.atomic(using=store.alias):
            assert not Job.objects.using(store.alias).exists()
            pk, _ = session(lambda: store.enqueue_unique(keyed("k"), replace=False))
            assert not Job.objects.using(store.alias).exists(), "as it stood at the first look"
            assert store.enqueue_unique(keyed("k"), replace=False) == (pk, None)
    finally:
        connection.close()
        del connection.settings_dict["OPTIONS"]["isolation_level"]


def test_a_cancellation_sees_the_status_as_it_was(store: Store) -> None:
    """An assignment sees what those before it in the statement have assigned."""
    [waiting], run = put(store), begin(store)
    assert store.cancel([waiting]) == {waiting: Status.CANCELLED}
    ended = row(store, waiting)
    assert (ended.untold, ended.finished_at is not None) == (True, True)
    running = claimed(store, run)
    assert store.cancel([running]) == {running: Status.RUNNING}
    asked = row(store, running)
    assert (asked.untold, asked.finished_at, asked.cancel_asked_at is not None) == (False, None, True)
    store.release(run, [running])
    given_back = row(store, running)
    assert (given_back.status, given_back.attempt, given_back.finished_at) == (5, 0, asked.cancel_asked_at)


def test_p5_moments_are_the_servers_whatever_zone_a_session_has(store: Store) -> None:
    """UTC in the columns; a session in another zone reads and writes the same."""
    before = store.sql.now()
    with connections[store.alias].cursor() as cursor:
        cursor.execute("SET time_zone = '+09:00'")
    try:
        pk, enqueued_at = store.enqueue(new_row())
        assert timedelta(0) <= enqueued_at - before < timedelta(hours=1)
        assert Job.objects.using(store.alias).get(pk=pk).enqueued_at == enqueued_at
        assert abs(store.sql.now() - before) < timedelta(hours=1)
    finally:
        connections[store.alias].close()


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"], ids=["no zones", "a zone"])
def test_moments_follow_the_settings_of_the_project(mariadb: str, zone: str | None) -> None:
    """USE_TZ off, or a database whose columns are in another zone."""
    connection = connections[mariadb]
    changed = {"USE_TZ": False} if zone is None else {}
    before = connection.settings_dict["TIME_ZONE"]
    connection.close()
    try:
        connection.settings_dict["TIME_ZONE"] = zone
        for name in ("timezone", "timezone_name"):
            connection.__dict__.pop(name, None)
        with override_settings(**changed):
            store = Store(mariadb)
            now: datetime = store.sql.now()
            later = new_row(run_after=now + timedelta(hours=1))
            pk, enqueued_at = store.enqueue(later)
            assert abs(Job.objects.using(mariadb).get(pk=pk).enqueued_at - now) < timedelta(minutes=1)
            assert abs(enqueued_at - now) < timedelta(minutes=1)
            assert 3500 < (store.sql.next_due_s() or 0.0) <= 3600
    finally:
        connection.close()
        connection.settings_dict["TIME_ZONE"] = before
        for name in ("timezone", "timezone_name"):
            connection.__dict__.pop(name, None)


def test_the_supervisors_session_waits_for_nothing_long(store: Store, session: Session) -> None:
    """Neither for a lock nor for a statement; a worker's may."""
    [pk], run = put(store), begin(store)
    store.claim(run, None, 1)
    store.sql.bound_waits(1.0)
    connections[store.alias].close()
    try:
        store.sql.attend(listen=False)
        with session.atomic(store.alias):
            session(lambda: Job.objects.using(store.alias).filter(pk=pk).update(worker="x"))
            with pytest.raises(OperationalError, match=r"1205|1969"):
                store.finish(run, [success(pk)])
        with pytest.raises(DatabaseError, match=r"1969|interrupted"):
            store.sql.rows("SELECT SLEEP(5), count(*) FROM jobsup_job")
    finally:
        connections[store.alias].close()
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            connections[store.alias].settings_dict["OPTIONS"].pop(name)
    assert store.finish(run, [success(pk)]) == {pk}


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "", None])
def test_a_supervisor_connects_by_two_statements(store: Store, session: Session, level: str | None) -> None:
    """The driver's own and ours, since it connects anew every few seconds; at the level that the project names."""
    options = connections[store.alias].settings_dict["OPTIONS"]
    before = dict(options)
    if level != "":
        options["isolation_level"] = level
    wanted = dict(options)

    def connected() -> tuple[int, str]:
        sql = Store(store.alias).sql
        sql.bound_waits(2.5)
        for _ in range(2):  # the first time it asks which server this is
            connections[store.alias].close()
            sql.attend(listen=False)
        [(_, said)] = sql.rows("SHOW SESSION STATUS LIKE 'Questions'")
        [(now,)] = sql.rows("SELECT @@SESSION.tx_isolation")
        connections[store.alias].close()
        return int(said) - 1, now

    try:
        said, now = session(connected)
        assert {name: options.get(name) for name in wanted} == wanted
        assert ("isolation_level" in options) == (level != "")
    finally:
        options.clear()
        options.update(before)
    assert said == 2
    [(servers,)] = store.sql.rows("SELECT @@GLOBAL.tx_isolation")
    assert now == (servers if level is None else (level or "read committed").upper().replace(" ", "-"))


def test_p3_no_statement_reads_the_whole_table(store: Store) -> None:
    """What a supervisor and its workers do all day, in a table of many jobs."""
    with connections[store.alias].cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, status, attempt,
                                        claimed_by, worker, enqueued_at)
                SELECT '{NOOP}', substr('abcd', 1 + seq %% 4, 1), 'default', seq %% 3, '{{}}', '2100-01-01',
                       CASE seq %% 40 WHEN 0 THEN 1 WHEN 1 THEN 3 WHEN 2 THEN 4 ELSE 0 END, 1, NULL, '', NOW(6)
                FROM seq_1_to_{JOBS}""",
            (),
        )
        cursor.execute("ANALYZE TABLE jobsup_job, jobsup_failedattempt")
    run = begin(store)
    pks = store.claim(run, ["a"], 10)
    seen = []

    def look(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        if "jobsup_job" in sql and not many and "INSERT" not in sql:
            cursor = connections[store.alias].create_cursor()
            cursor.execute(f"EXPLAIN {sql}", params)
            seen.append((sql, cursor.fetchall()))
            cursor.close()
        return execute(sql, params, many, context)

    with connections[store.alias].execute_wrapper(look):
        store.claim(run, ["a"], 5)
        store.claim(run, ["a", "b", "c"], 5)
        store.claim(run, None, 5)
        store.sql.promote()
        store.sql.next_due_s()
        store.claimed_by(run)
        store.cancel_asked(run)
        store.finish(run, [success(pk) for pk in pks[:3]])
        store.finish(run, [success(pks[3])])
        store.mark_running(run, pks[4], "x", 1.0)
        store.lost(run, [loss(pks[4]), loss(pks[5])])
        store.release(run, pks[6:8])
        store.cancel([pks[8]])
        runs.recover(store, run, "x")
        untold.untold_of(store, run)
        untold.adopt(store, run)
        store.enqueue_unique(keyed("k"), replace=False)
        store.enqueue_unique(keyed("k"), replace=False)
    for sql, plan in seen:
        for step in plan:
            table, kind, rows, extra = step[2], step[3], step[-2], str(step[-1])
            if table is not None and re.fullmatch(r"jobsup_job|job|U0", str(table)):
                assert kind not in ("ALL", "index") or "optimized away" in extra, f"{sql}\n{plan}"
                assert "filesort" not in extra or int(rows or 0) <= JOBS // 100, f"{sql}\n{plan}"


def test_the_doctor_knows_the_server(store: Store) -> None:
    """It says what the tests' server does not do for durability, and finds an old transaction."""
    begin(store)
    codes = {finding.code for finding in examine(store, Conf())}
    assert "not-durable" in codes
    assert codes.isdisjoint({"engine", "collation", "isolation", "binary-log", "packet", "old-server", "read-only"})


def test_the_doctor_finds_an_old_transaction(store: Store, session: Session) -> None:
    """It names the connection to end."""
    from jobsup.doctor import Limits

    begin(store)
    with session.atomic(store.alias):
        session(lambda: put(store))
        [[thread]] = session(lambda: store.sql.rows("SELECT CONNECTION_ID()"))

        def found() -> str:
            time.sleep(0.2)  # the server looks anew only if nobody has asked it for a tenth of a second
            findings = examine(store, Conf(), Limits(transaction_s=-1.0))
            return "".join(finding.remedy for finding in findings if finding.code == "old-transaction")

        eventually(lambda: f"KILL {thread}" in found(), 30, "the finding", found)
