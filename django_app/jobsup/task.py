"""The task decorator and the task class with the options that this backend adds to those of `django.tasks`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from asgiref.sync import sync_to_async

from jobsup.compat import InvalidTask, Task, task_backends
from jobsup.options import OPTIONS
from jobsup.retries import BackoffOption, Named, declare_names, path_of
from jobsup.schedules.declared import ScheduleOption, declare

if TYPE_CHECKING:
    from jobsup.bulk import Jobs
    from jobsup.results import JobsupResult


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobsupTask(Task):  # type: ignore[type-arg,misc,unused-ignore]
    """A task with this backend's options.

    Args:
        max_attempts: how many times a job may run at most, whatever ended the earlier runs. None: an exception ends
            the job at its first attempt, and only a violent death of its worker is followed by another one, at most
            `JOBSUP["CRASH_ATTEMPTS"]` in all. With `backoff` or `retry_on` that is the limit for exceptions, too.
        backoff: how long it waits for its next attempt: in seconds, as a timedelta, as a `Backoff`, or what a function
            `backoff(exception, task_result)` returns, None to end it. None: 1, 2, 4 ... 3600 seconds.
        retry_on: exception classes, or their dotted paths: no other exception is followed by another attempt.
        discard_on: likewise: these end the job at once.
        timeout: after how long a run is interrupted by `jobsup.JobTimeout`, in seconds or as a timedelta. None here and
            below: what the setting JOBSUP says; 0: no limit.
        timeout_grace: how long it may go on after that before its worker is ended, likewise.
        memory_limit: how much resident memory its worker may have, in bytes or as "512M", before it is ended.
        keep: how long a job is kept once it has ended, in seconds or as a timedelta.
        unique: what no two waiting jobs of the task may have in common: True for their arguments, a key as a text, or a
            callable that gets a job's arguments and returns its key; None from it, or False: any number may wait.
        unique_while: "pending" (None: the same) or "running", which counts a job that runs as well.
        on_conflict: what enqueueing one of which there is one already does: "return" that one (None: the same), "raise"
            `jobsup.errors.AlreadyEnqueued`, or "replace" what that one has by the new one's.
        atomic: whether what it writes to the database with jobsup's tables is committed together with the record of its
            success, or not at all. Belongs to the function as it is written, so `using` cannot change it.
        schedule: when it is enqueued by itself: a cron expression, an interval in seconds or as a timedelta, a
            `Schedule`, or a list of them. Belongs to the task as it is declared: what `using` returns has none.
    """

    max_attempts: int | None = None
    backoff: BackoffOption | None = None
    retry_on: Named | None = None
    discard_on: Named | None = None
    timeout: float | timedelta | None = None
    timeout_grace: float | timedelta | None = None
    memory_limit: int | str | None = None
    keep: float | timedelta | None = None
    unique: bool | str | Callable[..., Any] | None = None
    unique_while: str | None = None
    on_conflict: str | None = None
    atomic: bool | None = None
    schedule: ScheduleOption | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work, and take note of what rows may name and of a schedule."""
        Task.__post_init__(self)
        declare_names(self)
        if self.schedule is not None:
            declare(self)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        max_attempts: int | None = None,
        backoff: BackoffOption | None = None,
        retry_on: Named | None = None,
        discard_on: Named | None = None,
        timeout: float | timedelta | None = None,
        timeout_grace: float | timedelta | None = None,
        memory_limit: int | str | None = None,
        keep: float | timedelta | None = None,
        unique: bool | str | Callable[..., Any] | None = None,
        unique_while: str | None = None,
        on_conflict: str | None = None,
    ) -> JobsupTask:
        """Return a task with some of its options changed.

        Raises:
            InvalidTask: one of them cannot be used.
        """
        if callable(backoff) and path_of(backoff) is None:
            raise InvalidTask(
                f"backoff is {backoff!r}: a function given by using() must stand at the top level of a module, "
                "since the job's row keeps only where it is."
            )
        given: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "max_attempts": max_attempts,
            "backoff": backoff,
            "retry_on": retry_on,
            "discard_on": discard_on,
            "timeout": timeout,
            "timeout_grace": timeout_grace,
            "memory_limit": memory_limit,
            "keep": keep,
            "unique": unique,
            "unique_while": unique_while,
            "on_conflict": on_conflict,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self, **changes, schedule=None)

    def enqueue_many(self, calls: Iterable[tuple[Any, ...] | dict[str, Any]]) -> Jobs:
        """Insert a job for each call, in the caller's transaction or one of its own, all or nothing.

        The iterable is read as it is written, so it may be as long as you like; what is in memory does not grow but for
        eight bytes per job. `task_enqueued` is sent for each job if anybody listens besides Django, which logs it at
        level DEBUG.

        Args:
            calls: for each job a tuple of arguments by position, `(value,)` for a single one, or a dict of arguments by
                name.

        Returns:
            A sequence of the results, each loaded when it is looked at, with their `ids`.

        Raises:
            InvalidTask: the task cannot be run.
            TypeError, ValueError: an item cannot be stored as JSON, or is neither a tuple nor a dict; names its index.
        """
        backend: Any = self.get_backend()
        found: Jobs = backend.enqueue_many(self, calls)
        return found

    async def aenqueue_many(self, calls: Iterable[tuple[Any, ...] | dict[str, Any]]) -> Jobs:
        """Do as `enqueue_many`."""
        return await sync_to_async(self.enqueue_many)(calls)

    if TYPE_CHECKING:  # what this backend's methods return has more to it than what is declared for all backends

        def enqueue(self, *args: Any, **kwargs: Any) -> JobsupResult:
            """Insert a job."""

        async def aenqueue(self, *args: Any, **kwargs: Any) -> JobsupResult:
            """Do as `enqueue`."""

        def get_result(self, result_id: str) -> JobsupResult:
            """Return a job's result as it stands."""

        async def aget_result(self, result_id: str) -> JobsupResult:
            """Do as `get_result`."""


