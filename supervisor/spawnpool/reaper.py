"""Children that are no workers: orphans that the kernel gave us, and multiprocessing's resource tracker.

Who is process 1 of a container, or has asked to be a subreaper, becomes the parent of every orphan below it and must
collect each of them, or they fill the process table as zombies. A status that somebody waits for must never be taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing.resource_tracker
import os
import select
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

PR_GET_CHILD_SUBREAPER = 37  # <linux/prctl.h>
TRACKER_WAIT_S = 2.0
"""The resource tracker is given so long to end; it is a matter of milliseconds."""


def is_init() -> bool:
    """True when orphans become our children: we are process 1 of a container, or a subreaper."""
    if os.getpid() == 1:
        return True
    answer = ctypes.c_int(0)
    return ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0 and bool(answer.value)


def reap_strangers(known: Collection[int]) -> list[int]:
    """Collect every dead child that is not `known`, and return their pids.

    Args:
        known: the pids that somebody else waits for: the workers and whatever else this program itself has started.
    """
    reaped: list[int] = []
    while (first := _first_zombie()) is not None:
        # The kernel shows one zombie, always the same: behind one that we must leave the others are looked for.
        strangers = [pid for pid in _zombies() if pid not in known] if first in known else [first]
        collected = [pid for pid in strangers if _collect(pid)]
        reaped += collected
        if not collected or first in known:
            break
    return reaped


def _first_zombie() -> int | None:
    """Return a dead child that is not collected yet, and leave it."""
    try:
        zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if zombie is None else zombie.si_pid


def _zombies() -> Iterator[int]:
    """Yield all dead children that are not collected yet."""
    me = os.getpid()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile
            state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if state == b"Z" and int(parent) == me:
                yield int(folder.name)


def _collect(pid: int) -> bool:
    """Collect a child if it is dead."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


# ---- the resource tracker


def stop_resource_tracker() -> None:
    """End multiprocessing's resource tracker and wait for it, so that nothing is left for a service manager to kill.

    To be called at the very end, when every queue is closed and let go of; who uses multiprocessing afterwards gets a
    new tracker. If it does not end in time, because a stranger holds its pipe open, it is left alone.
    """
    until = time.monotonic() + TRACKER_WAIT_S
    _let_semaphores_go(until - TRACKER_WAIT_S / 2)
    tracker: Any = multiprocessing.resource_tracker._resource_tracker  # noqa: SLF001  # it has no public way to end
    with tracker._lock:  # noqa: SLF001
        fd, pid = tracker._fd, tracker._pid  # noqa: SLF001
        if fd is None or pid is None:  # it never ran, or it is our parent's
            return
        tracker._fd = tracker._pid = None  # noqa: SLF001
    # Its own `_stop` would wait for ever if it is stopped or its pipe is held, and fails if somebody collected it.
    os.close(fd)
    _wait_for(pid, until)


def _let_semaphores_go(until: float) -> None:
    """Let what is no longer used unregister now: afterwards it would start a new tracker for that."""
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":  # of a queue that has just been closed: it holds the queue's locks
            thread.join(max(0.0, until - time.monotonic()))
    gc.collect()


def _wait_for(pid: int, until: float) -> None:
    """Collect a child when it ends, but do not wait longer than `until`."""
    with contextlib.suppress(OSError):  # somebody has collected it; or we are out of descriptors
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            pidfd = os.pidfd_open(pid)
            try:
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(max(0.0, until - time.monotonic()) * 1000)
            finally:
                os.close(pidfd)
            os.waitpid(pid, os.WNOHANG)
