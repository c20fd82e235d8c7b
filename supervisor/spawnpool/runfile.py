"""The run file: one per supervisor name and node, locked for life, so that there is one holder at a time.

It also tells a successor who worked for the previous holder, so that the successor can wait until the last orphan is
gone before it takes over. The lock is free when the holder is dead, whatever the file says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spawnpool.errors import AlreadyRunning, SourceRefused

ORPHAN_WAIT_S = 10.0


class RunFile:
    """Holds the lock from construction to `release`.

    Args:
        path: where the file stands; its folder is made if it is missing.

    Raises:
        AlreadyRunning: another process holds it; carries that process's pid.
        SourceRefused: the file cannot be made there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            raise SourceRefused(
                f"the run file {path} cannot be opened ({error.strerror}): set RUN_DIR to a folder that is writable"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read(self._fd).get("pid")
            os.close(self._fd)
            raise AlreadyRunning(f"process {pid or 'unknown'} runs under this name already ({path})", pid) from None
        before = _read(self._fd)
        # Tells this file from one of the same name on another machine or in another container.
        self.identity: str = before.get("identity") or uuid.uuid4().hex
        _end_orphans(before.get("workers", ()))
        self.write_workers(())

    def write_workers(self, pids: Iterable[int]) -> None:
        """Note who works for the holder, in case it dies without a word."""
        workers = [(pid, started) for pid in pids if (started := _start_ticks(pid)) is not None]
        data = json.dumps({"pid": os.getpid(), "identity": self.identity, "workers": workers}).encode()
        os.pwrite(self._fd, data.ljust(os.fstat(self._fd).st_size), 0)
        os.ftruncate(self._fd, len(data))

    def release(self) -> None:
        """Let go of the lock; the file stays, since removing it would let two processes hold one name."""
        os.close(self._fd)


def _read(fd: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(fd, 1 << 20, 0) or b"{}")
    except ValueError:  # cut short by a full disk or a power failure
        return {}
    return content if isinstance(content, dict) else {}


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    return None if state in "ZX" else int(fields[18])


def _end_orphans(workers: Iterable[tuple[int, int]]) -> None:
    """See to it that no worker of the dead holder is left: the kernel kills them with it, but not in an instant."""
    for pid, started in workers:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if _start_ticks(pid) == started:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], ORPHAN_WAIT_S)
            finally:
                os.close(pidfd)
