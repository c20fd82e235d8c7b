"""The run file: one per supervisor name and node, locked for life, so that there is one holder at a time.

It also tells a successor who worked for the previous holder, so that the successor can wait until the last orphan is
gone before it takes over. The lock is free when the holder is dead, whatever the file says. Nothing in it is believed
that somebody else could have written: the folder and the file must be ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import select
import signal
import stat
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spawnpool.errors import AlreadyRunning, SourceRefused

ORPHAN_WAIT_S = 10.0
LOOKERS_S = 0.2
"""How long the lock is tried for: `client.holder` takes it for an instant."""
PID_LIMIT = 1 << 22
"""No process of Linux has a higher pid."""
MACHINE_ID = Path("/etc/machine-id")
REMEDY = 'set JOBSUP["RUN_DIR"] to a folder of your own'

_log = logging.getLogger("spawnpool")


class RunFile:
    """Holds the lock from construction to `release`.

    Args:
        path: where the file stands; its folder is made if it is missing.

    Raises:
        AlreadyRunning: another process holds it; carries that process's pid.
        SourceRefused: the file cannot be made there, or others could write it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._warned = self._gone = False
        self._fd = _open(path)
        if not _lock(self._fd):
            pid = _read(self._fd).get("pid")
            os.close(self._fd)
            raise AlreadyRunning(f"process {pid or 'unknown'} runs under this name already ({path})", pid)
        before = _read(self._fd)
        self._machine = _machine()
        if before.get("machine") != self._machine:  # a copy: its first holder may be alive on the other machine
            before = {}
        # Tells this file from one of the same name on another machine or in another container.
        self.identity: str = before.get("identity") or uuid.uuid4().hex
        _end_orphans(before.get("workers", ()))
        self.write_workers(())

    def write_workers(self, pids: Iterable[int]) -> None:
        """Note who works for the holder, in case it dies without a word; a note that fails is logged once."""
        workers = [(pid, started) for pid in pids if (started := _start_ticks(pid)) is not None]
        content = {"pid": os.getpid(), "identity": self.identity, "machine": self._machine, "workers": workers}
        data = json.dumps(content).encode()
        try:
            _write(self._fd, data)
        except OSError as error:
            if not self._warned:
                _log.warning("the run file %s cannot be written (%s): make room there", self.path, error.strerror)
            self._warned = True
        else:
            self._warned = False

    def keep(self) -> None:
        """Keep cleaners of temporary folders away, which go by age; say so if the file is gone all the same."""
        os.utime(self._fd)
        if os.fstat(self._fd).st_nlink == 0 and not self._gone:
            self._gone = True
            _log.error(
                "the run file %s was removed: nobody finds this supervisor by its name any more, and a second one "
                "could start under it; restart this one, and %s", self.path, REMEDY,
            )  # fmt: skip

    def release(self) -> None:
        """Let go of the lock; the file stays, since removing it would let two processes hold one name."""
        os.close(self._fd)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        if fault := _fault_of_folder(path.parent.lstat()):
            raise SourceRefused(f"the folder {path.parent} of the run file {fault}: {REMEDY}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o640)
    except OSError as error:
        raise SourceRefused(
            f"the run file {path} cannot be opened ({error.strerror}): set RUN_DIR to a folder that is writable"
        ) from error
    if fault := _fault_of_file(os.fstat(fd)):
        os.close(fd)
        raise SourceRefused(f"the run file {path} {fault}: {REMEDY}")
    return fd


def _lock(fd: int) -> bool:
    """Take the lock; False when somebody holds it for longer than those who only look whether it is held."""
    give_up_at = time.monotonic() + LOOKERS_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(0.01)
        else:
            return True


def _fault_of_folder(status: os.stat_result) -> str | None:
    """Say why others could put a file of theirs in the place of ours, if they could."""
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        return "is writable by others"
    return None


def _fault_of_file(status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    return None if status.st_uid == os.geteuid() else f"belongs to user {status.st_uid}"


def _machine() -> str:
    try:
        return MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _read(fd: int) -> dict[str, Any]:
    """Return what the file says; nothing if it is cut short by a full disk or a power failure, or malformed."""
    try:
        content = json.loads(os.pread(fd, 1 << 20, 0) or b"{}")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and _is_sound(content) else {}


def _write(fd: int, data: bytes) -> None:
    if os.pwrite(fd, data.ljust(os.fstat(fd).st_size), 0) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, len(data))


def _is_sound(content: dict[str, Any]) -> bool:
    workers, identity = content.get("workers", []), content.get("identity", "")
    return (
        isinstance(workers, list)
        and all(isinstance(pair, list) and [type(number) for number in pair] == [int, int] for pair in workers)
        and all(0 < pid < PID_LIMIT for pid, _ in workers)
        and isinstance(identity, str)
        and re.fullmatch(r"([0-9a-f]{32})?", identity) is not None
        and type(content.get("pid", 0)) is int
    )


def _start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot: with the pid it names one process for ever."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = line[line.rindex(")") + 2 :].split()
    return None if state in "ZX" else int(fields[18])


def _end_orphans(workers: Iterable[tuple[int, int]]) -> None:
    """See to it that no worker of the dead holder is left: the kernel kills them with it, but not in an instant."""
    for pid, started in workers:
        with contextlib.suppress(OSError):  # it is gone
            pidfd = os.pidfd_open(pid)
            try:
                if _start_ticks(pid) == started and Path(f"/proc/{pid}").stat().st_uid == os.geteuid():
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    select.select([pidfd], [], [], ORPHAN_WAIT_S)
            finally:
                os.close(pidfd)
