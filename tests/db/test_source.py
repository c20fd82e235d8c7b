"""The supervisor's source of work over the database: it misses nothing, loses nothing, and speaks in words."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from jobsup import runs
from jobsup import source as source_module
from jobsup.conf import Conf
from jobsup.models import Job, Status, Supervisor
from jobsup.source import DatabaseSource
from jobsup.store import Store
from spawnpool.errors import RunOver, SourceRefused, SourceUnavailable
from spawnpool.runfile import RunFile
from spawnpool.source import Loss
from spawnpool.states import Ended
from tests.db.rows import begin, claimed, failures_of, put, row, silent_for, statements_of
from tests.support import eventually
from tests.vendors import ON_ONE_STATEMENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.db.rows import Session


class Fed:
    """An open source, what it claimed for, and the store beside it."""

    def __init__(self, alias: str, runfile: RunFile, **settings: Any) -> None:
        self.store = Store(alias)
        self.source = DatabaseSource(replace(Conf(), **settings), None, runfile, 1)
        self.run, _ = self.source.open()

    def beat(self) -> None:
        """Do what is done three times per lease."""
        self.source.beat("running")
        self.source.recover()

    def killed(self, pk: int, ended: Ended = Ended.DIED) -> None:
        """Tell that the worker of a job was killed."""
        self.source.lost([Loss(pk, 1, 100, "was killed by SIGKILL", 2.0, ended)])


@pytest.fixture
def runfile(tmp_path: Path) -> Iterator[RunFile]:
    """A run file of the test's own."""
    held = RunFile(tmp_path / "source.run")
    yield held
    held.release()


@pytest.fixture
def fed(routed: str, runfile: RunFile) -> Fed:
    """A source on each database."""
    return Fed(routed, runfile)


def emptied(fed: Fed) -> None:
    """Have the source look until it knows that there is nothing."""
    while fed.source.claim(10).pks:
        pass


def test_new_work_is_found(fed: Fed, session: Session) -> None:
    """Whoever enqueues it."""
    emptied(fed)
    pks = session(lambda: put(fed.store, 3))
    assert fed.source.claim(2).pks == pks[:2]
    assert fed.source.claim(2).pks == pks[2:]
    assert fed.source.claim(2).pks == []


def test_what_is_given_back_is_found_again(fed: Fed) -> None:
    """The source's own writes are changes like any other."""
    pks = put(fed.store, 2)
    assert fed.source.claim(5).pks == pks
    emptied(fed)
    fed.source.release(pks)
    assert fed.source.claim(5).pks == pks


def test_a_job_whose_worker_was_stopped_is_found_again(fed: Fed) -> None:
    """It goes back at once, counted."""
    pk, *_ = put(fed.store)
    fed.source.claim(5)
    emptied(fed)
    fed.killed(pk, Ended.STOPPED)
    assert fed.source.claim(5).pks == [pk]
    assert row(fed.store, pk).attempt == 2


def test_a_killed_job_is_due_after_its_delay(fed: Fed) -> None:
    """The source knows when, and finds it then."""
    [pk] = put(fed.store)
    fed.source.claim(5)
    emptied(fed)
    fed.killed(pk)
    assert fed.source.claim(5).pks == []
    due_s = fed.source.next_due_s()
    assert due_s is not None
    assert 0 <= due_s <= 1
    assert eventually(lambda: fed.source.claim(5).pks, 5, "the next attempt") == [pk]
    [told] = failures_of(fed.store, pk)
    assert told.traceback.startswith(f"worker 1 (pid 100) was killed by SIGKILL while running job {pk} ")
    assert "after 2.0 s" in told.traceback


def test_looking_in_vain_needs_no_connection_on_sqlite(sqlite: str, runfile: RunFile, session: Session) -> None:
    """As long as nothing has changed a look only asks the file system; what others write unheard is found."""
    fed, silent = Fed(sqlite, runfile), Store(sqlite, notify=False)

    def at_rest() -> bool:
        fed.source.before_check()
        looked = [fed.source.claim(5).pks, fed.source.claim(5).pks, fed.source.backlog()]
        return looked == [[], [], 0] and connections[sqlite].connection is None

    for _ in range(3):
        eventually(at_rest, 10, "looks without a statement")
        pks = session(lambda: put(silent))
        assert fed.source.claim(5).pks == pks


