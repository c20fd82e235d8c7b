"""Recording the ends of jobs: in time, in the lane's order, whatever one of them or the database does (P13)."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connections

from jobsup import recorder as recorder_module
from jobsup import runs
from jobsup.compat import TaskResultStatus
from jobsup.models import Job, Status
from jobsup.recorder import LATEST_S, TOGETHER_MAX, Entry, Recorder
from jobsup.store import Store
from spawnpool.errors import SourceUnavailable
from tests.db import misfits
from tests.db.rows import begin, claimed, failure, failures_of, put, row, silent_for, success
from tests.support import eventually
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobsup.store import Outcome
    from tests.db.bench import Bench
    from tests.db.rows import Session

NOT_FOR_LUCK_S = 10.0  # how much later than promised an end may be seen on a machine that is busy with other things


class Ends:
    """A recorder with a run of its own; what it settles is kept with the time."""

    def __init__(self, alias: str) -> None:
        self.store = Store(alias)
        self.run = begin(self.store)
        self.settled: list[int] = []
        self.recorder = Recorder(self.store, self.run, self.settled.append)
        self.recorded: list[int] = []

    def claim(self, number: int) -> list[int]:
        """Have jobs that belong to the run."""
        pks = put(self.store, number)
        assert self.store.claim(self.run, None, number) == pks
        return pks

    def keep(self, outcome: Outcome, *, told: bool = True) -> None:
        """Take in the end of a job that returned just now, and of which somebody is told or nobody."""
        now, pk = time.monotonic(), outcome.row.pk
        self.recorder.keep(Entry(pk, outcome, now - 0.001, now, partial(self.recorded.append, pk) if told else None))

    def status(self, pk: int) -> Status:
        """Return what stands in the row."""
        return Status(row(self.store, pk).status)


@pytest.fixture
def ends(alias: str) -> Ends:
    """A recorder on each database."""
    return Ends(alias)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat without waiting in between."""
    monkeypatch.setattr(recorder_module, "RETRY_S", (0.0, 0.0, 0.0))


def failing(store: Store, error: Exception, times: int, for_pk: int | None = None) -> list[int]:
    """Make the store's writes fail; the answer grows with each try."""
    finish, tries = store.finish, []

    def refuse(run: int, outcomes: Sequence[Outcome]) -> set[int]:
        if for_pk is None or for_pk in [outcome.row.pk for outcome in outcomes]:
            tries.append(len(outcomes))
            if len(tries) <= times:
                raise error
        return finish(run, outcomes)

    store.finish = refuse  # type: ignore[method-assign]
    return tries


def test_several_ends_are_recorded_together_and_settled_by_the_last(ends: Ends) -> None:
    """One batch, one report; the callbacks come after the record, in the lane's order."""
    pks = ends.claim(3)
    for pk in pks:
        ends.keep(success(pk))
    assert ends.recorded == []
    ends.recorder.flush()
    assert ends.settled == [pks[-1]]
    assert ends.recorded == pks
    assert {ends.status(pk) for pk in pks} == {Status.SUCCESSFUL}
    ends.recorder.flush()
    assert ends.settled == [pks[-1]], "nothing waits, nothing is told"


