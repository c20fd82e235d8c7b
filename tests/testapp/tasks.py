"""Jobs that behave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobsup import task

from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


@task
def noop() -> None:
    """Do nothing."""


@task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@task
async def aadd(a: int, b: int) -> int:
    """Return the sum, from a coroutine."""
    return a + b


@task
def echo(value: Any) -> Any:
    """Return what came."""
    return value


@task
def fail(message: str) -> None:
    """Fail in an ordinary way."""
    raise ValueError(message)


@task(takes_context=True)
def effect(context: TaskContext[Any, Any]) -> None:
    """Leave a trace."""
    leave_trace(context)


@task(takes_context=True)
def fail_once(context: TaskContext[Any, Any]) -> int:
    """Fail at the first attempt and return the number of the attempt that went well."""
    leave_trace(context)
    if context.attempt == 1:
        raise ValueError("the first attempt fails")
    return context.attempt


@task(takes_context=True)
def sleep(context: TaskContext[Any, Any], seconds: float) -> None:
    """Leave a trace, then take a while."""
    leave_trace(context)
    time.sleep(seconds)


@task
def query(count: int) -> dict[str, int]:
    """Ask the database `count` questions whose answers are known; return how many were wrong, and the session asked."""
    wrong = session = 0
    for question in range(count):
        with connection.cursor() as cursor:
            cursor.execute("SELECT %s, pg_backend_pid()", [question])
            answer, session = cursor.fetchone() or (None, 0)
        wrong += answer != question
    return {"wrong": wrong, "session": session}
