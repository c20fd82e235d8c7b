"""The files of an SQLite database: which one it is, and whether it was written since somebody last looked.

Any commit writes to the log beside the file, or to the file itself where there is none, and so changes the time that
the file system notes, or the size. To ask for that takes no connection, no lock and no statement.
"""

from __future__ import annotations

import os
import time

RECENT_NS = 50_000_000
"""Two writes within a tick of the kernel's clock, 10 ms at most, leave the same time behind."""

State = tuple[tuple[int, int, int] | None, ...]
"""Inode, size and time of the last write of the file and of its log; None for one that is empty or not there."""


def identity(name: str | os.PathLike[str]) -> str | None:
    """Return a file's device and inode, whatever it is called; None if it cannot be looked at."""
    try:
        file = os.stat(name)  # noqa: PTH116  # a third of the time of Path's
    except (OSError, ValueError):
        return None
    return f"sqlite {file.st_dev} {file.st_ino}"


def state(name: str | os.PathLike[str], *, settled: bool = False) -> State | None:
    """Return what differs after each write; None if that is not known, or may not differ after the next one.

    Args:
        name: of the database's file.
        settled: whether it is known that nobody else has just written.
    """
    files = [_of(os.fspath(name) + suffix) for suffix in ("", "-wal")]
    if files[0] is None:
        return None
    now_ns = time.time_ns()
    if not settled and any(file is not None and abs(now_ns - file[2]) < RECENT_NS for file in files):
        return None
    return tuple(files)


def _of(name: str) -> tuple[int, int, int] | None:
    try:
        file = os.stat(name)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return (file.st_ino, file.st_size, file.st_mtime_ns) if file.st_size else None
