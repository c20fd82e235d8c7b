"""Jobs for troubles around the database: a large result at a given moment, and a supervisor within a job."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management import CommandError, call_command

from jobsup import task

from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext

LINE = "2026-01-01 00:00:00,000 INFO stopped"
HOSTILE = f"\x1b[2J\x1b]0;owned\x07\r{LINE}\n{LINE}\u202egnp.exe\u2066\x9b31m"
"""What clears a terminal, names its window, passes for another line and turns letters around."""


@task(takes_context=True)
def return_much(context: TaskContext[Any, Any], place: str, size: int) -> str:
    """Wait for a file, then return text that no database can make smaller; a file beside it says that it has."""
    leave_trace(context)
    while not Path(place).exists():
        time.sleep(0.01)
    text = secrets.token_hex(size // 2)
    Path(f"{place}.returned").touch()
    return text


@task
def raise_hostile() -> None:
    """Raise what steers whoever shows it."""
    raise type(f"Hostile{HOSTILE}", (Exception,), {})(HOSTILE)


@task
def use_multiprocessing(number: int) -> int:
    """Have a process of one's own do the work, as a library may."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=sender.send, args=(2 * number,))
    child.start()
    answer: int = receiver.recv()
    child.join()
    return answer


@task
def start_supervisor() -> dict[str, Any]:
    """Start a supervisor of the same name, as a command of its own and in this very process; return what was said."""
    made = subprocess.run(
        [sys.executable, "-m", "django", "jobsupervisor"], capture_output=True, text=True, timeout=60, check=False
    )
    said = ""
    try:
        call_command("jobsupervisor", name="within")
    except CommandError as error:
        said = str(error)
    return {"pid": os.getpid(), "code": made.returncode, "stderr": made.stderr, "said": said}
