"""Processes that are hurt: found below those that we have started, held by a pidfd, so that no other can be meant."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
WORKER_TITLE = "jobsup: worker"

_TIED_TO_PARENT = """
import ctypes, os, sys
parent, number, *program = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(number))
if os.getppid() == int(parent):
    os.execv(sys.executable, [sys.executable, *program])
"""


def tied(program: Sequence[str], number: signal.Signals) -> list[str]:
    """Return the command of a Python that the kernel sends a signal when this process dies (PR_SET_PDEATHSIG is 1).

    Args:
        program: what follows the interpreter.
        number: the signal.
    """
    return [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), str(int(number)), *program]


def become_subreaper() -> None:
    """Make every orphan below this process its child, so that none is overlooked."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> list[int]:
    """Return the living children of a process; a zombie counts as gone."""
    return [child for child, (state, parent) in _all().items() if parent == pid and state not in "ZX"]


def descendants(pid: int) -> list[int]:
    """Return everything that lives below a process."""
    processes = _all()
    family = [pid]
    for member in family:  # grows while we walk it
        family.extend(child for child, (_, parent) in processes.items() if parent == member)
    return [member for member in family[1:] if processes[member][0] not in "ZX"]


def title(pid: int) -> str:
    """Return the command line, which is the title once a process has set one; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def workers(supervisor: int) -> list[int]:
    """Return the workers of a supervisor that have come up, in a fixed order."""
    return sorted(pid for pid in children(supervisor) if title(pid).startswith(WORKER_TITLE))


def is_up(worker: int) -> bool:
    """Tell whether a worker is past its boot."""
    return not title(worker).endswith("booting")


def reap() -> None:
    """Collect orphans that have ended; those that somebody waits for are left to them."""
    for pid, (state, parent) in _all().items():
        if parent == os.getpid() and state == "Z" and title(pid) == "":
            _collect(pid)


class Held:
    """A process that was found below one of ours, held so that a signal can reach no other.

    Args:
        pid: the process.
        parent: whose child it must be.
    """

    def __init__(self, pid: int, parent: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        if pid not in children(parent):  # looked at again now that the number cannot be given to another
            self.let_go()
            raise ProcessLookupError(pid)

    @classmethod
    def one_of(cls, pids: list[int], whom: float, parent: int) -> Self | None:
        """Return one of some processes, None if it is gone or there is none."""
        try:
            return cls(pids[int(whom * len(pids))], parent)
        except (IndexError, ProcessLookupError):
            return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return

    def let_go(self) -> None:
        """Hold it no longer."""
        os.close(self._fd)


def _all() -> dict[int, tuple[str, int]]:
    """Return state and parent of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            found[int(entry.name)] = fields[0], int(fields[1])
    return found


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
