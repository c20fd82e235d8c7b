"""The transaction of an atomic job: what the job writes and the record of its success are one commit, or nothing.

The job's function runs in a transaction on the alias of jobsup's tables. Right before the COMMIT the same transaction
records the end, fenced by the supervisor's run and the attempt: a job that is somebody else's by now changes nothing. A
savepoint around the function tells for certain whether what is committed is what the function wrote: it is gone if the
job ended the transaction by itself, in whatever way.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.errors import JobInterrupted, TransactionBroken
from jobsup.hygiene import drop
from jobsup.hygiene.connections import is_aborted
from jobsup.recorder import insist
from jobsup.retries import JobDirective
from jobsup.sql import FinishRow, LoadedRow
from jobsup.sql.transactions import has_one_writer, is_conflict, keeps_its_snapshot, may_be_lost, writing_from_the_start
from jobsup.store import Store
from jobsup.text import summary
from spawnpool.errors import LaneLost, SourceUnavailable
from spawnpool.states import ExitCode

CONFLICTS_MAX = 3
"""How often a transaction that lost against others is repeated within the attempt."""
LOSSES_MAX = 1
"""How often one whose connection was lost is."""
LOCKED_S = 5.0
"""After how long it is told that nobody else could write meanwhile; as long as SQLite lets others wait by default."""
PAUSE_S = 0.01
"""Before the n-th repetition up to n times as long is waited, so that two that were in each other's way part."""

Work = Callable[[], FinishRow]
"""Runs the job's function and returns its end."""

_log = logging.getLogger("jobsup.worker")


def _nothing() -> None:
    pass


class _Refused(Exception):
    """The job is somebody else's by now."""


FINAL = (_Refused, JobDirective, JobInterrupted, SourceUnavailable, LaneLost)
"""What is never followed by a repetition."""


class ExactlyOnce:
    """Runs the atomic jobs of one run of a supervisor, one at a time.

    Args:
        store: where jobsup's tables are.
        run: the supervisor's run that owns the jobs.
        alive: told that this worker is well, while it waits for the database.
        record: records the ends of earlier jobs, before nobody else can write for as long as this one runs.
    """

    def __init__(
        self,
        store: Store,
        run: int,
        alive: Callable[[], object] = _nothing,
        record: Callable[[], object] = _nothing,
    ) -> None:
        self._store, self._run, self._alive, self._record = store, run, alive, record

    def perform(self, row: LoadedRow, work: Work, may_repeat: Callable[[], bool]) -> bool:
        """Do a job's work and record its end in one transaction; then do what the work left to `on_commit`.

        A transaction that lost against others, or its connection, has never been: the work is done anew. Within a
        transaction of the caller's, as in tests, it all becomes part of that, and nothing is repeated.

        Args:
            row: the job; its `worker` is who runs it.
            work: what to do.
            may_repeat: whether the job is still wanted.

        Returns:
            Whether the end was accepted; if not, nothing that was written stays.

        Raises:
            SourceUnavailable: the database could not be reached for several seconds: before the work began, or when it
                was to say what became of the commit.
            BaseException: of the work, or of the commit; nothing that was written stays.
        """
        try:
            if self._store.sql.connection.in_atomic_block:
                return self._within(work)
            return self._alone(row, work, may_repeat)
        except _Refused:
            return False

    def _within(self, work: Work) -> bool:
        connection = self._store.sql.connection
        with transaction.atomic(using=self._store.alias):
            finish = _whole(connection, work)
            if not self._store.finish_within(self._run, finish, last=False):
                raise _Refused
        return True

    def _alone(self, row: LoadedRow, work: Work, may_repeat: Callable[[], bool]) -> bool:
        conflicts = losses = 0
        if keeps_its_snapshot(self._store.sql.connection):
            # What the supervisor writes down of a job that has been running for a while would be such a conflict.
            self._insist(lambda: self._store.mark_running(self._run, row.id, row.worker, 0.0))
        if one_writer := has_one_writer(self._store.sql.connection):
            self._record()
        while True:
            attempted = _Transaction(self._store, self._run)
            self._insist(attempted.begin)
            began_at = time.monotonic()
            try:
                attempted.do(work)
                if one_writer and (took_s := time.monotonic() - began_at) > LOCKED_S:
                    told = "job %d %s is atomic and kept everybody else from writing for %.1f s"
                    _log.warning(told, row.id, row.task, took_s)
                return self._commit(row, attempted)
            except BaseException as error:
                conflict, lost = attempted.undo(error)
                conflicts, losses = conflicts + conflict, losses + lost
                repeated = (conflict or lost) and conflicts <= CONFLICTS_MAX and losses <= LOSSES_MAX
                if not repeated or isinstance(error, FINAL) or not may_repeat():
                    raise
                _log.info("job %d %s is repeated from its beginning: %s", row.id, row.task, summary(error))
            time.sleep(PAUSE_S * (conflicts + losses) * random.random())  # noqa: S311  # nothing secret

    def _commit(self, row: LoadedRow, attempted: _Transaction) -> bool:
        """Commit; where the answer was an error, or none, ask what became of it."""
        try:
            attempted.commit()
        except Exception as error:
            drop(attempted.connection)  # a new connection asks, which waits for a commit that is still under way
            happened = self._insist(lambda: self._store.was_committed(self._run, row.id, row.attempt))
            if happened is None:
                raise _Refused from error
            if not happened:
                raise
            _log.info("job %d %s: the answer to its commit was lost, but it is committed", row.id, row.task)
        attempted.call_back(row)
        return True

    def _insist(self, operation: Callable[[], Any]) -> Any:
        return insist(operation, self._store.alias, "the transaction of an atomic job cannot be had", self._alive)


