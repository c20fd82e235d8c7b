"""What the jobs of every contender do, and the file in which they note it: the times come from the jobs themselves.

One record of a fixed size for each job, appended in one write, so that the number of jobs that have ended follows from
the size of the file. It runs in the workers of every rival: nothing but Django may be imported here.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<qddq")
WARM_UP, MOMENT = -1, -2
"""The numbers of jobs whose latency is not measured, and is."""

_fd: int | None = None


class Note(NamedTuple):
    """What one job has noted: its number, two moments in seconds since the epoch, and who ran it."""

    number: int
    first: float
    last: float
    pid: int


def note(number: int, first: float, last: float) -> None:
    """Append a record; the file is opened by the first one."""
    global _fd  # noqa: PLW0603  # one for the process, whatever calls it
    if _fd is None:
        _fd = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(_fd, RECORD.pack(number, first, last, os.getpid()))


def notes(place: Path) -> list[Note]:
    """Return what was noted."""
    data = place.read_bytes()
    return [Note(*fields) for fields in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]


def count(place: Path) -> int:
    """Return how many have noted something."""
    return place.stat().st_size // RECORD.size


def noop(number: int) -> None:
    """Do nothing."""
    now = time.time()
    note(number, now, now)


def orm(number: int) -> None:
    """Read a row and write it, by the ORM; each statement is a transaction of its own."""
    from benchmarks.accounts import raise_by_one

    began = time.time()
    raise_by_one(number)
    note(number, began, time.time())


def moment(sent: float) -> None:
    """Note when it was enqueued, which is its argument, and when it began; a negative one is a warm-up."""
    note(WARM_UP if sent < 0 else MOMENT, sent, time.time())
