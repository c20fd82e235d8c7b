"""What a supervisor and one worker share beside their lanes: two pages of memory, and the last words of a crash.

On the first page the supervisor writes which job it wants to interrupt and why; a signal makes the worker look. So an
interruption can never hit the job after the one that it is meant for. On the second page the worker notes which key it
has begun and when: that costs no system call, and wakes nobody. Behind the pages faulthandler writes where every thread
of the worker was when it crashed or was aborted; that needs no Python code to run any more.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from multiprocessing.connection import Connection
from typing import NamedTuple

from spawnpool.bounds import Interrupt

_PAGE_BYTES = mmap.PAGESIZE
_LAYOUT = struct.Struct("<qII")  # key, why, how often the log files were reopened
_STACK_BYTES_MAX = 65536
_CRASH = "Fatal Python error"
_STACK_LINES_MAX = 40
_WORDS_AT = 2 * _PAGE_BYTES
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<name>.+)$')
_OWN_FRAME = "/spawnpool/worker.py"


class Begin(NamedTuple):
    """The latest begin of a key.

    Args:
        number: how many keys have begun on this worker, this one included.
        key: which one.
        at: when, on the monotonic clock, in seconds.
    """

    number: int
    key: int
    at: float


class Card:
    """The supervisor's side.

    Raises:
        OSError: the system is out of descriptors or memory.
    """

    def __init__(self) -> None:
        self._end = Connection(os.memfd_create("jobsup-card", os.MFD_CLOEXEC))
        os.ftruncate(self._end.fileno(), _WORDS_AT)
        self._page = mmap.mmap(self._end.fileno(), _PAGE_BYTES)
        self._progress = mmap.mmap(self._end.fileno(), _PAGE_BYTES, offset=_PAGE_BYTES, prot=mmap.PROT_READ)
        self._words, self._moments = memoryview(self._progress).cast("q"), memoryview(self._progress).cast("d")
        self._reopened = 0

    def worker_end(self) -> Connection:
        """Return what the worker is spawned with; a `Connection`, since that carries a descriptor to a new process."""
        return self._end

    def write(self, key: int, why: Interrupt) -> None:
        """Write down which key is to be interrupted, and why."""
        before, _, _ = _LAYOUT.unpack_from(self._page)
        # The worker may read at any moment: never a new key with an old reason.
        for step in ((before, Interrupt.NONE), (key, Interrupt.NONE), (key, why)):
            _LAYOUT.pack_into(self._page, 0, *step, self._reopened)

    def log_reopened(self) -> None:
        """Write down that the log file is to be opened anew."""
        self._reopened += 1
        key, why, _ = _LAYOUT.unpack_from(self._page)
        _LAYOUT.pack_into(self._page, 0, key, why, self._reopened)

    def begin(self) -> Begin | None:
        """Return the latest begin; None if there is none, or it is being written at this moment."""
        count = self._words[0]
        begin = Begin(count, self._words[1], self._moments[2])
        return begin if count > 0 and self._words[0] == count else None

    def last_words(self) -> str:
        """Return the last that faulthandler wrote, "" if nothing; forked children of a job write there, too."""
        size = os.fstat(self._end.fileno()).st_size
        start = max(_WORDS_AT, size - _STACK_BYTES_MAX)
        text = os.pread(self._end.fileno(), _STACK_BYTES_MAX, start).decode("utf-8", "replace")
        return text[max(0, text.rfind(_CRASH)) :]

    def close(self) -> None:
        """Throw it away."""
        self._words.release()
        self._moments.release()
        self._progress.close()
        self._page.close()
        self._end.close()


class WorkerCard:
    """The worker's side; keeps the descriptor for faulthandler.

    Args:
        end: what the worker was spawned with.
    """

    def __init__(self, end: Connection) -> None:
        self._end = end
        self._page = mmap.mmap(end.fileno(), _PAGE_BYTES, prot=mmap.PROT_READ)
        progress = mmap.mmap(end.fileno(), _PAGE_BYTES, offset=_PAGE_BYTES)
        self._words, self._moments = memoryview(progress).cast("q"), memoryview(progress).cast("d")
        self._count = 0
        os.lseek(end.fileno(), _WORDS_AT, os.SEEK_SET)

    def fileno(self) -> int:
        """Return the descriptor that faulthandler writes to."""
        return self._end.fileno()

    def begin(self, key: int) -> int:
        """Note that a key begins now; return how many have begun."""
        self._count = count = self._count + 1
        # The supervisor may look at any moment: a count below 0 tells it that the rest is being written.
        self._words[0] = -count
        self._words[1] = key
        self._moments[2] = time.monotonic()
        self._words[0] = count
        return count

    def read(self) -> tuple[int, Interrupt, int]:
        """Return which key is to be interrupted, why, and how often the log files were reopened."""
        key, why, reopened = _LAYOUT.unpack_from(self._page)
        return key, Interrupt(why), reopened


def stack_of(last_words: str) -> str:
    """Return the Python stack of the thread that crashed, most recent call first; "" if it is not known.

    Args:
        last_words: what faulthandler wrote.
    """
    lines = last_words.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("Current thread")), None)
    if start is None:
        start = next((n for n, line in enumerate(lines) if line.startswith(("Thread", "Stack"))), len(lines))
    frames: list[str] = []
    for line in lines[start + 1 : start + 1 + _STACK_LINES_MAX]:
        if not line.startswith("  ") or _OWN_FRAME in line:
            break
        frames.append(line)
    return "\n".join(frames)


def place_of(stack: str) -> str:
    """Return where a stack ends, as "file.py:12 in name"; "" if it says nothing."""
    found = _FRAME.match(stack.partition("\n")[0])
    return f"{found['file']}:{found['line']} in {found['name']}" if found else ""


def where_of(stack: str) -> str:
    """Return where a stack ends, to go on with in a sentence; "" if it says nothing."""
    return f"; it was at {place}" if (place := place_of(stack)) else ""
