"""Which keys have begun, in a file that outlives the supervisor: its successor learns what never did.

A worker notes each key just before it runs it and strikes it out when its end is recorded: eight bytes of mapped
memory, no system call. What a killed process wrote there stays. The file stands beside the run file, belongs to one run
and is removed with it. It says nothing after a restart of the machine, and nothing when a worker had to do without.

Layout, in words of eight bytes: the head (`_HEAD`: a mark, the supervisor's pid, whether it is complete, the id of the
boot in two words), then a page of `SLOTS` words for each worker that was ever there at the same time.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import stat
import struct
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

SLOTS = 8192
"""How many keys a worker can have begun whose ends are not recorded: more than ever wait before one (`window_max`).

Together they fill one page of memory on machines with the largest pages, 64 KiB.
"""
PAGE_BYTES = SLOTS * 8
_HEAD = struct.Struct("<8sqq16s")
_MARK = b"begun 1\n"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_EMPTY = memoryview(bytes(PAGE_BYTES)).cast("q")

Page = tuple[Connection, int] | None
"""The file, as a `Connection`, since that carries a descriptor to a new process, and the offset of a worker's page."""

_log = logging.getLogger("spawnpool")


class BegunFile:
    """The supervisor's side: makes the file and hands out its pages.

    Args:
        path: where it is made anew; None for workers that do without.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._end: Connection | None = None
        self._pages: set[int] = set()
        self._retired: set[int] = set()
        self._complete = True
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            self._end = Connection(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600))
            self._write_head()
        except OSError as error:
            self._do_without(error)

    def page(self, *, owes: bool) -> Page:
        """Return an empty page for a new worker.

        Args:
            owes: whether the source has not been told yet what became of workers that are dead: their pages stay.
        """
        if self._end is None:
            return None
        fd = self._end.fileno()
        if not owes:
            self._pages -= self._retired
            self._wipe(self._retired)
            self._retired = set()
        number = next(number for number in range(1, len(self._pages) + 2) if number not in self._pages)
        try:
            # A hole in a file on a full disk would kill the worker that writes there.
            os.posix_fallocate(fd, number * PAGE_BYTES, PAGE_BYTES)
        except OSError as error:
            self._do_without(error)
            return None
        self._pages.add(number)
        return self._end, number * PAGE_BYTES

    def retire(self, page: Page) -> None:
        """Take back the page of a worker that is dead; what stands there stays until the source knows it."""
        if page is not None:
            self._retired.add(page[1] // PAGE_BYTES)

    def keep(self) -> None:
        """Keep cleaners of temporary folders away, which go by age."""
        if self._end is not None:
            os.utime(self._end.fileno())

    def close(self, *, remove: bool) -> None:
        """Let go of the file; `remove` tells that nothing of this run is left."""
        if self._end is not None:
            self._end.close()
            self._end = None
        if remove and self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _do_without(self, error: OSError) -> None:
        """Go on with a worker that cannot note anything: from now on the file does not tell what never began."""
        if self._complete:
            _log.warning(
                "%s cannot be written (%s): should this supervisor be killed, an attempt is counted for each job that "
                "its workers have before them", self.path, error.strerror,
            )  # fmt: skip
        self._complete = False
        with contextlib.suppress(OSError):
            self._write_head()

    def _write_head(self) -> None:
        if self._end is not None:
            os.pwrite(self._end.fileno(), _HEAD.pack(_MARK, os.getpid(), self._complete, _boot_id()), 0)

    def _wipe(self, numbers: set[int]) -> None:
        for number in numbers:
            os.pwrite(self._end.fileno(), bytes(PAGE_BYTES), number * PAGE_BYTES)  # type: ignore[union-attr]


class Notes:
    """The worker's side: its page, or none.

    Args:
        page: what the worker was spawned with.
    """

    def __init__(self, page: Page) -> None:
        self._begun: list[int] = []  # what stands on the page, in order
        self._next = self._oldest = 0
        mapped = bytearray(PAGE_BYTES) if page is None else mmap.mmap(page[0].fileno(), PAGE_BYTES, offset=page[1])
        self._slots = memoryview(mapped).cast("q")

    def begin(self, key: int) -> None:
        """Note that a key begins now."""
        at = self._next
        self._slots[at] = key
        self._begun.append(key)
        self._next = (at + 1) % SLOTS

    def settle(self, key: int) -> None:
        """Strike out every key up to this one, in the order in which they began: their ends are recorded.

        Called from the main thread or another one, never by two at once.
        """
        if key not in self._begun:
            return
        count = self._begun.index(key) + 1
        del self._begun[:count]
        end = self._oldest + count
        for start, stop in ((self._oldest, min(end, SLOTS)), (0, end - SLOTS)):
            if stop > start:
                self._slots[start:stop] = _EMPTY[: stop - start]
        self._oldest = end % SLOTS


def begun(path: Path, pid: int) -> frozenset[int] | None:
    """Return the keys that had begun when a run ended without a word; None if that is not known.

    Args:
        path: of the file of that run.
        pid: of its supervisor.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    except OSError:
        return None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(fd)
        return None
    with open(fd, "rb") as file:  # noqa: PTH123  # it is open
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size or _HEAD.unpack(head) != (_MARK, pid, True, _boot_id()):
            return None
        file.seek(PAGE_BYTES)
        return frozenset(key for page in iter(lambda: file.read(PAGE_BYTES), b"") for key in _keys(page))


def _keys(page: bytes) -> Iterator[int]:
    if any(page):
        yield from (key for (key,) in struct.iter_unpack("<q", page[: len(page) // 8 * 8]) if key)


def _boot_id() -> bytes:
    try:
        return uuid.UUID(_BOOT_ID.read_text(encoding="ascii").strip()).bytes
    except (OSError, ValueError):
        return bytes(16)
