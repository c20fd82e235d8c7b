"""What a worker does with primary keys: load the rows, run the tasks, keep the outcomes for the recorder.

The worker keeps its database connections from job to job, whatever CONN_MAX_AGE says: their number is bounded by
workers x aliases (and one more per worker while its recorder's helper thread writes).
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections
from django.utils import timezone
from django.utils.module_loading import module_has_submodule

from jobsup import conf, logs
from jobsup.compat import TASKS_LOGGER, Task, TaskContext, TaskError, TaskResultStatus, task_finished, task_started
from jobsup.errors import JobCancelled, JobInterrupted
from jobsup.hygiene import Hygiene, check_connections
from jobsup.interrupts import Interrupts, listen
from jobsup.limits import bounds_of, defaults
from jobsup.models import FailedAttempt, Status
from jobsup.recorder import LATEST_S, Entry, Recorder, insist
from jobsup.results import result_of, task_of
from jobsup.sql import FinishRow, LoadedRow
from jobsup.store import Failure, Outcome, Store
from jobsup.text import class_path, dump, summary, traceback_text
from jobsup.verdicts import Verdict, after_exception
from spawnpool.bounds import Bounds, Interrupt
from spawnpool.worker import Worker

if TYPE_CHECKING:
    from spawnpool.source import Reports

TASKS_MODULE = "tasks"
"""Where the tasks of an app usually are; a task elsewhere is imported with its first job."""

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
        self._alive = reports.alive
        self._recorder = Recorder(self._store, run, reports.settled, reports.alive)
        self._flaws = list(import_tasks())  # before the hygiene: what an import does is no job's fault
        self._defaults = defaults(self._conf)
        self._interrupts = Interrupts(reports.asked_to_end)
        listen(self._interrupts.asked_to_end)
        self._hygiene = Hygiene(reports.note_crashes)
        self._spoiled = ""  # why this process is fit for no further job
        self._ended: tuple[LoadedRow, Ending, float, float] | None = None  # what ran last: with its start and end
        self._jobs: dict[int, tuple[LoadedRow, list[FailedAttempt]]] = {}
        self._senders: dict[str, type] = {}  # of signals, by backend
        self._rested = False
        self._task_file = inspect.getfile(Task)
        self._at_once = False  # the last job's end may not wait
        self._log = logging.getLogger("jobsup.worker")

    def limits(self) -> Mapping[str, float]:
        """Return the limits that this fresh process reads from the settings."""
        return pool_limits(self._conf)

    def flaws(self) -> Sequence[str]:
        """Return which modules of tasks cannot be imported, and why."""
        return self._flaws

    def load(self, pks: Sequence[int]) -> None:
        """Fetch the rows of a hand of keys by one query, over a new connection if the old one died."""
        if self._rested:
            self._rested = False
            check_connections()
        found = insist(lambda: self._store.get_many(pks), self._store.alias, "jobs cannot be read", self._alive)
        self._jobs = {row.id: (row, failures) for row, failures in found}

    def describe(self, pk: int) -> str:
        """Return the words for the process title."""
        job = self._jobs.get(pk)
        return f"job {pk}" if job is None else f"job {pk} {job[0].task}"

    def bounds(self, pk: int) -> Bounds:
        """Return the limits of a job."""
        job = self._jobs.get(pk)
        return bounds_of(None if job is None else job[0].limits, self._defaults)

    def interrupt(self, why: Interrupt) -> None:
        """Raise in the running job."""
        self._interrupts.come(why)

    def log_reopened(self) -> None:
        """Take the new log file for what stdout and stderr should be."""
        self._hygiene.streams_changed()

    def run(self, pk: int) -> None:
        """Run one job; `tidy` keeps its outcome."""
        self._recorder.guard()
        self._interrupts.bounds = self.bounds(pk)
        row, failures = self._jobs.pop(pk, (None, []))
        started_at = time.monotonic()
        if row is None or row.claimed_by != self._run or row.status != Status.RUNNING:
            self._log.warning("job %d is left out: it was deleted or is owned by somebody else by now", pk)
            self._recorder.keep(Entry(pk, None, started_at, started_at))
            self._at_once = True
            return
        ending = self._attempt(row, failures)
        self._ended = row, ending, started_at, time.monotonic()

    def _attempt(self, row: LoadedRow, failures: Sequence[FailedAttempt]) -> Ending:
        """Run a job's function; return its outcome and what to do when that is recorded."""
        result = None
        logs.set_current(logs.CurrentJob(row.id, row.task, row.attempt))
        try:
            if row.cancel_asked_at is not None:
                _cancelled("before it began")
            now = timezone.now()
            task = task_of(row)
            row = row._replace(worker=self._worker, last_attempted_at=now, started_at=row.started_at or now)
            sender = self._sender(task)
            result = result_of(task, row, failures)
            task_started.send_robust(sender, task_result=result)
            context: list[Any] = [TaskContext(task_result=result)] if task.takes_context else []
            call = task.call
            if iscoroutinefunction(task.func):
                call = async_to_sync(self._interrupts.cancellable(task.func))
            try:
                self._interrupts.open()
                value = call(*context, *result.args, **result.kwargs)
            finally:
                self._interrupts.close()
            payload = dump(value, "the result")
            if self._interrupts.cancelled:
                _cancelled("while it was running; it returned after that")
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
        cancelled = isinstance(error, JobCancelled) or self._interrupts.cancelled
        if cancelled or (verdict.status is Status.SCHEDULED and self._interrupts.asked_to_end()):
            verdict = Verdict(Status.CANCELLED)
        cut(error)
        failure = Failure(class_path(error), traceback_text(error, without=(__file__, self._task_file)))
        outcome = Outcome(
            FinishRow(row.id, row.attempt, verdict.status, None, self._worker, 0.0, 0.0, verdict.delay_s), failure
        )

        def recorded() -> None:
            retried = verdict.status is Status.SCHEDULED
            what = f"failed, next attempt in {verdict.delay_s:g} s" if retried else verdict.status.label
            self._log.warning("job %d %s, attempt %d, %s: %s", row.id, row.task, row.attempt, what, summary(error))
            if result is None or retried:
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
        """Restore what the job left behind and keep its outcome."""
        self._interrupts.reset()
        if self._ended is not None:
            (row, (outcome, recorded), started_at, ended_at), self._ended = self._ended, None
            if left := self._restore(f"job {row.id} {row.task}"):
                outcome = replace(outcome, row=outcome.row._replace(left_behind=left))
            self._recorder.keep(Entry(row.id, outcome, started_at, ended_at, recorded))
            self._at_once = outcome.failure is not None or ended_at - started_at >= LATEST_S

    def _restore(self, who: str) -> str:
        """Restore what somebody left behind; return what that was, in words."""
        leftovers = self._hygiene.restore()
        if not leftovers:
            return ""
        words = leftovers.words()
        self._log.warning("%s %s", who, words)
        if leftovers.spoiled:
            self._spoiled = f"{who} {words}"
        return words

    def must_flush(self, *, more: bool) -> bool:
        """Tell whether outcomes must be recorded now."""
        return self._at_once or not more or bool(self._spoiled) or self._recorder.is_due()

    def flush(self) -> str:
        """Record the outcomes that wait; return why no further job may run here, "" if it may.

        What those who are told of it leave behind is tidied up, too.
        """
        self._recorder.flush()
        if not self._spoiled:  # else what was found before would be found again
            self._restore("a receiver of task_finished")
        return self._spoiled

    def rest(self, idle_s: float) -> None:
        """Let go of connections that have been idle for long; the others are checked before the next job."""
        self._rested = True
        if idle_s >= IDLE_CONNECTIONS_S:
            connections.close_all()

    def close(self) -> None:
        """Record what waits and close every connection."""
        self._recorder.flush()
        connections.close_all()