@overload
def task(function: Callable[..., Any], /) -> JobsupTask: ...


@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    max_attempts: int | None = None,
    backoff: BackoffOption | None = None,
    retry_on: Named | None = None,
    discard_on: Named | None = None,
    timeout: float | timedelta | None = None,
    timeout_grace: float | timedelta | None = None,
    memory_limit: int | str | None = None,
    keep: float | timedelta | None = None,
    unique: bool | str | Callable[..., Any] | None = None,
    unique_while: str | None = None,
    on_conflict: str | None = None,
    atomic: bool | None = None,
    schedule: ScheduleOption | None = None,
) -> Callable[[Callable[..., Any]], JobsupTask]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **options: Any,
) -> Any:
    """Make a task of a module-level function, on every supported Django alike.

    With another backend configured (in tests, say) the options that only jobsup knows are left out.

    Args:
        function: the function, when used without parentheses.
        priority: -100 (last) to 100 (first).
        queue_name: one of the backend's QUEUES.
        backend: alias in the TASKS setting.
        takes_context: whether the function's first argument is `context`.
        options: see `JobsupTask`.

    Raises:
        TypeError: an option that does not exist.
        InvalidTask: the function or an option cannot be used.
    """
    if unknown := set(options) - set(OPTIONS):
        known = ", ".join(["priority", "queue_name", "backend", "takes_context", *sorted(OPTIONS)])
        raise TypeError(f"@task has no option {', '.join(sorted(unknown))}; it has {known}")

    def wrap(function: Callable[..., Any]) -> Any:
        task_class = task_backends[backend].task_class
        extra = options if issubclass(task_class, JobsupTask) else {}
        return task_class(
            func=function,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **extra,
        )

    return wrap if function is None else wrap(function)
