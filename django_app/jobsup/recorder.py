"""Records the ends of jobs in the database: several short ones in one statement, none later than 10 ms.

A helper thread, started at the first need, records on a connection of its own while the worker goes on with the next
jobs: the wait for the disk is spent on them. Where jobs are so short that they hardly wait for anything themselves, the
main thread records between two of them: another one would only compete with it for the interpreter's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connections

from jobsup.hygiene import drop
from jobsup.models import Status
from jobsup.reaching import no_room
from jobsup.sql import FinishRow
from jobsup.sql.trouble import is_crowded
from jobsup.store import Failure, Outcome, Store
from jobsup.text import class_path
from jobsup.untold import take
from spawnpool.errors import LaneLost, SourceCrowded, SourceUnavailable

LATEST_S = 0.010
"""How long an end may wait to be recorded (design: 10 ms)."""
MAIN_SHARE = 0.3
"""The last part of that time, in which the main thread records after a job; one that takes longer is long."""
SHORT_JOBS = 40
"""So many within that time are short: less than 0.25 ms each."""
TOGETHER_MAX = 500
RETRY_S = (0.0, 0.1, 0.5, 1.0, 2.0, *[4.0] * 6)
"""The waits between tries: together about 28 s, less than the usual lease of 30 s."""
ROOM_TRIES = 3
"""How often to try for a connection where none is left: others can do what this one was to begin."""
REFUSALS = (DatabaseError, ValueError)
"""How a database, or the driver before it, says no to data."""
WORKER_CHARS_MAX = 160
"""The width of the column."""
PAUSE_S = 1.0
"""How long the helper thread leaves a database alone that refused."""
KEEP_S = 1.0
"""How long it keeps its connection while there is nothing to record."""

T = TypeVar("T")
_log = logging.getLogger("jobsup.worker")


class Entry(NamedTuple):
    """A job that returned, with its times on the monotonic clock; `outcome` is None if it was not ours to run."""

    pk: int
    outcome: Outcome | None
    started_at: float
    ended_at: float
    recorded: Callable[[], None] | None = None
    """Called in the main thread once the outcome was accepted."""
    untold: bool = False
    """It was ended by no worker: there is nothing to record, but its receivers are to be told, if nobody else does."""
    committed: bool = False
    """Its end was recorded by its own transaction."""


class Recorder:
    """The outcomes of one worker on their way into the database.

    Args:
        store: where they go.
        run: the supervisor's run that owns the jobs.
        settled: told the last key of every batch that needs no more care.
        alive: told that this worker is well, while that cannot be seen otherwise.
    """

    def __init__(
        self, store: Store, run: int, settled: Callable[[int], None], alive: Callable[[], object] = lambda: None
    ) -> None:
        self._store, self._run, self._settled, self._alive = store, run, settled, alive
        self._entries: list[Entry] = []
        self._recorded: list[Entry] = []
        self._listing = threading.Lock()  # of the two lists; held for an instant
        self._writing = threading.Lock()  # held while writing, so that batches are settled in the lane's order
        self._busy_since = 0.0  # when the job at hand began
        self._wanted = threading.Event()  # the helper thread is to look after what waits
        self._hurry = threading.Event()  # it is to record at once
        self._thread: threading.Thread | None = None

    def keep(self, entry: Entry) -> None:
        """Take in the end of a job."""
        with self._listing:
            self._entries.append(entry)

    @property
    def waits(self) -> bool:
        """Whether anything waits to be recorded."""
        return bool(self._entries)

    def is_due(self) -> bool:
        """Tell the main thread whether to record now: enough wait, or the oldest has waited for most of its time."""
        return self._left_s() <= LATEST_S * MAIN_SHARE or len(self._entries) >= TOGETHER_MAX

    def hand_over(self) -> bool:
        """Have the helper thread record what waits while the next job runs; False if that is better done here.

        So it is where anybody is to be told, which is for the main thread and not to be put off, and where everything
        was committed by the jobs themselves: then there is nothing to wait for.
        """
        many, told = len(self._entries) >= SHORT_JOBS, any(entry.recorded is not None for entry in self._entries)
        written = all(entry.committed for entry in self._entries)
        if many or told or written or not self._store.sql.several_may_write:
            return False
        self._hurry.set()
        self._wake()
        return True

    def record(self) -> None:
        """Record everything that waits; to be told by the next `flush`."""
        self._flush()

    def flush(self) -> None:
        """Record everything that waits; from the main thread, between jobs.

        Raises:
            SourceUnavailable: the database could not be reached for several seconds.
        """
        self._flush()
        with self._listing:
            recorded, self._recorded = self._recorded, []
        for entry in recorded:
            self._alive()  # those who are told may take their time
            if entry.recorded is not None:
                _tell(entry.pk, entry.recorded)

    def guard(self, started_at: float) -> None:
        """Have the helper thread record what waits, should the job that begins take longer than that may wait.

        Args:
            started_at: when it begins, on the monotonic clock.
        """
        self._busy_since = started_at
        if self._entries and not self._wanted.is_set():
            self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="jobsup-recorder", daemon=True)
            self._thread.start()
        self._wanted.set()

    def _watch(self) -> None:
        while True:
            if not self._wanted.wait(KEEP_S):
                connections[self._store.alias].close()
                self._wanted.wait()
            while (left_s := self._left_alone_s()) < LATEST_S * 2:
                if left_s > LATEST_S * 0.1:
                    self._hurry.wait(left_s - LATEST_S * 0.1)
                elif not self._flush_late():
                    time.sleep(PAUSE_S)
            self._wanted.clear()
            if self._entries:  # came in between the last look and the clear
                self._wanted.set()

    def _left_s(self) -> float:
        """Return for how long the oldest end may still wait; more than it may at all if none waits."""
        with self._listing:
            if not self._entries:
                return LATEST_S * 3
            return self._entries[0].ended_at + LATEST_S - time.monotonic()

    def _left_alone_s(self) -> float:
        """Return for how long the helper thread need not care: the main thread looks after a job that is short."""
        if self._hurry.is_set() and self._entries:
            return 0.0
        return max(self._left_s(), self._busy_since + LATEST_S * MAIN_SHARE - time.monotonic())

    def _flush_late(self) -> bool:
        try:
            self._flush()
        except SourceUnavailable as error:
            _log.warning("the ends of some jobs wait: %s", error)
            return False
        except LaneLost:  # the job that is running did that; the main thread finds out when it returns
            return False
        return True

    def _flush(self) -> None:
        with self._writing:
            with self._listing:
                entries, self._entries = self._entries, []
                self._hurry.clear()
            if not entries:
                return
            try:
                self._write(entries)
            except BaseException:
                with self._listing:
                    self._entries = entries + self._entries
                raise

    def _write(self, entries: Sequence[Entry]) -> None:
        outcomes = [_aged(entry.outcome, entry) for entry in entries if entry.outcome is not None]
        accepted = self._finish(outcomes) if outcomes else set()
        accepted |= {entry.pk for entry in entries if entry.committed}
        if untold := [entry.pk for entry in entries if entry.untold]:
            accepted |= self._take(untold)
        for outcome in outcomes:
            if outcome.row.pk not in accepted:
                _log.warning(
                    "late result refused: attempt %d of job %d is owned by somebody else by now",
                    outcome.row.attempt,
                    outcome.row.pk,
                )
        with self._listing:
            self._recorded += [entry for entry in entries if entry.recorded is not None and entry.pk in accepted]
        self._settled(entries[-1].pk)

    def _finish(self, outcomes: Sequence[Outcome]) -> set[int]:
        """Write outcomes; one that the database refuses as data is told as that job's failure.

        Raises:
            SourceUnavailable: not even that could be written.
        """
        try:
            return self._insist(outcomes)
        except REFUSALS as error:
            stub = [_stub(outcome, error) for outcome in outcomes]
        if len(outcomes) > 1:
            return set().union(*(self._finish([outcome]) for outcome in outcomes))
        try:
            return self._insist(stub)
        except REFUSALS as error:
            raise SourceUnavailable(f"the end of job {stub[0].row.pk} cannot be recorded: {error}") from error

    def _take(self, pks: Sequence[int]) -> set[int]:
        """Take jobs in order to tell of them; return those that are ours to tell of."""
        return insist(
            lambda: take(self._store, pks, self._run), self._store.alias, "ends cannot be told", self._alive
        )  # fmt: skip

    def _insist(self, outcomes: Sequence[Outcome]) -> set[int]:
        return insist(
            lambda: self._store.finish(self._run, outcomes),
            self._store.alias,
            "outcomes cannot be recorded",
            self._alive,
        )


def _tell(pk: int, recorded: Callable[[], None]) -> None:
    """Tell of an end that is recorded; whatever goes wrong there must not take the worker and the next jobs along."""
    try:
        recorded()
    except BaseException as error:  # noqa: BLE001  # receivers of a signal do what they like; so does what they log
        _log.warning("job %d is recorded, but telling so failed: %s", pk, class_path(error))


def insist(
    operation: Callable[[], T],
    alias: str,
    what: str,
    alive: Callable[[], object] = lambda: None,
    *,
    gives_way: bool = False,
) -> T:
    """Do a database operation that may be repeated, over new connections if need be, for some seconds.

    Args:
        operation: what to do; commits by itself.
        alias: of the database whose connection is dropped after a failure.
        what: the trouble, for the error.
        alive: called before each try.
        gives_way: whether to wait for no more than `ROOM_TRIES` where the database has no connection left.

    Raises:
        SourceCrowded: it has none.
        SourceUnavailable: the database could not be reached all the while.
        DatabaseError: it was reached and refused the data, or refused over a fresh connection too.
    """
    last, fresh = "", False
    for tries, delay_s in enumerate(RETRY_S, 1):
        if delay_s:  # a sleep of no time at all takes a switch of threads and 0.1 ms all the same
            time.sleep(delay_s)
        alive()
        try:
            return operation()
        except (DatabaseError, InterfaceError) as error:
            # Psycopg 2 tells a server that crashes by a plain DatabaseError. And a refusal may be due to what a job
            # did to the session (search_path, role, read-only): a fresh one decides.
            connection = connections[alias]
            away = isinstance(error, (OperationalError, InterfaceError)) or (
                connection.connection is not None and not connection.is_usable()
            )
            if not away and (fresh or isinstance(error, DataError)):
                raise
            if gives_way and tries >= ROOM_TRIES and is_crowded(error):
                raise SourceCrowded(no_room(alias, error)) from error
            last, fresh = str(error).strip(), not away
            drop(connection)
    raise SourceUnavailable(f"{what} in the database {alias!r}: {last}")


def _aged(outcome: Outcome, entry: Entry) -> Outcome:
    now, row = time.monotonic(), outcome.row
    # Made anew in one go: `_replace` and `replace` cost four times as much.
    return Outcome(FinishRow(*row[:5], now - entry.started_at, now - entry.ended_at, *row[7:]), outcome.failure)


def _stub(outcome: Outcome, error: Exception) -> Outcome:
    """Return the failure that stands for an outcome which the database does not take, of text that every one takes."""
    sentence = f"the outcome could not be stored: {type(error).__name__}".encode("ascii", "replace").decode()
    worker = outcome.row.worker.encode("ascii", "replace").decode().replace("\x00", "?")[:WORKER_CHARS_MAX]
    row = outcome.row._replace(status=Status.FAILED, result=None, worker=worker, left_behind=None, uncounted=0)
    return Outcome(row, Failure("jobsup.errors.JobsupError", sentence))
