"""Jobs that behave."""

from __future__ import annotations

import os
import signal
import time
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.db import connection, connections

from jobsup import task

from .models import Effect
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


@task(takes_context=True)
def hold(context: TaskContext[Any, Any], place: str) -> int:
    """Leave a trace, run until a file is there and return the number of the attempt."""
    leave_trace(context)
    while not Path(place).exists():
        time.sleep(0.005)
    return context.attempt


@task(takes_context=True)
def die_at(context: TaskContext[Any, Any], attempts: int, signum: int) -> int:
    """Leave a trace; die by a signal in the first so many attempts, return the number of the one that went well."""
    leave_trace(context)
    if context.attempt <= attempts:
        os.kill(os.getpid(), signum)
    return context.attempt


@task(takes_context=True, max_attempts=2)
def die_twice(context: TaskContext[Any, Any]) -> None:
    """Die by a signal in each of the two attempts that are allowed."""
    leave_trace(context)
    os.kill(os.getpid(), signal.SIGKILL)


@task(max_attempts=2)
def ask_for(seconds: float) -> int:
    """Keep the database busy for a while; return the session asked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_sleep(%s)", [seconds])
        return int((cursor.fetchone() or (0,))[0])


@task
def enqueue_more(count: int) -> list[str]:
    """Enqueue jobs from a job; return their ids."""
    return [add.enqueue(number, 1).id for number in range(count)]


@task
async def aget_and_enqueue(pk: int) -> list[Any]:
    """Read a row and enqueue a job from a coroutine; return what was read and the job's id."""
    found = await Effect.objects.aget(pk=pk)
    job = await add.aenqueue(found.attempt, 1)
    return [found.attempt, job.id]


@task
def command(name: str, *arguments: str) -> str:
    """Run a management command and keep its output."""
    output = StringIO()
    call_command(name, *arguments, stdout=output)
    return output.getvalue()


@task
def transaction_state() -> dict[str, bool]:
    """Return what this job finds of the connection: in a transaction, in autocommit."""
    connection.ensure_connection()
    return {"in_atomic_block": connection.in_atomic_block, "autocommit": connection.get_autocommit()}


@task(takes_context=True, max_attempts=100)
def work(context: TaskContext[Any, Any], milliseconds: float) -> int:
    """Leave a trace and take a few milliseconds; return the number of the attempt."""
    leave_trace(context)
    time.sleep(milliseconds / 1000)
    return context.attempt


@task
def ask_every_database() -> list[str]:
    """Use every alias; return their names."""
    for alias in connections:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
    return list(connections)
