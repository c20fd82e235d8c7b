"""What a worker does with primary keys: load the rows, run the tasks, keep the outcomes for the recorder.

The worker keeps its database connections from job to job, whatever CONN_MAX_AGE says: their number is bounded by
workers x aliases (and one more per worker while its recorder's helper thread writes).
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone

from jobsup import conf, logs
from jobsup.compat import TASKS_LOGGER, Task, TaskContext, TaskError, TaskResultStatus, task_finished, task_started
from jobsup.hygiene import check_connections, tidy_connections
from jobsup.models import FailedAttempt, Status
from jobsup.recorder import LATEST_S, Entry, Recorder, insist
from jobsup.results import result_of, task_of
from jobsup.sql import FinishRow, LoadedRow
from jobsup.store import Failure, Outcome, Store
from jobsup.text import class_path, dump, summary, traceback_text
from jobsup.verdicts import after_exception

if TYPE_CHECKING:
    from spawnpool.source import Reports

Ending = tuple[Outcome, Callable[[], None]]
"""How an attempt ended, and what to do once that is recorded."""


class Runner:
    """One worker's runner.

    Args:
        number: the worker's place in its pool.
        reports: where settled keys are reported.
        run: id of the supervisor's run.
        verbosity: of the logging.
    """

    def __init__(self, number: int, reports: Reports, run: int, verbosity: int) -> None:
        logs.set_up(verbosity)
        logs.mute_unheard(TASKS_LOGGER)
        self._conf = conf.load()
        self._worker = conf.worker_id(self._conf.node_name, number, os.getpid())
        self._run = run
        self._store = Store(crash_attempts=self._conf.crash_attempts, notify=self._conf.notify)
        with contextlib.suppress(DatabaseError, InterfaceError):  # the first job waits for it, if need be
            self._store.sql.connection.ensure_connection()
        self._recorder = Recorder(self._store, run, reports.settled)
        self._jobs: dict[int, tuple[LoadedRow, list[FailedAttempt]]] = {}
        self._senders: dict[str, type] = {}  # of signals, by backend
        self._rested = False
        self._task_file = inspect.getfile(Task)
        self._at_once = False  # the last job's end may not wait
        self._log = logging.getLogger("jobsup.worker")

    def limits(self) -> Mapping[str, float]:
        """Return the limits that this fresh process reads from the settings."""
        return {
            "workers": self._conf.workers,
            "grace_s": self._conf.grace_s,
            "boot_timeout_s": self._conf.boot_timeout_s,
        }

    def load(self, pks: Sequence[int]) -> None:
        """Fetch the rows of a hand of keys by one query, over a new connection if the old one died."""
        if self._rested:
            self._rested = False
            check_connections()
        found = insist(lambda: self._store.get_many(pks), self._store.alias, "jobs cannot be read")
        self._jobs = {row.id: (row, failures) for row, failures in found}

    def describe(self, pk: int) -> str:
        """Return the words for the process title."""
        job = self._jobs.get(pk)
        return f"job {pk}" if job is None else f"job {pk} {job[0].task}"

    def run(self, pk: int) -> None:
        """Run one job and keep its outcome."""
        self._recorder.guard()
        row, failures = self._jobs.pop(pk, (None, []))
        started_at = time.monotonic()
        if row is None or row.claimed_by != self._run or row.status != Status.RUNNING:
            self._log.warning("job %d is left out: it was deleted or is owned by somebody else by now", pk)
            self._recorder.keep(Entry(pk, None, started_at, started_at))
            self._at_once = True
            return
        outcome, recorded = self._attempt(row, failures)
        ended_at = time.monotonic()
        self._recorder.keep(Entry(pk, outcome, started_at, ended_at, recorded))
        self._at_once = outcome.failure is not None or ended_at - started_at >= LATEST_S

    def _attempt(self, row: LoadedRow, failures: Sequence[FailedAttempt]) -> Ending:
        """Run a job's function; return its outcome and what to do when that is recorded."""
        result = None
        logs.set_current(logs.CurrentJob(row.id, row.task, row.attempt))
        try:
            now = timezone.now()
            task = task_of(row)
            row = row._replace(worker=self._worker, last_attempted_at=now, started_at=row.started_at or now)
            sender = self._sender(task)
            result = result_of(task, row, failures)
            task_started.send_robust(sender, task_result=result)
            context: list[Any] = [TaskContext(task_result=result)] if task.takes_context else []
            payload = dump(task.call(*context, *result.args, **result.kwargs), "the result")
        except BaseException as error:  # noqa: BLE001  # SystemExit and KeyboardInterrupt are the job's failure too
            return self._failed(row, result, error)
        finally:
            logs.set_current(None)
        return self._succeeded(row, result, payload)

    def _sender(self, task: Any) -> type:
        """Return the class of a task's backend; raises when TASKS has that backend no more."""
        if task.backend not in self._senders:
            self._senders[task.backend] = type(task.get_backend())
        return self._senders[task.backend]

    def _succeeded(self, row: LoadedRow, result: Any, payload: str) -> Ending:
        outcome = Outcome(FinishRow(row.id, row.attempt, Status.SUCCESSFUL, payload, self._worker, 0.0, 0.0, 0.0))

        def recorded() -> None:
            object.__setattr__(result, "_return_value", None if payload == "null" else json.loads(payload))
            object.__setattr__(result, "finished_at", timezone.now())
            object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
            task_finished.send_robust(self._sender(result.task), task_result=result)

        return outcome, recorded

    def _failed(self, row: LoadedRow, result: Any, error: BaseException) -> Ending:
        verdict = after_exception(row.attempt, row.max_attempts)
        failure = Failure(class_path(error), traceback_text(error, without=(__file__, self._task_file)))
        outcome = Outcome(
            FinishRow(row.id, row.attempt, verdict.status, None, self._worker, 0.0, 0.0, verdict.delay_s), failure
        )

        def recorded() -> None:
            what = "failed" if verdict.status is Status.FAILED else f"failed, next attempt in {verdict.delay_s:g} s"
            self._log.warning("job %d %s, attempt %d, %s: %s", row.id, row.task, row.attempt, what, summary(error))
            if result is None or verdict.status is not Status.FAILED:
                return
            result.errors.append(
                TaskError(exception_class_path=failure.exception_class_path, traceback=failure.traceback)
            )
            object.__setattr__(result, "finished_at", timezone.now())
            object.__setattr__(result, "status", TaskResultStatus.FAILED)
            try:
                _raise(error)  # so that receivers find it in sys.exc_info(), as Django's own do
            except BaseException:  # noqa: BLE001
                task_finished.send_robust(self._sender(result.task), task_result=result)

        return outcome, recorded

    def tidy(self) -> None:
        """Drop the connections that the job left in the middle of something."""
        for alias in tidy_connections():
            self._log.warning("the connection %r was dropped: the job left it unusable or in a transaction", alias)

    def must_flush(self, *, more: bool) -> bool:
        """Tell whether outcomes must be recorded now."""
        return self._at_once or not more or self._recorder.is_due()

    def flush(self) -> None:
        """Record the outcomes that wait; what those who are told of it leave behind is tidied up too."""
        self._recorder.flush()
        self.tidy()

    def rest(self, idle_s: float) -> None:
        """Let go of connections that have been idle for long; the others are checked before the next job."""
        self._rested = True
        if idle_s >= IDLE_CONNECTIONS_S:
            connections.close_all()

    def close(self) -> None:
        """Record what waits and close every connection."""
        self._recorder.flush()
        connections.close_all()


def _raise(error: BaseException) -> NoReturn:
    raise error


IDLE_CONNECTIONS_S = 300.0
"""After how much idleness a worker closes its connections."""
