"""One attempt of a job: its function is run, and what came of it becomes an outcome for the recorder."""

from __future__ import annotations

import inspect
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from asgiref.sync import iscoroutinefunction
from django.utils import timezone

from jobsup import logs
from jobsup.aio import WorkerLoop
from jobsup.compat import Task, TaskError, TaskResultStatus, task_finished, task_started
from jobsup.context import SayReady, context_of, said_once, say_ready
from jobsup.errors import JobCancelled, JobInterrupted
from jobsup.exactly_once import ExactlyOnce
from jobsup.interrupts import Interrupts
from jobsup.judge import Judge
from jobsup.models import FailedAttempt, Status
from jobsup.results import arguments_of, result_of, task_of
from jobsup.sql import FinishRow, LoadedRow
from jobsup.store import Failure, Outcome
from jobsup.telling import is_heard, tell_ended, tell_finished
from jobsup.text import class_path, dump, summary, traceback_text
from jobsup.verdicts import Verdict
from spawnpool.errors import LaneLost, SourceUnavailable
from spawnpool.worker import Worker


class Ending(NamedTuple):
    """How an attempt ended; `outcome` is None if the job is somebody else's by now."""

    outcome: Outcome | None
    recorded: Callable[[], None] | None
    """What to do once the outcome is recorded; None for nothing."""
    error: BaseException | None = None
    """What it ended by, if it failed."""
    committed: bool = False
    """Whether the outcome is recorded already, by the job's own transaction."""


Around = Callable[[LoadedRow], AbstractContextManager[object]]
"""Makes the context manager in which a job's function is called; what that raises is the job's failure."""

_NOTHING: AbstractContextManager[object] = nullcontext()


def nothing_around(_row: LoadedRow) -> AbstractContextManager[object]:
    """Call it as it is."""
    return _NOTHING


