"""Jobs whose machine is cut off from the database."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsup import task

from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


@task(atomic=True, takes_context=True, max_attempts=9)
def hold_atomic(context: TaskContext[Any, Any], place: str) -> int:
    """Leave a trace that is visible at the end only, say so by a file, and run until another file is there."""
    leave_trace(context)
    (Path(place) / f"{context.task_result.id}-{os.getpid()}").touch()
    while not (Path(place) / "go").exists():
        time.sleep(0.005)
    return context.attempt


@task(takes_context=True, max_attempts=2)
def kill_the_supervisor(context: TaskContext[Any, Any]) -> int:
    """Kill the supervisor at the first attempt; this worker goes with it. Return the number of the attempt."""
    leave_trace(context)
    if context.attempt == 1:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return context.attempt


@task(takes_context=True, max_attempts=1)
def only_once(context: TaskContext[Any, Any]) -> None:
    """Leave a trace; must never begin a second time."""
    leave_trace(context)
