"""Rows as what `django.tasks` shows to its users: TaskResult, with every field true."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from jobsup import options
from jobsup.compat import TaskError, TaskResult, TaskResultDoesNotExist, TaskResultStatus
from jobsup.errors import JobCancelled, RowUnreadable
from jobsup.models import FailedAttempt, Status
from jobsup.registry import find_task
from jobsup.sql import LoadedRow
from jobsup.text import class_path, summary
from jobsup.waiting import Until, Waited, check, seconds, wait

_SHOWN = {
    Status.READY: TaskResultStatus.READY,
    Status.SCHEDULED: TaskResultStatus.READY,
    Status.SUCCESSFUL: TaskResultStatus.SUCCESSFUL,
    Status.FAILED: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
}


CANCELLED = class_path(JobCancelled)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobsupResult(TaskResult):  # type: ignore[type-arg,misc,unused-ignore]
    """A result whose job can be cancelled and waited for."""

    ready_message: str | None = None
    """What the job said when it had begun well, by `context.ready(message)`."""

    def wait(self, timeout: float | timedelta | None = None, until: Until = "finished") -> Waited:
        """Wait for the job, and refresh this result.

        Args:
            timeout: for how long at most, in seconds or as a timedelta; None for as long as it takes.
            until: "finished"; "started", a worker has begun it; or "ready", the job itself has said by
                `context.ready()` that it has begun well, or has already been successful.

        Returns:
            (True, None) if that has happened, else (False, why): it failed, was cancelled, or it was not enough time.

        Raises:
            TransactionManagementError: within atomic(): what was enqueued there is seen by no worker before its end.
        """
        return self._wait(timeout, until, None)

    async def wait_async(self, timeout: float | timedelta | None = None, until: Until = "finished") -> Waited:  # noqa: ASYNC109  # the same arguments as `wait`
        """Do as `wait`, on a database connection of its own; other coroutines go on meanwhile."""
        gone = threading.Event()

        def work() -> Waited:
            try:
                return self._wait(timeout, until, gone)
            finally:
                connections.close_all()

        try:
            return await sync_to_async(work, thread_sensitive=False)()
        finally:
            gone.set()  # the coroutine may have been cancelled

    def _wait(self, timeout: float | timedelta | None, until: Until, gone: threading.Event | None) -> Waited:
        check(until)
        timeout_s = seconds(timeout)
        backend: Any = self.task.get_backend()
        waited = wait(backend.store, int(self.id), until, timeout_s, gone)
        if gone is not None and gone.is_set():
            return waited
        with contextlib.suppress(TaskResultDoesNotExist):  # it may have been pruned meanwhile
            self.refresh()
        return waited

    def refresh(self) -> None:
        """Load this result as it stands."""
        fresh = self.task.get_backend().get_result(self.id)
        for field in fields(fresh):
            if field.name != "task":
                object.__setattr__(self, field.name, getattr(fresh, field.name))

    async def arefresh(self) -> None:
        """Do as `refresh`."""
        await sync_to_async(self.refresh)()

    def cancel(self) -> bool:
        """Cancel the job: at once if it waits, and for certain, from any machine, if it runs; joins the transaction.

        A job that runs is asked to end, then interrupted by `jobsup.JobCancelled`, then its worker is ended; the
        setting JOBSUP says after how long. `refresh()` tells how it ended.

        Returns:
            True if the job is cancelled or asked to end, False if it had ended before. One that returns before it hears
            of it is successful all the same.
        """
        backend: Any = self.task.get_backend()
        return bool(backend.cancel([self.id]))

    async def acancel(self) -> bool:
        """Do as `cancel`."""
        return await sync_to_async(self.cancel)()


_decode = json.JSONDecoder().raw_decode


def task_of(row: LoadedRow) -> Any:
    """Return the task of a job as it was enqueued, with that job's own options.

    Raises:
        TaskNotFound: the path leads to no task.
    """
    return _task_like(
        row.task, row.priority, row.queue, row.run_after, row.backend, row.max_attempts, row.options
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _task_like(path: str, *own: Any) -> Any:
    """Return the task at a path with these options: priority, queue, run_after, backend, max_attempts, and the rest."""
    task = find_task(path)
    declared = (
        task.priority, task.queue_name, task.run_after, task.backend, getattr(task, "max_attempts", None),
        options.text_of(task),
    )  # fmt: skip
    if own == declared:
        return task
    # Made field by field: a queue that was removed from the settings must not make its old results unreadable.
    copy = object.__new__(type(task))
    for field in fields(task):
        object.__setattr__(copy, field.name, getattr(task, field.name))
    names = ("priority", "queue_name", "run_after", "backend", "max_attempts")
    for name, value in [*zip(names, own[:-1], strict=True), *options.options_of(own[-1]).items()]:
        if hasattr(task, name):
            object.__setattr__(copy, name, value)
    return copy


def new_result(task: Any, pk: int, enqueued_at: datetime, arguments: str) -> Any:
    """Return the result of a job that was just enqueued."""
    return _result(task, pk, TaskResultStatus.READY, arguments, task.backend, enqueued_at=enqueued_at)


def result_of(task: Any, row: LoadedRow, failures: Sequence[FailedAttempt]) -> Any:
    """Return the result of a job as it stands."""
    if row.status not in Status.values:
        raise RowUnreadable(f"the status in the row of job {row.id} is {row.status}: there is none such")
    status = _SHOWN.get(Status(row.status))
    begun = bool(row.worker) and not (failures and failures[-1].attempt == row.attempt)
    if status is None:  # owned by a supervisor: RUNNING as soon as a worker is known to have begun
        status = TaskResultStatus.RUNNING if begun else TaskResultStatus.READY
    errors = [
        TaskError(exception_class_path=failure.exception_class_path, traceback=failure.traceback)
        for failure in failures
    ]
    if row.status == Status.CANCELLED and not (failures and failures[-1].exception_class_path == CANCELLED):
        words = "the job was cancelled after that" if failures else "the job was cancelled while it waited"
        errors.append(TaskError(exception_class_path=CANCELLED, traceback=words))
    result = _result(
        task,
        row.id,
        status,
        row.arguments,
        row.backend,
        enqueued_at=row.enqueued_at,
        started_at=row.started_at,
        last_attempted_at=row.last_attempted_at,
        finished_at=row.finished_at,
        errors=errors,
        worker_ids=[failure.worker for failure in failures] + [row.worker] * begun,
        ready_message=row.ready_message,
    )
    if row.result is not None and row.status == Status.SUCCESSFUL:
        try:
            object.__setattr__(result, "_return_value", json.loads(row.result))
        except (TypeError, ValueError, RecursionError) as error:
            raise RowUnreadable(f"the result in the row of job {row.id} cannot be read: {error}") from None
    return result


def arguments_of(pk: int, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a job, by position and by name.

    Args:
        pk: the job, for the error.
        text: JSON, as in its row.

    Raises:
        RowUnreadable: that is not what stands there.
    """
    try:
        given, end = _decode(text)  # `json.loads` costs twice as much for what is short
        if end != len(text):
            given = json.loads(text)
        args, kwargs = given["args"], given["kwargs"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RowUnreadable(f"the arguments in the row of job {pk} cannot be read: {summary(error)}") from None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise RowUnreadable(f'the arguments in the row of job {pk} are not {{"args": [...], "kwargs": {{...}}}}')
    return args, kwargs


def _result(task: Any, pk: int, status: TaskResultStatus, arguments: str, backend: str, **times: Any) -> Any:
    args, kwargs = arguments_of(pk, arguments)
    empty: dict[str, Any] = {
        "started_at": None,
        "last_attempted_at": None,
        "finished_at": None,
        "errors": [],
        "worker_ids": [],
    }
    return JobsupResult(
        task=task, id=str(pk), status=status, args=args, kwargs=kwargs, backend=backend,
        **(empty | times),
    )  # fmt: skip
