"""A worker without its process: jobs run here and now, in whatever transaction the caller is.

What belongs to a worker's process is left out: limits, cancelling while a job runs, and the hygiene, which would look
after the caller's own handlers, threads and connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.db.models import F

from jobsup import conf, homes, runs
from jobsup.attempt import Attempts
from jobsup.backend import JobsupBackend
from jobsup.compat import task_backends
from jobsup.context import say_ready_here
from jobsup.errors import JobInterrupted
from jobsup.exactly_once import ExactlyOnce
from jobsup.interrupts import Interrupts
from jobsup.models import Job, Status
from jobsup.results import JobsupResult, result_of, task_of
from jobsup.retries import JobDirective
from jobsup.store import Outcome, Store

NUMBER = 1
"""The worker's place in its pool, for its name."""

MEANT = (JobDirective,)
"""What a job raises to say how it goes on; no error."""

JOBS_OWN = (*MEANT, Exception, SystemExit, JobInterrupted, asyncio.CancelledError)
"""What a job may end by. Anything else, such as a Ctrl-C, is meant for the process and goes on to the caller."""

_log = logging.getLogger("jobsup.worker")


class InProcess:
    """Runs jobs of one run of a supervisor that is none.

    Args:
        store: where they are.
        run: id of that run.
        settings: of the project.
        raise_errors: whether a job's exception goes on to the caller, once it is recorded.
    """

    def __init__(self, store: Store, run: int, settings: conf.Conf, *, raise_errors: bool) -> None:
        self.store, self.run_id, self._raise_errors = store, run, raise_errors
        self._attempts = Attempts(
            conf.worker_id(settings.node_name, NUMBER, os.getpid()),
            ExactlyOnce(store, run),
            Interrupts(_nobody_asked),
            say_ready=say_ready_here,
            crash_attempts=settings.crash_attempts,
        )

    def close(self) -> None:
        """End what was made for coroutines."""
        self._attempts.loop.close()

    def claim(self, queues: list[str] | None) -> int | None:
        """Claim the most urgent job that is ready; None if there is none.

        Args:
            queues: which to look at, None for all.
        """
        return next(iter(self.store.claim(self.run_id, queues, 1)), None)

    def claim_this(self, pk: int) -> bool:
        """Claim a job if it is ready."""
        jobs = Job.objects.using(self.store.alias).filter(pk=pk, status=Status.READY)
        return jobs.update(status=Status.RUNNING, claimed_by=self.run_id, attempt=F("attempt") + 1, worker="") == 1

    def run(self, pk: int) -> None:
        """Run one attempt of a job that was claimed and record its end.

        Raises:
            BaseException: the job's own, if that is wanted.
        """
        row, failures = self.store.get_many([pk])[0]
        started_at = time.monotonic()
        with _unharmed():
            ending = self._attempts.run(row, failures)
        if ending.committed or (ending.outcome is not None and self._finish(ending.outcome, started_at)):
            if ending.recorded is not None:
                ending.recorded()
        else:
            _log.info("the end of job %d is not recorded: the job was deleted or changed while it ran", pk)
        error = ending.error
        if error is not None and not isinstance(error, MEANT if self._raise_errors else JOBS_OWN):
            raise error

    def _finish(self, outcome: Outcome, started_at: float) -> bool:
        """Record the end of a job that is not atomic; tell whether that was accepted."""
        took_s = time.monotonic() - started_at
        outcome = outcome._replace(row=outcome.row._replace(started_ago_s=took_s))
        return outcome.row.pk in self.store.finish(self.run_id, [outcome])

    def results(self, pks: list[int]) -> list[JobsupResult]:
        """Return the results of jobs as they stand, in this order; those that are gone are left out."""
        found = {row.id: (row, failures) for row, failures in self.store.get_many(pks)}
        return [result_of(task_of(found[pk][0]), *found[pk]) for pk in pks if pk in found]


@contextlib.contextmanager
def in_process(store: Store, *, raise_errors: bool) -> Iterator[InProcess]:
    """Provide what runs jobs here; see `InProcess`."""
    settings = conf.load()
    run = runs.begin(store, "testing", settings.node_name, "", os.getpid(), settings.lease_s)
    try:
        here = InProcess(store, run, settings, raise_errors=raise_errors)
        try:
            yield here
        finally:
            here.close()
    finally:
        with contextlib.suppress(DatabaseError):  # the caller's transaction is broken: nothing of this run stays
            runs.end(store, run)


def the_store(backend: str) -> Store:
    """Return the jobs of a backend; nobody else is woken for them."""
    return _silent(homes.of(backend))


def the_stores() -> list[Store]:
    """Return the jobs of this project, a store for each database; nobody else is woken for them.

    Raises:
        ImproperlyConfigured: no backend of TASKS is jobsup's.
    """
    found = [alias for alias in task_backends if isinstance(task_backends[alias], JobsupBackend)]
    if not found:
        raise ImproperlyConfigured(
            "no backend in TASKS is jobsup's, so there are no jobs to test: leave TASKS as it is in production"
        )
    return [_silent(alias) for alias in dict.fromkeys(map(homes.of, found))]


def _silent(alias: str) -> Store:
    return Store(alias, crash_attempts=conf.load().crash_attempts, notify=False)


def _nobody_asked() -> bool:
    return False


class _Mark(NamedTuple):
    """Where a connection stood when a job began, inside of a transaction."""

    connection: Any
    savepoint: str | None
    callbacks: int

    def end(self) -> None:
        """Leave the connection fit for use, and do what the job's own commits would have done in a worker."""
        connection = self.connection
        if connection.needs_rollback or not connection.is_usable():
            connection.needs_rollback = False
            connection.savepoint_rollback(self.savepoint)
            del connection.run_on_commit[self.callbacks :]
        connection.savepoint_commit(self.savepoint)
        while len(connection.run_on_commit) > self.callbacks:
            _, function, robust = connection.run_on_commit.pop(self.callbacks)
            try:
                function()
            except Exception:
                if not robust:
                    raise
                _log.info("a robust callback of on_commit failed", exc_info=True)


@contextlib.contextmanager
def _unharmed() -> Iterator[None]:
    """Have the caller's transaction survive a job's database errors; outside of one nothing needs to be done."""
    marks = [
        _Mark(connection, connection.savepoint(), len(connection.run_on_commit))
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block
    ]
    try:
        yield
    finally:
        for mark in marks:
            mark.end()