def statements_at_a_look(fed: Fed) -> list[str]:
    """Return what is asked for at a look."""
    with statements_of(fed.store.alias) as statements:
        fed.source.claim(5)
    return statements


def test_a_look_that_finds_nothing_only_reads_on_sqlite(sqlite: str, runfile: RunFile) -> None:
    """A supervisor's own beat is a change, after which it looks; it must not lock the database for that."""
    fed = Fed(sqlite, runfile)
    emptied(fed)
    fed.beat()
    [look] = statements_at_a_look(fed)
    assert look.split()[0] == "SELECT"


def test_a_backlog_is_counted_once_there_may_be_one(fed: Fed, session: Session) -> None:
    """No statement while the last look has just found nothing, and a statement as soon as somebody has called."""
    emptied(fed)
    fed.source.woken()
    emptied(fed)
    with statements_of(fed.store.alias) as statements:
        assert fed.source.backlog() == 0
    assert not statements
    session(lambda: put(fed.store, 2))
    eventually(fed.source.woken, 10, "the call")
    assert fed.source.backlog() == 2
    assert len(fed.source.claim(5).pks) == 2


def test_who_is_called_for_everything_looks_seldom_and_for_what_comes_unheard_every_second(
    fed: Fed, session: Session
) -> None:
    """On MariaDB; on PostgreSQL everybody can call, on SQLite a look costs nothing."""
    others = Store(fed.store.alias, notify=False)
    longest_s = fed.store.sql.poll_interval_s
    emptied(fed)
    session(lambda: put(fed.store))
    eventually(fed.source.woken, 10, "the call")
    assert fed.source.claim(5).pks
    emptied(fed)
    vigil = fed.source._lookout._vigil
    later = time.monotonic() + 600
    assert vigil.pause_s(later, longest_s) == longest_s
    session(lambda: put(others))
    assert fed.source.claim(5).pks
    unheard_s = longest_s if fed.store.sql.wakes_everywhere else min(1.0, longest_s)
    assert vigil.pause_s(later, longest_s) == unheard_s


def test_a_scheduled_job_that_comes_unheard_tells_of_others_elsewhere(fed: Fed, session: Session) -> None:
    """It is not there to be taken yet, but nobody has told of it."""
    if fed.store.sql.wakes_everywhere:
        return
    others = Store(fed.store.alias, notify=False)
    emptied(fed)
    session(lambda: put(others, run_after=others.sql.now() + timedelta(hours=1)))
    emptied(fed)
    assert fed.source._lookout._vigil.pause_s(time.monotonic() + 600, 10.0) == 1.0


def test_a_notification_wakes(postgresql_routed: str, runfile: RunFile, session: Session) -> None:
    """The descriptor of the listening session tells; a lost session is told as a reason to look."""
    connections[postgresql_routed].close()  # earlier tests listened on this one
    fed = Fed(postgresql_routed, runfile)
    emptied(fed)
    assert fed.source.wakeup_fd() is not None
    assert not fed.source.woken()
    session(lambda: put(fed.store))
    eventually(fed.source.woken, 5, "the notification")
    assert not fed.source.woken()
    fed.source.before_check()
    assert fed.source.wakeup_fd() is None
    assert connections[postgresql_routed].connection is None
    assert len(fed.source.claim(5).pks) == 1


@pytest.fixture
def postgresql_routed(postgresql: str) -> Iterator[str]:
    """PostgreSQL as the database of everything."""
    from django.test import override_settings

    from tests.db.conftest import TASKS, Everything

    with override_settings(DATABASE_ROUTERS=[Everything(postgresql)], TASKS=TASKS):
        yield postgresql


