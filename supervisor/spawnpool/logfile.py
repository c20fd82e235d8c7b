"""The log file of a daemon: whatever a process writes to stdout and stderr, opened anew after it was moved away."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from pathlib import Path

from spawnpool.errors import SpawnpoolError

STREAMS = (1, 2)

_log = logging.getLogger("spawnpool")


class LogFileRefused(SpawnpoolError):
    """The log file cannot be opened."""


class LogFile:
    """The name of a file that takes the place of stdout and stderr.

    Descriptors 1 and 2 are replaced, not Python's objects: what C code and child processes write goes there, too.

    Args:
        path: where it stands; a relative one is seen from the working directory of now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def open(self) -> int:
        """Return a new descriptor that appends to the file, which is made with the umask of the process.

        Raises:
            LogFileRefused: it cannot be opened; in one sentence with the remedy.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            # A pipe without a reader would keep us waiting.
            fd = os.open(self.path, flags | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise LogFileRefused(
                f"the log file {self.path} cannot be opened ({error.strerror}): {_remedy(self.path, error)}"
            ) from error
        os.set_blocking(fd, True)
        return fd

    def use(self) -> None:
        """Open the file and put it in the place of stdout and stderr. Safe in a handler of a signal.

        Raises:
            LogFileRefused: it cannot be opened; the streams are what they were.
        """
        fd = self.open()
        try:
            for stream in STREAMS:
                os.dup2(fd, stream)
        finally:
            os.close(fd)

    def reopen(self) -> None:
        """Use the file of that name as it is now; if it cannot be opened, the old one goes on, with a warning."""
        try:
            self.use()
        except LogFileRefused as error:
            with contextlib.suppress(RuntimeError):  # a worker is told by a signal, which may come within a write
                _log.warning("%s; until then the old one goes on", error)


def _remedy(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"make the folder {path.parent}"
    return f"let user {os.geteuid()} write there, since that is who opens it again after a rotation"
