"""The task decorator and the task class with the options that this backend adds to those of `django.tasks`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from jobsup.compat import Task, task_backends

if TYPE_CHECKING:
    from jobsup.results import JobsupResult

MAX_ATTEMPTS_MAX = 1000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobsupTask(Task):  # type: ignore[type-arg,misc,unused-ignore]
    """A task with this backend's options.

    Args:
        max_attempts: how many times a job may run at most, whatever ended the earlier runs. None: an exception ends
            the job at its first attempt, and only a violent death of its worker is followed by another one, at most
            `JOBSUP["CRASH_ATTEMPTS"]` in all.
        timeout: after how long a run is interrupted by `jobsup.JobTimeout`, in seconds or as a timedelta. None here and
            below: what the setting JOBSUP says; 0: no limit.
        timeout_grace: how long it may go on after that before its worker is ended, likewise.
        memory_limit: how much resident memory its worker may have, in bytes or as "512M", before it is ended.
    """

    max_attempts: int | None = None
    timeout: float | timedelta | None = None
    timeout_grace: float | timedelta | None = None
    memory_limit: int | str | None = None

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        timeout_grace: float | timedelta | None = None,
        memory_limit: int | str | None = None,
    ) -> JobsupTask:
        """Return a task with some of its options changed."""
        given: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "max_attempts": max_attempts,
            "timeout": timeout,
            "timeout_grace": timeout_grace,
            "memory_limit": memory_limit,
        }
        return dataclasses.replace(self, **{name: value for name, value in given.items() if value is not None})

    if TYPE_CHECKING:  # what this backend's methods return has more to it than what is declared for all backends

        def enqueue(self, *args: Any, **kwargs: Any) -> JobsupResult:
            """Insert a job."""

        async def aenqueue(self, *args: Any, **kwargs: Any) -> JobsupResult:
            """Do as `enqueue`."""

        def get_result(self, result_id: str) -> JobsupResult:
            """Return a job's result as it stands."""

        async def aget_result(self, result_id: str) -> JobsupResult:
            """Do as `get_result`."""


OPTIONS = frozenset({"max_attempts", "timeout", "timeout_grace", "memory_limit"})
"""The options that `JobsupTask` adds."""


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
    timeout: float | timedelta | None = None,
    timeout_grace: float | timedelta | None = None,
    memory_limit: int | str | None = None,
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
    if unknown := set(options) - OPTIONS:
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