@contextmanager
def failing_at(alias: str, part: str, *, done: bool = False) -> Iterator[None]:
    """Have statements with a certain part fail as if the server had gone, before or after they were `done`."""

    def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        if part in sql:
            if done:
                execute(sql, params, many, context)
            raise OperationalError("server closed the connection unexpectedly\nmore about it")
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(execute):
        yield


@pytest.mark.parametrize("part", ["min(run_after)", "run_after <="])
@pytest.mark.parametrize("look_s", [0.0, 1000.0], ids=["look", "no look"])
def test_f49_a_claim_that_was_made_is_never_forgotten(
    fed: Fed, monkeypatch: pytest.MonkeyPatch, part: str, look_s: float
) -> None:
    """When the look at scheduled jobs fails, what was claimed meanwhile must still reach the workers."""
    monkeypatch.setattr(source_module, "DUE_LOOK_S", look_s)
    put(fed.store, run_after=fed.store.sql.now() + timedelta(hours=1))
    emptied(fed)
    put(fed.store, 3)
    fed.source._due_at = 0.0  # something has come due
    got: list[int] = []
    with failing_at(fed.store.alias, part), suppress(SourceUnavailable):
        got += fed.source.claim(2).pks
    owned = Job.objects.using(fed.store.alias).filter(claimed_by=fed.run, status=Status.RUNNING)
    assert sorted(owned.values_list("pk", flat=True)) == sorted(got)


@ON_ONE_STATEMENT
def test_f42_a_claim_whose_answer_was_lost_is_asked_for(fed: Fed) -> None:
    """The jobs belong to this run, which never heard of them: they are neither claimed again nor forgotten."""
    held, lost = put(fed.store, 2)
    assert fed.source.claim(1).pks == [held]
    theirs = claimed(fed.store, begin(fed.store), priority=1)
    claim = "SELECT pg_advisory_xact_lock(" if fed.store.sql.connection.vendor == "postgresql" else "SET status = 2"
    with failing_at(fed.store.alias, claim, done=True), pytest.raises(SourceUnavailable):
        fed.source.claim(1)
    assert row(fed.store, lost).claimed_by == fed.run
    assert fed.source.claim(1).pks == []
    assert fed.source.strays([held]) == [lost]
    assert row(fed.store, theirs).claimed_by != fed.run
    fed.source.release([lost])
    assert fed.source.strays([held]) == []
    assert fed.source.claim(1).pks == [lost]
    assert row(fed.store, lost).attempt == 1


def test_the_databases_errors_are_told_in_one_line(fed: Fed) -> None:
    """And the connection is not used any more."""
    put(fed.store)
    with failing_at(fed.store.alias, "UPDATE"), pytest.raises(SourceUnavailable) as told:
        fed.source.claim(1)
    connection = connections[fed.store.alias]
    file = f" ({connection.settings_dict['NAME']})" if connection.vendor == "sqlite" else ""
    expected = f"waiting for the database {fed.store.alias!r}: server closed the connection unexpectedly{file}"
    assert str(told.value) == expected
    assert connection.connection is None
    assert len(fed.source.claim(1).pks) == 1


def test_a_supervisor_that_was_declared_lost_is_told_to_end(fed: Fed) -> None:
    """Its beat is refused in words, once somebody else has taken over."""
    fed.beat()
    silent_for(fed.store, fed.run, 31)
    fed.beat()
    silent_for(fed.store, fed.run, 31)
    runs.recover(fed.store, begin(fed.store), "another")
    with pytest.raises(RunOver):
        fed.beat()


def test_a_beat_takes_over_from_silent_runs(fed: Fed, caplog: pytest.LogCaptureFixture) -> None:
    """Those that have just been found silent at once, and it says so."""
    fed.beat()
    silent = begin(fed.store)
    pk = claimed(fed.store, silent)
    silent_for(fed.store, silent, 31)
    fed.beat()
    assert row(fed.store, pk).status == Status.READY
    assert "recovered 1 job of supervisors that ended without a word" in caplog.text
    assert fed.source.claim(1).pks == [pk]


