"""The pid file: tells scripts and monitors which process to signal, and is locked for as long as that process lives.

The lock decides who holds it, never the number in it: a file that a dead holder left behind stops nobody.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

from spawnpool.errors import AlreadyRunning, SpawnpoolError

PUBLIC = 0o644
"""Everybody may read who runs, less what the umask takes away."""
ENOUGH = 64
"""Bytes to read in order to see that a file says more than a pid."""


class PidFileRefused(SpawnpoolError):
    """The pid file cannot be held."""


class PidFile:
    """Holds the lock from construction to `release`, across forks.

    Args:
        path: where it stands; a relative one is seen from the working directory of now.

    Raises:
        AlreadyRunning: a living process holds it; carries that process's pid.
        PidFileRefused: it cannot be made there, is not ours, or is no pid file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._fd = _locked(self.path)
        self.write()

    def fileno(self) -> int:
        """Return the descriptor that has to stay open."""
        return self._fd

    def write(self) -> None:
        """Name this process as the holder, as a daemon does once it has its final pid."""
        self._pid = os.getpid()
        line = f"{self._pid}\n".encode()
        try:
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))
        except OSError as error:
            raise PidFileRefused(
                f"the pid file {self.path} cannot be written ({error.strerror}): make room there"
            ) from error

    def release(self) -> None:
        """Remove the file if it is still ours, and let go of the lock."""
        if self._pid == os.getpid():
            try:
                if _is_at(self._fd, self.path):
                    self.path.unlink()  # before the lock is free: nobody can have taken the name over
            except OSError:  # the folder is not ours after a change of user: who reads an empty file knows as much
                os.ftruncate(self._fd, 0)
        os.close(self._fd)


def _locked(path: Path) -> int:
    """Return a locked descriptor of the file that stands at `path`, and not of one removed meanwhile."""
    while True:
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read(fd)
            os.close(fd)
            raise AlreadyRunning(f"process {pid or 'unknown'} holds the pid file {path} already", pid) from None
        if fault := _fault(fd):
            os.close(fd)
            raise PidFileRefused(f"the pid file {path} {fault}: name another file, or remove this one")
        if _is_at(fd, path):
            return fd
        os.close(fd)


def _open(path: Path) -> int:
    try:
        folder = path.parent.stat()
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            raise PidFileRefused(
                f"the folder {path.parent} of the pid file is writable by everybody, who could name any process there: "
                "take a folder of your own"
            )
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, PUBLIC)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        missing = error.errno == errno.ENOENT
        remedy = f"make the folder {path.parent}" if missing else f"let user {os.geteuid()} write there"
        raise PidFileRefused(f"the pid file {path} cannot be opened ({why}): {remedy}") from error


def _fault(fd: int) -> str | None:
    """Say why a file is none that may be written over."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}"
    return None if re.fullmatch(rb"\s*\d*\s*", os.pread(fd, ENOUGH, 0)) else "says something else than a pid"


def _read(fd: int) -> int | None:
    line = os.pread(fd, ENOUGH, 0).strip()
    return int(line) if line.isdigit() else None


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False