def import_tasks() -> Iterator[str]:
    """Import the module `tasks` of each app and of the project; yield why one of them cannot be imported."""
    packages = [app.module for app in apps.get_app_configs() if app.module is not None]
    project = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    if project in sys.modules:  # the package of the settings often has tasks, and is no app
        packages.append(sys.modules[project])
    for package in dict.fromkeys(packages):
        if not module_has_submodule(package, TASKS_MODULE):
            continue
        try:
            importlib.import_module(f"{package.__name__}.{TASKS_MODULE}")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the module may do anything while it is imported
            traceback.print_exc()
            yield f"the module {package.__name__}.{TASKS_MODULE} cannot be imported: {summary(error)}"


def pool_limits(settings: conf.Conf) -> dict[str, float]:
    """Return what the settings say of the pool, by the names of `spawnpool.limits.Limits`."""
    return {
        "workers": settings.workers,
        "grace_s": settings.grace_s,
        "boot_timeout_s": settings.boot_timeout_s,
        "cancel_ask_s": settings.cancel_ask_s,
        "cancel_grace_s": settings.cancel_grace_s,
        "max_jobs": settings.max_jobs or 0,
        "max_rss_bytes": settings.max_rss or 0,
        "max_age_s": settings.max_age_s or 0,
        "restarts_max": settings.restarts,
        "restarts_window_s": settings.restarts_window_s,
    }


def _cancelled(when: str) -> NoReturn:
    raise JobCancelled(f"the job was cancelled {when}")


def cut(error: BaseException) -> None:
    """Let the traceback of an interruption end where it hit the job."""
    step = error.__traceback__ if isinstance(error, JobInterrupted) else None
    while step is not None and (following := step.tb_next) is not None:
        if following.tb_frame.f_code is Worker.on_look.__code__:
            step.tb_next = None
        step = step.tb_next


def _raise(error: BaseException) -> NoReturn:
    raise error


IDLE_CONNECTIONS_S = 300.0
"""After how much idleness a worker closes its connections."""
