"""The jobs: each kind stands for a promise. Workers of `jobs torture` alone import this module."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from jobsup import task
from jobsup.torture import effects
from jobsup.torture.given import Given
from jobsup.torture.plan import BACKOFF_S, FAILING_ATTEMPTS, MAX_ATTEMPTS
from jobsup.torture.witness import witnessed

Context = Any
"""`jobsup.compat.TaskContext`, whose import would need Django's settings."""


WITNESS = Given.load().witness


class MeantToFailError(Exception):
    """Raised by jobs that are there to fail."""


def _ran(context: Context) -> Any:
    return witnessed(WITNESS, int(context.task_result.id), context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
def short(context: Context, takes_s: float) -> int:
    """Take a few milliseconds; return the number of the attempt."""
    with _ran(context):
        time.sleep(takes_s)
    return int(context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
def long(context: Context, takes_s: float) -> int:
    """Take so long that faults hit it; return the number of the attempt."""
    with _ran(context):
        time.sleep(takes_s)
    return int(context.attempt)


@task(takes_context=True, max_attempts=FAILING_ATTEMPTS, backoff=BACKOFF_S)
def failing(context: Context, takes_s: float) -> None:
    """Fail at every attempt."""
    with _ran(context):
        time.sleep(takes_s)
        raise MeantToFailError(f"attempt {context.attempt} fails, as it is meant to")


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
def recovering(context: Context, takes_s: float) -> int:
    """Fail at the first attempt; return the number of the attempt that went well."""
    with _ran(context):
        time.sleep(takes_s)
        if context.attempt == 1:
            raise MeantToFailError("the first attempt fails, as it is meant to")
    return int(context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
async def coroutine(context: Context, takes_s: float) -> int:
    """Wait a few milliseconds on the event loop; return the number of the attempt."""
    with _ran(context):
        await asyncio.sleep(takes_s)
    return int(context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S, unique=lambda takes_s, key: str(key))
def unique(context: Context, takes_s: float, key: int) -> int:  # noqa: ARG001  # it is what makes it unique
    """Do as `short`; there is one at most that waits with the same key."""
    with _ran(context):
        time.sleep(takes_s)
    return int(context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
def scheduled(context: Context, takes_s: float) -> int:
    """Do as `short`; it is enqueued for later."""
    with _ran(context):
        time.sleep(takes_s)
    return int(context.attempt)


@task(takes_context=True)
def rolled_back(context: Context, takes_s: float) -> None:
    """Never run: its enqueue is always rolled back."""
    with _ran(context):
        time.sleep(takes_s)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S)
def deadly(context: Context, takes_s: float) -> int:
    """Kill its own worker at the first attempt; return the number of the attempt that went well."""
    with _ran(context):
        time.sleep(takes_s)
        if context.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return int(context.attempt)


@task(takes_context=True, max_attempts=MAX_ATTEMPTS, backoff=BACKOFF_S, atomic=True)
def atomic(context: Context, takes_s: float) -> int:
    """Write one row, in the transaction that records its end as well; return the number of the attempt."""
    with _ran(context):
        effects.leave(int(context.task_result.id), context.attempt)
        time.sleep(takes_s)
    return int(context.attempt)


TASKS: dict[str, Any] = {name: found for name, found in list(globals().items()) if isinstance(found, type(short))}
"""The tasks by the kinds of `jobsup.torture.plan.KINDS`."""
