"""What keys of the list pool do to the process they run in."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Interrupted(BaseException):
    """The supervisor wants the running key to end."""


def leave_forked_sleeper(milliseconds: int) -> None:
    """Leave a grandchild that holds everything open."""
    if os.fork() == 0:
        time.sleep(milliseconds / 1000)
        os._exit(0)


def block_signals() -> None:
    """Let no signal through that can be kept away."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(60)


def forget_usr1(said: Path) -> None:
    """Let SIGUSR1 kill, as it does where nobody handles it; a file says when it would."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    said.touch()
    time.sleep(60)


def abort_child() -> None:
    """Fork a child that crashes, and collect it."""
    if (pid := os.fork()) == 0:
        os.abort()
    os.waitpid(pid, 0)


def be_deaf() -> None:
    """Ignore whatever can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(Interrupted):
            time.sleep(0.5)