class _Transaction:
    """One try: begun, filled, and committed or undone."""

    def __init__(self, store: Store, run: int) -> None:
        self._store, self._run = store, run
        self.connection: BaseDatabaseWrapper = store.sql.connection
        self._block = transaction.atomic(using=store.alias)
        self._driver: Any = None
        self._open = False
        self._callbacks: list[Any] = []

    def begin(self) -> None:
        """Begin; may be repeated if it fails."""
        self.connection = self._store.sql.connection
        with writing_from_the_start(self.connection):
            self._block.__enter__()
        self._driver, self._open = self.connection.connection, True

    def do(self, work: Work) -> None:
        """Do the work and record its end.

        Raises:
            _Refused: the job is somebody else's.
            BaseException: the work's.
        """
        self.connection.errors_occurred = False
        finish = _whole(self.connection, work)
        self._callbacks, self.connection.run_on_commit = self.connection.run_on_commit, []
        if not self._store.finish_within(self._run, finish, last=True):
            raise _Refused

    def commit(self) -> None:
        """Commit; after an exception nobody knows whether that has happened."""
        self._open = False
        self._block.__exit__(None, None, None)

    def undo(self, error: BaseException) -> tuple[bool, bool]:
        """Roll back what is not committed; return whether it lost against others, and whether the connection is lost.

        An error of another database tells nothing about this one.
        """
        ours = self.connection.errors_occurred or not self._open
        if self._open:
            self._open = False
            connections[self._store.alias] = self.connection  # a job can delete it there
            with suppress(Exception):  # a lost connection; the server rolls back
                self._block.__exit__(type(error), error, error.__traceback__)
        conflict = ours and is_conflict(error)
        if not conflict and ours and isinstance(error, Exception) and not self._is_alive():
            drop(self.connection)
            return False, may_be_lost(error)
        if self.connection.in_atomic_block or not self.connection.autocommit:
            drop(self.connection)  # the job was interrupted in the middle of a block of its own
        return conflict, False

    def call_back(self, row: LoadedRow) -> None:
        """Do what the work left to `on_commit`; it is committed whatever goes wrong there."""
        for _, function, _ in self._callbacks:
            try:
                function()
            except BaseException as error:  # noqa: BLE001  # neither the job's end nor the others depend on it
                why = summary(error)
                _log.warning(
                    "job %d %s is successful, but a function that it left to on_commit() failed: %s",
                    row.id,
                    row.task,
                    why,
                    exc_info=error,
                )

    def _is_alive(self) -> bool:
        """Tell whether the session is still the one that it began in; a rollback that fails makes a new one."""
        return self.connection.connection is self._driver and self.connection.is_usable()


def _whole(connection: BaseDatabaseWrapper, work: Work) -> FinishRow:
    """Do the work within a savepoint of an open transaction, and see to it that all it wrote is part of that.

    Raises:
        TransactionBroken: it is not, or cannot be committed.
    """
    driver, savepoint, blocks = connection.connection, connection.savepoint() or "", list(connection.atomic_blocks)
    pid = os.getpid()
    try:
        finish = work()
    finally:
        if os.getpid() != pid:  # the job's forked child came back; the transaction is its parent's, on the same socket
            os._exit(ExitCode.WALKED_ON)
    known = connections[connection.alias] is connection
    if not known or connection.connection is not driver or connection.closed_in_transaction:
        raise TransactionBroken(f"the job closed the connection to {connection.alias!r}")
    if connection.atomic_blocks != blocks or not connection.in_atomic_block:
        raise TransactionBroken("the job left a block of atomic() open, or the one that it runs in")
    if connection.needs_rollback:
        raise TransactionBroken(
            "it is to be rolled back: after set_rollback(True), or an error in atomic(savepoint=False)"
        )
    if is_aborted(connection):
        raise TransactionBroken("the job went on after a database error; put what may fail in an atomic() of its own")
    try:
        connection.savepoint_commit(savepoint)
    except (DatabaseError, InterfaceError) as error:
        raise TransactionBroken(f"somebody has ended it, by COMMIT, ROLLBACK or the like: {error}") from error
    return finish