def test_telling_of_an_end_cannot_harm_the_others(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    """One callback fails, in a way that `except Exception` does not see: it is told, the others are called."""
    pks = ends.claim(3)
    now = time.monotonic()

    def leave() -> None:
        raise SystemExit

    ends.keep(success(pks[0]))
    ends.recorder.keep(Entry(pks[1], success(pks[1]), now, now, leave))
    ends.keep(success(pks[2]))
    ends.recorder.flush()
    assert ends.recorded == [pks[0], pks[2]]
    assert f"job {pks[1]} is recorded, but telling so failed: builtins.SystemExit" in caplog.text


def test_an_end_is_due_when_it_has_waited_or_when_many_wait(ends: Ends) -> None:
    """The limit is on the oldest end, and on their number."""
    now = time.monotonic()
    assert not ends.recorder.is_due()
    ends.recorder.keep(Entry(1, None, now, now + 60))
    assert not ends.recorder.is_due()
    for pk in range(TOGETHER_MAX - 1):
        ends.recorder.keep(Entry(pk, None, now, now + 60))
    assert ends.recorder.is_due()
    ends.recorder.flush()
    ends.recorder.keep(Entry(1, None, now, time.monotonic() - LATEST_S))
    assert ends.recorder.is_due()


def test_an_end_is_recorded_while_the_next_job_runs_on(ends: Ends) -> None:
    """The helper thread records it over a connection of its own; the callback waits for the main thread."""
    [pk] = ends.claim(1)
    ends.keep(success(pk))
    ends.recorder.guard(time.monotonic())
    began = time.monotonic()
    eventually(lambda: ends.status(pk) == Status.SUCCESSFUL, NOT_FOR_LUCK_S, "the record")
    finished_at = row(ends.store, pk).finished_at
    assert finished_at is not None
    assert time.monotonic() - began < NOT_FOR_LUCK_S
    eventually(lambda: ends.settled == [pk], NOT_FOR_LUCK_S, "the report")
    assert ends.recorded == []
    ends.recorder.flush()
    assert ends.recorded == [pk]
    assert ends.settled == [pk]


def test_the_helper_keeps_no_connection(postgresql: str, session: Session) -> None:
    """A while after its last round the helper thread holds no session at the server."""
    ends = Ends(postgresql)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    before = session(lambda: ends.store.sql.rows(count))
    [pk] = ends.claim(1)
    ends.keep(success(pk))
    ends.recorder.guard(time.monotonic())
    eventually(lambda: ends.settled == [pk], NOT_FOR_LUCK_S, "the report")
    eventually(lambda: session(lambda: ends.store.sql.rows(count)) == before, NOT_FOR_LUCK_S, "the end of the session")


def test_settled_keys_keep_the_lanes_order(ends: Ends) -> None:
    """The helper and the main thread take turns; no later key is ever settled before an earlier one."""
    pks = ends.claim(60)
    for pk in pks:
        ends.recorder.guard(time.monotonic())
        ends.keep(success(pk))
        if pk % 7 == 0 or ends.recorder.is_due():
            ends.recorder.flush()
    ends.recorder.flush()
    assert ends.settled == sorted(ends.settled)
    assert ends.settled[-1] == pks[-1]
    assert ends.recorded == pks
    assert not Job.objects.using(ends.store.alias).exclude(status=Status.SUCCESSFUL).exists()


def test_a_flush_waits_for_the_helper_that_is_writing(ends: Ends, session: Session) -> None:
    """Else a later key would be settled first, and the earlier ones with it before they are recorded."""
    first, second = ends.claim(2)
    finish, entered, go = ends.store.finish, threading.Event(), threading.Event()

    def slowly(run: int, outcomes: Sequence[Outcome]) -> set[int]:
        if outcomes[0].row.pk == first:
            entered.set()
            assert go.wait(NOT_FOR_LUCK_S)
        return finish(run, outcomes)

    ends.store.finish = slowly  # type: ignore[method-assign]
    ends.keep(success(first))
    ends.recorder.guard(time.monotonic())
    assert entered.wait(NOT_FOR_LUCK_S)
    ends.keep(success(second))
    flushing = session.begin(ends.recorder.flush)
    with suppress(TimeoutError):
        flushing.result(0.2)  # it must not come to its end by itself
    assert ends.settled == []
    go.set()
    flushing.result(NOT_FOR_LUCK_S)
    assert ends.settled == [first, second]


def test_p13_one_end_that_the_database_refuses_harms_no_other(ends: Ends) -> None:
    """The others are recorded as they are; that one becomes a failure that says so."""
    first, refused, last = ends.claim(3)
    tries = failing(ends.store, DataError("no such character"), 2, for_pk=refused)
    for pk in (first, refused, last):
        ends.keep(success(pk))
    ends.recorder.flush()
    assert tries == [3, 1, 1]
    assert [ends.status(pk) for pk in (first, refused, last)] == [Status.SUCCESSFUL, Status.FAILED, Status.SUCCESSFUL]
    [told] = failures_of(ends.store, refused)
    assert told.traceback == "the outcome could not be stored: DataError"
    assert ends.settled == [last]


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_p13_a_database_in_trouble_is_asked_again(ends: Ends, no_pauses: None, kind: type[Exception]) -> None:
    """An error that may pass, the server's or the driver's, is followed by a new connection and another try."""
    [pk] = ends.claim(1)
    driver = connections[ends.store.alias].connection
    tries = failing(ends.store, kind("deadlock detected, connection already closed"), 2)
    ends.keep(success(pk))
    ends.recorder.flush()
    assert tries == [1, 1, 1]
    assert ends.status(pk) == Status.SUCCESSFUL
    assert connections[ends.store.alias].connection is not driver


def test_p13_a_plain_error_of_a_dead_session_is_asked_again(postgresql: str, no_pauses: None) -> None:
    """The driver tells the crash of a server as a plain DatabaseError: whether the session lives decides."""
    ends = Ends(postgresql)
    [pk] = ends.claim(1)
    finish = ends.store.finish

    def crash(run: int, outcomes: Sequence[Outcome]) -> set[int]:
        driver: Any = connections[postgresql].connection
        driver.close()
        ends.store.finish = finish  # type: ignore[method-assign]
        raise DatabaseError("server closed the connection unexpectedly")

    ends.store.finish = crash  # type: ignore[method-assign]
    ends.keep(success(pk))
    ends.recorder.flush()
    assert ends.status(pk) == Status.SUCCESSFUL


def test_p13_nothing_is_settled_that_could_not_be_recorded(ends: Ends, no_pauses: None) -> None:
    """The worker is told that it cannot go on; what it could not record waits, and is recorded if it can be."""
    [pk] = ends.claim(1)
    failing(ends.store, OperationalError("the server is gone"), 3)
    ends.keep(success(pk))
    with pytest.raises(SourceUnavailable, match=r"outcomes cannot be recorded .* the server is gone"):
        ends.recorder.flush()
    assert (ends.settled, ends.recorded, ends.status(pk)) == ([], [], Status.RUNNING)
    ends.recorder.flush()
    assert (ends.settled, ends.recorded, ends.status(pk)) == ([pk], [pk], Status.SUCCESSFUL)


def test_p13_a_failure_that_cannot_be_told_ends_the_worker_in_words(ends: Ends) -> None:
    """When not even the short form is taken, the claim is left to the supervisor: the end of a worker that cannot."""
    [pk] = ends.claim(1)
    failing(ends.store, DataError("disk of the wrong size"), 100)
    ends.keep(failure(pk))
    with pytest.raises(SourceUnavailable, match="disk of the wrong size"):
        ends.recorder.flush()
    assert (ends.settled, ends.status(pk)) == ([], Status.RUNNING)


def test_p13_the_helper_does_not_spin_over_an_error(
    ends: Ends, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the job runs on and the database refuses, the helper tries now and then (fault 48)."""
    monkeypatch.setattr(recorder_module, "PAUSE_S", 0.2)
    [pk] = ends.claim(1)
    tries = failing(ends.store, DataError("permission denied"), 10**9)
    ends.keep(success(pk))
    began = time.monotonic()
    ends.recorder.guard(time.monotonic())
    eventually(lambda: len(tries) > 2, NOT_FOR_LUCK_S, "a second round")
    threading.Event().wait(0.3)  # the time over which it must not spin
    rounds_max = (time.monotonic() - began) / 0.2 + 1
    assert len(tries) <= 2 * rounds_max, "each round tries twice: as it is, and the short form"
    assert caplog.text.count("permission denied") <= rounds_max
    del ends.store.finish
    eventually(lambda: ends.settled == [pk], NOT_FOR_LUCK_S, "the record, once the database takes it again")


def test_p8_an_answer_that_was_lost_is_no_late_result(
    ends: Ends, caplog: pytest.LogCaptureFixture, no_pauses: None
) -> None:
    """The commit went through, its answer did not: the repeat knows that the end is there (fault 42)."""
    pks = ends.claim(2)
    finish = ends.store.finish
    lost: list[set[int]] = []

    def commit_and_lose(run: int, outcomes: Sequence[Outcome]) -> set[int]:
        accepted = finish(run, outcomes)
        if not lost:
            lost.append(accepted)
            raise OperationalError("server closed the connection unexpectedly")
        return accepted

    ends.store.finish = commit_and_lose  # type: ignore[method-assign]
    ends.keep(success(pks[0]))
    ends.keep(failure(pks[1], retry_in_s=60))
    ends.recorder.flush()
    assert ends.recorded == pks
    assert ends.settled == [pks[1]]
    assert "late result refused" not in caplog.text


def test_p6_a_late_result_is_refused_and_logged(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    """The end of a job that was given away is told, settled and not recorded; no callback comes."""
    zombie_pk, own_pk = ends.claim(2)
    heir = begin(ends.store)
    silent_for(ends.store, ends.run, 31)
    runs.recover(ends.store, heir, "")
    assert ends.store.claim(heir, None, 1) == [zombie_pk]
    ends.keep(success(zombie_pk))
    ends.keep(success(own_pk))
    ends.recorder.flush()
    assert f"late result refused: attempt 1 of job {zombie_pk} is owned by somebody else" in caplog.text
    assert ends.recorded == []
    assert ends.settled == [own_pk]
    assert ends.status(zombie_pk) == Status.RUNNING


@pytest.fixture
def _let_go() -> Iterator[None]:
    misfits.hold.clear()
    yield
    misfits.hold.set()


@pytest.mark.usefixtures("_let_go")
def test_a_short_job_is_recorded_while_a_long_one_runs_after_it(bench: Bench, session: Session) -> None:
    """Seen from outside: the first of a hand is done long before the second returns."""
    short, long = tasks.noop.enqueue(), misfits.held.enqueue()
    pks = bench.claim()

    def watch() -> Any:
        try:
            eventually(lambda: row(bench.store, pks[0]).status == Status.SUCCESSFUL, NOT_FOR_LUCK_S, "the record")
            return bench.settled_keys[:]
        finally:
            misfits.hold.set()

    watching = session.begin(watch)
    bench.play(pks)
    assert watching.result(NOT_FOR_LUCK_S) in ([], [pks[0]])  # the report follows the commit
    assert bench.settled_keys == pks
    for result in (short, long):
        result.refresh()
        assert result.status == TaskResultStatus.SUCCESSFUL


def test_a_job_that_is_not_ours_any_more_is_left_out(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Deleted, or given to another run meanwhile: it does not run, and the lane goes on."""
    gone, away, mine = (claimed(bench.store, bench.run) for _ in range(3))
    Job.objects.using(bench.alias).filter(pk=gone).delete()
    Job.objects.using(bench.alias).filter(pk=away).update(claimed_by=bench.run + 1)
    bench.play([gone, away, mine])
    assert caplog.text.count("is left out") == 2
    assert bench.settled_keys[-1] == mine
    assert row(bench.store, away).status == Status.RUNNING
    assert row(bench.store, mine).status == Status.SUCCESSFUL