class Attempts:
    """Runs the attempts of one process, one at a time; writes nothing to the database but the ends of atomic jobs.

    Args:
        worker: who runs them, for the record.
        exactly_once: runs those of atomic jobs.
        interrupts: how a job that runs here is interrupted.
        around: what each job's function is called in.
        say_ready: how a job's word that it has begun well is written down.
        crash_attempts: the limit of attempts for tasks that declare none; see `Conf`.
    """

    def __init__(
        self,
        worker: str,
        exactly_once: ExactlyOnce,
        interrupts: Interrupts,
        around: Around = nothing_around,
        say_ready: SayReady = say_ready,
        crash_attempts: int = 5,
    ) -> None:
        self._judge = Judge(crash_attempts)
        self._say_ready = say_ready
        self._worker, self._interrupts, self._around = worker, interrupts, around
        self._exactly_once = exactly_once
        self.loop = WorkerLoop()
        """Where coroutines run."""
        self._senders: dict[str, type] = {}  # of signals, by backend
        # What no traceback need show.
        self._without = (__file__, *map(inspect.getfile, (Task, WorkerLoop, Interrupts, ExactlyOnce)))
        self._log = logging.getLogger("jobsup.worker")

    def run(self, row: LoadedRow, failures: Sequence[FailedAttempt]) -> Ending:
        """Run a job's function; return its outcome and what to do when that is recorded."""
        result, outer = None, logs.current()
        logs.set_current(logs.CurrentJob(row.id, row.task, row.attempt))
        try:
            task = task_of(row)
            sender = self._sender(task)
            told, atomic = is_heard(task_started), bool(getattr(task, "atomic", None))
            if told or atomic or task.takes_context or failures or is_heard(task_finished):
                row, result = self._begun(task, row, failures)  # else nobody looks at it
            if row.cancel_asked_at is not None:
                _cancelled("before it began")
            if told:
                self._tell_started(sender, result)
            call = self._call(task, row, result)
            if atomic:
                return self._run_atomic(row, result, call)
            payload = call()
        except (SourceUnavailable, LaneLost):  # no job's: nobody can say how this one ended, or whether it began
            raise
        except BaseException as error:  # noqa: BLE001  # SystemExit and KeyboardInterrupt are the job's failure too
            if result is None:
                with suppress(Exception):  # of no task there is none
                    row, result = self._begun(task_of(row), row, failures)
            return self._failed(row, result, error)
        finally:
            logs.set_current(outer)
        return self._succeeded(row, result, payload)

    def _call(self, task: Any, row: LoadedRow, result: Any) -> Callable[[], str]:
        """Return what calls the function of a job, as often as it is called itself, and returns its result as JSON."""
        say_ready = said_once(self._say_ready) if getattr(task, "atomic", None) else self._say_ready
        context: list[Any] = [context_of(result, row, say_ready)] if task.takes_context else []
        args, kwargs = (result.args, result.kwargs) if result is not None else arguments_of(row.id, row.arguments)
        function = task.func
        if _is_coroutine_function(task.func):
            function = self.loop.to_sync(self._interrupts.cancellable(task.func))

        def call() -> str:
            with self._around(row):
                try:
                    self._interrupts.open()
                    value = function(*context, *args, **kwargs)
                finally:
                    self._interrupts.close()
            payload = dump(value, "the result")
            if self._interrupts.cancelled:
                _cancelled("while it was running; it returned after that")
            return payload

        return call

    def _run_atomic(self, row: LoadedRow, result: Any, call: Callable[[], str]) -> Ending:
        """Run a job whose writes are committed together with its end; no interruption comes between the two."""
        began_at, payload = time.monotonic(), ""

        def work() -> FinishRow:
            nonlocal payload
            payload = call()
            took_s = time.monotonic() - began_at
            return FinishRow(row.id, row.attempt, Status.SUCCESSFUL, payload, self._worker, took_s, 0.0, 0.0)

        if self._exactly_once.perform(row, work, lambda: not self._interrupts.asked_to_end()):
            return self._succeeded(row, result, payload)._replace(committed=True)
        self._log.warning(
            "late result refused: attempt %d of job %d is owned by somebody else by now", row.attempt, row.id
        )
        return Ending(None, None)

    def _begun(self, task: Any, row: LoadedRow, failures: Sequence[FailedAttempt]) -> tuple[LoadedRow, Any]:
        """Return a job as it stands now that it begins, and its result."""
        now = timezone.now()
        row = row._replace(worker=self._worker, last_attempted_at=now, started_at=row.started_at or now)
        return row, result_of(task, row, failures)

    def _tell_started(self, sender: type, result: Any) -> None:
        try:
            task_started.send_robust(sender, task_result=result)
        except AttributeError as error:  # Django cannot name a receiver that fails if that is no function
            why = summary(error.__context__ or error)
            self._log.warning("job %s: a receiver of task_started failed: %s", result.id, why)

    def tell(self, row: LoadedRow, failures: Sequence[FailedAttempt]) -> None:
        """Send `task_finished` for a job that ended by no worker's hand."""
        tell_ended(result_of(task_of(row), row, failures))

    def _sender(self, task: Any) -> type:
        """Return the class of a task's backend; raises when TASKS has that backend no more."""
        if task.backend not in self._senders:
            self._senders[task.backend] = type(task.get_backend())
        return self._senders[task.backend]

    def _succeeded(self, row: LoadedRow, result: Any, payload: str) -> Ending:
        outcome = Outcome(FinishRow(row.id, row.attempt, Status.SUCCESSFUL, payload, self._worker, 0.0, 0.0, 0.0))
        if result is None or not is_heard(task_finished):
            return Ending(outcome, None)

        def recorded() -> None:
            object.__setattr__(result, "_return_value", None if payload == "null" else json.loads(payload))
            object.__setattr__(result, "finished_at", timezone.now())
            object.__setattr__(result, "status", TaskResultStatus.SUCCESSFUL)
            task_finished.send_robust(self._sender(result.task), task_result=result)

        return Ending(outcome, recorded)

    def _failed(self, row: LoadedRow, result: Any, error: BaseException) -> Ending:
        verdict = self._verdict(row, result, error)
        if verdict.uncounted:
            return self._snoozed(row, verdict)
        cut(error)
        failure = Failure(class_path(error), traceback_text(error, without=self._without))
        outcome = Outcome(
            FinishRow(row.id, row.attempt, verdict.status, None, self._worker, 0.0, 0.0, verdict.delay_s), failure
        )

        def recorded() -> None:
            retried = verdict.status is Status.SCHEDULED
            what = f"failed, next attempt in {round(verdict.delay_s, 1):.10g} s" if retried else verdict.status.label
            self._log.warning("job %d %s, attempt %d, %s: %s", row.id, row.task, row.attempt, what, summary(error))
            if result is None or retried:
                return
            result.errors.append(
                TaskError(exception_class_path=failure.exception_class_path, traceback=failure.traceback)
            )
            object.__setattr__(result, "finished_at", timezone.now())
            object.__setattr__(result, "status", TaskResultStatus.FAILED)
            tell_finished(result, error)

        return Ending(outcome, recorded, error)

    def _verdict(self, row: LoadedRow, result: Any, error: BaseException) -> Verdict:
        """Judge a job; what was cancelled is never tried again."""
        if isinstance(error, JobCancelled) or self._interrupts.cancelled or row.cancel_asked_at is not None:
            return Verdict(Status.CANCELLED)
        verdict = self._judge.raised(row, result, error)
        if verdict.status is Status.SCHEDULED and self._interrupts.asked_to_end():
            return Verdict(Status.CANCELLED)
        return verdict

    def _snoozed(self, row: LoadedRow, verdict: Verdict) -> Ending:
        """End an attempt that does not count: nobody ran it, as far as the job's result tells."""
        finish = FinishRow(row.id, row.attempt, verdict.status, None, "", 0.0, 0.0, verdict.delay_s, uncounted=1)

        def recorded() -> None:
            self._log.info("job %d %s is snoozed for %g s", row.id, row.task, verdict.delay_s)

        return Ending(Outcome(finish), recorded)


@lru_cache(maxsize=1024)
def _is_coroutine_function(function: Callable[..., Any]) -> bool:
    return bool(iscoroutinefunction(function))


def _cancelled(when: str) -> NoReturn:
    raise JobCancelled(f"the job was cancelled {when}")


def cut(error: BaseException) -> None:
    """Let the traceback of an interruption end where it hit the job."""
    step = error.__traceback__ if isinstance(error, JobInterrupted) else None
    while step is not None and (following := step.tb_next) is not None:
        if following.tb_frame.f_code is Worker.on_look.__code__:
            step.tb_next = None
        step = step.tb_next
