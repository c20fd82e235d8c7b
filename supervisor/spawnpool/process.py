"""One worker process as the supervisor sees it: spawned, watched by a pidfd, signalled through it, told in words.

Owns everything that is particular about starting with `spawn`; it must never be used from a second thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.process
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from spawnpool.errors import NotMainThread
from spawnpool.signals import block_terminal_signals
from spawnpool.states import ExitCode

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def spawn_context() -> SpawnContext:
    """Return the context that everything of a worker is made with, whatever the default start method is."""
    return multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended.

    Args:
        code: its exit code, or minus the signal number; None if somebody else collected it.
        peak_bytes: its peak resident memory, in bytes; None if unknown.
    """

    code: int | None
    peak_bytes: int | None

    def words(self) -> str:
        """Return what happened, to go on from the worker's name."""
        if self.code is None:
            return "ended with an exit code that another part of the program collected"
        if self.code < 0:
            try:
                return f"was killed by {signal.Signals(-self.code).name}"
            except ValueError:
                return f"was killed by signal {-self.code}"
        meaning = {
            ExitCode.NOT_RECORDED: " (what it had to record was not taken)",
            ExitCode.CROWDED: " (there was no room for it)",
            ExitCode.LANE_LOST: " (a job closed or replaced the worker's own descriptors)",
        }.get(self.code, "")  # type: ignore[call-overload]
        return f"exited with code {self.code}{meaning}"


class WorkerProcess:
    """A spawned process.

    Args:
        target: a module-level function; runs in the new process.
        args: what it gets; small, since it is pickled into a pipe that nobody may be reading yet.
        name: shown in lists of processes until the worker sets its own title.

    Raises:
        NotMainThread: called from another thread than the main one.
        OSError: the system is out of processes or descriptors.
    """

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], name: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise NotMainThread
        # Started before the signals are blocked: starting it lifts the mask again.
        multiprocessing.resource_tracker.ensure_running()
        self._process: SpawnProcess = spawn_context().Process(target=target, args=args, name=name, daemon=False)
        mask = block_terminal_signals()
        try:
            with _no_main_module():
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Spawning the next one would collect it, if it is dead by then, and its usage of memory would be lost.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]  # noqa: SLF001
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # out of descriptors: a worker that cannot be watched must not live
            self._process.kill()
            self._process.join()
            raise

    def fileno(self) -> int:
        """Return the pidfd: readable as soon as the process is dead, whoever else holds its pipes."""
        return self._pidfd

    def send(self, signum: int) -> None:
        """Send a signal through the pidfd, which can never hit a stranger; a dead process is left alone."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signum)

    def survives(self, signum: int) -> bool:
        """Tell whether the process catches or ignores a signal; False if that is not known."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigCgt:", "SigIgn:"))]
        return any(mask >> (signum - 1) & 1 for mask in masks)

    def reap(self) -> Exit | None:
        """Collect the process if it is dead; None while it lives."""
        popen = self._process._popen  # type: ignore[attr-defined]  # noqa: SLF001  # it waits without the usage
        try:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        except ChildProcessError:  # multiprocessing collected it
            code = self._process.exitcode
            popen.returncode = code or 0
            return Exit(code, None)
        if pid == 0:
            return None
        popen.returncode = os.waitstatus_to_exitcode(status)
        return Exit(popen.returncode, usage.ru_maxrss * 1024)

    def close(self) -> None:
        """Let go of the descriptors of a collected process."""
        os.close(self._pidfd)
        self._process.join()
        self._process.close()


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide `__main__` while a process is spawned, so that it is not imported there a second time.

    A manage.py without `if __name__ == "__main__"` would otherwise run again in every worker.
    """
    real = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = real


def tracker_pid() -> int:
    """Return the process of multiprocessing's resource tracker, a child of ours, too; 0 if it does not run."""
    tracker: Any = multiprocessing.resource_tracker._resource_tracker  # noqa: SLF001
    return tracker._pid or 0  # noqa: SLF001


def fill_standard_streams() -> None:
    """Open on /dev/null what is closed of descriptors 0, 1 and 2, and give Python its streams there.

    A socket or a lane would take such a number otherwise and be every worker's stderr, where anybody may write.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(opened, True)  # noqa: FBT003  # os takes it by position only
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", encoding="utf-8", errors="replace", closefd=False))


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to SIGKILL this process when its parent is gone, and leave at once if it already is."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(ExitCode.OK)


def keep_only(fds: set[int]) -> None:
    """Close every descriptor above 2 that is not in `fds`, and make those that stay close-on-exec.

    Spawn leaves its data pipe, its sentinel and the resource tracker's pipe open and inheritable in the child.
    """
    for path in list(Path("/proc/self/fd").iterdir()):
        fd = int(path.name)
        if fd <= 2:
            continue
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            if fd in fds:
                os.set_inheritable(fd, False)  # noqa: FBT003  # os takes it by position only
            else:
                os.close(fd)
    # Its pipe is closed: a job that uses multiprocessing must start a tracker of its own.
    tracker: Any = multiprocessing.resource_tracker._resource_tracker  # noqa: SLF001
    tracker._fd = tracker._pid = None  # noqa: SLF001
