"""Jobs to look into with a debugger."""

from __future__ import annotations

import asyncio
import os
import time

from jobsup import task


@task
def fail_with(value: str) -> None:
    """Fail below the task's own function."""
    _deeper(value.upper())


@task
async def afail_with(value: str) -> None:
    """Fail in a coroutine."""
    await asyncio.sleep(0)
    raise ValueError(value)


@task
def stop_at(value: int) -> int:
    """Stop at a breakpoint, then return what became of the value there."""
    breakpoint()  # noqa: T100  # that is what it is for
    return value


@task
def outstay(seconds: float) -> int:
    """Take longer than any limit allows; return the worker."""
    time.sleep(seconds)
    return os.getpid()


def _deeper(loud: str) -> None:
    raise LookupError(loud)