def test_a_beat_finds_what_a_dead_recoverer_left_before_long(fed: Fed) -> None:
    """A run that was declared lost by somebody who died on the spot keeps nothing for ever."""
    silent = begin(fed.store)
    pk = claimed(fed.store, silent)
    Supervisor.objects.using(fed.store.alias).filter(pk=silent).update(state="lost")
    for _ in range(source_module.BEATS_PER_LOOK):
        fed.beat()
    assert row(fed.store, pk).status == Status.READY


def test_the_next_holder_of_the_run_file_recovers_when_it_opens(fed: Fed, runfile: RunFile) -> None:
    """Without waiting for any lease."""
    [pk] = put(fed.store)
    fed.source.claim(1)
    following = Fed(fed.store.alias, runfile)
    assert row(fed.store, pk).status == Status.READY
    assert following.source.claim(1).pks == [pk]


@pytest.mark.parametrize(("finished", "state"), [(True, "stopped"), (False, "starting")])
def test_a_run_that_owes_something_is_left_for_its_successor(fed: Fed, finished: bool, state: str) -> None:  # noqa: FBT001
    """Only a run without debts is noted as over."""
    fed.source.close(finished=finished)
    assert Supervisor.objects.using(fed.store.alias).get(pk=fed.run).state == state
    assert connections[fed.store.alias].connection is not None  # ours, opened to look


def test_d11_missing_tables_are_told_with_the_remedy(
    fed: Fed, runfile: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and it waits."""
    monkeypatch.setattr(Job._meta, "db_table", "jobsup_nothing")
    with pytest.raises(SourceUnavailable, match=r"has no tables of jobsup; run: manage.py migrate jobsup$"):
        Fed(fed.store.alias, runfile)


def test_d11_a_missing_column_is_told_with_the_remedy(fed: Fed) -> None:
    """An older or newer schema is something to wait for."""
    connection = connections[fed.store.alias]
    table = "jobsup_supervisor"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN state TO condition_of_it")
    try:
        with pytest.raises(SourceUnavailable) as told:
            fed.beat()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN condition_of_it TO state")
    assert "state" in str(told.value)
    assert "\n" not in str(told.value)


def test_settings_that_cannot_work_are_refused(sqlite: str, runfile: RunFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocommit off, a database in memory, a vendor without statements."""
    settings = connections[sqlite].settings_dict
    with monkeypatch.context() as patch:
        patch.setitem(settings, "AUTOCOMMIT", False)  # noqa: FBT003
        with pytest.raises(SourceRefused, match=r"DATABASES\['default'\]\['AUTOCOMMIT'\] is False: jobsup needs it on"):
            Fed(sqlite, runfile)
    with monkeypatch.context() as patch:
        patch.setattr(connections[sqlite], "is_in_memory_db", lambda: True)
        with pytest.raises(SourceRefused, match="lives in the memory of one process: give it a file name"):
            Fed(sqlite, runfile)
    with monkeypatch.context() as patch:
        patch.setattr(type(connections[sqlite]), "vendor", "oracle")
        with pytest.raises(SourceRefused, match="is oracle: jobsup works with PostgreSQL, MariaDB, MySQL and SQLite"):
            DatabaseSource(Conf(), None, runfile, 1)


def test_a_due_job_that_somebody_else_has_locked_is_not_asked_for_in_circles(
    postgresql_routed: str, runfile: RunFile, session: Session
) -> None:
    """The next look waits a moment, and the job is found once it is free."""
    fed = Fed(postgresql_routed, runfile)
    [pk] = put(fed.store, run_after=timezone.now() + timedelta(seconds=0.2))
    emptied(fed)
    locked = Job.objects.using(postgresql_routed).select_for_update().filter(pk=pk)
    with session.atomic(postgresql_routed):
        session(lambda: list(locked))
        eventually(lambda: (fed.store.sql.next_due_s() or 1) <= 0, 5, "its time")

        def waits() -> bool:
            assert fed.source.claim(5).pks == []
            return (fed.source.next_due_s() or 0.0) > source_module.DUE_LOOK_S / 2

        eventually(waits, 5, "a wait for the next look")  # unless this process is kept waiting between the two
    eventually(lambda: fed.source.claim(5).pks == [pk], 5, "the job")
