"""Jobs that meet their limits, each in its own way; their limits are set where they are enqueued."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobsup import JobCancelled, JobTimeout, cancel_requested, task

from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext

FOR_EVER_S = 600.0


@task(takes_context=True)
def heed(context: TaskContext[Any, Any], place: str) -> None:
    """Go on for ever; clean up when that ends."""
    leave_trace(context)
    try:
        time.sleep(FOR_EVER_S)
    except (JobTimeout, JobCancelled) as error:
        Path(place).write_text(str(error))
        raise


@task(takes_context=True)
def end_early(context: TaskContext[Any, Any]) -> str:
    """Make the best of what there is when the time is over."""
    leave_trace(context)
    try:
        time.sleep(FOR_EVER_S)
    except JobTimeout:
        return "as far as it came"
    return "never"


@task(takes_context=True)
def shrug(context: TaskContext[Any, Any]) -> None:
    """Catch every error that an ordinary program has, and go on."""
    leave_trace(context)
    while True:
        try:
            time.sleep(0.01)
        except Exception:  # noqa: BLE001  # that is the fault
            continue


@task(takes_context=True)
def swallow(context: TaskContext[Any, Any]) -> None:
    """Catch whatever comes, and go on."""
    leave_trace(context)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001  # that is the fault
            continue


@task(takes_context=True)
def hold_the_gil(context: TaskContext[Any, Any]) -> int:
    """Stay in C, where no handler of a signal can run."""
    leave_trace(context)
    return sum(range(10**13))


@task(takes_context=True)
def backtrack(context: TaskContext[Any, Any]) -> bool:
    """Stay in a regular expression; that lets Python look for signals now and then."""
    leave_trace(context)
    return re.match(r"(a+)+$", "a" * 60 + "b") is not None


@task(takes_context=True)
def stop_self(context: TaskContext[Any, Any]) -> None:
    """Be stopped, as by a debugger."""
    leave_trace(context)
    os.kill(os.getpid(), signal.SIGSTOP)


@task(takes_context=True)
def ask_slowly(context: TaskContext[Any, Any]) -> None:
    """Wait for an answer of the database."""
    leave_trace(context)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [FOR_EVER_S])


@task(takes_context=True)
def slow_at_first(context: TaskContext[Any, Any]) -> int:
    """Take for ever at the first attempt; return the number of the one that went well."""
    leave_trace(context)
    if context.attempt == 1:
        time.sleep(FOR_EVER_S)
    return context.attempt


@task
async def await_for_ever(place: str) -> None:
    """Go on for ever without being busy; clean up when that ends."""
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        Path(place).touch()  # noqa: ASYNC240  # takes no time


@task
def about(milliseconds: float) -> int:
    """Take about so long, partly in the database."""
    until = time.monotonic() + milliseconds / 1000
    asked = 0
    while time.monotonic() < until:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            asked += cursor.fetchone() == (1,)
    return asked


@task(takes_context=True)
def hog(context: TaskContext[Any, Any], place: str, megabytes: int) -> int:
    """Take memory, bit by bit, once a file is there."""
    leave_trace(context)
    while not Path(place).exists():
        time.sleep(0.005)
    taken = []
    for _ in range(megabytes // 8):
        taken.append(bytearray(8 << 20))
        time.sleep(0.001)
    time.sleep(FOR_EVER_S)
    return len(taken)


@task(takes_context=True)
def watch_out(context: TaskContext[Any, Any]) -> str:
    """Look now and then whether it is to end."""
    leave_trace(context)
    while not cancel_requested():
        time.sleep(0.005)
    return "ended early"


@task(takes_context=True)
def hold_deaf(context: TaskContext[Any, Any], place: str) -> int:
    """Run until a file is there, whatever else comes."""
    leave_trace(context)
    while not Path(place).exists():
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001  # that is the fault
            continue
    return context.attempt
