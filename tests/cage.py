"""A memory cgroup for one process: it may outgrow its limit and be killed by the kernel, nobody else suffers.

Works on both kinds of cgroup, wherever the machine lets us make one. Nothing of the product is used to find the place.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_numbers = itertools.count(1)


class Kind(NamedTuple):
    """What the files of a memory cgroup are called."""

    limit: str
    with_swap: tuple[str, str]  # the file that forbids to swap instead, and what it gets; {} is the limit
    counter: str


KINDS = {
    "cgroup": Kind("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", "{}"), "memory.oom_control"),
    "cgroup2": Kind("memory.max", ("memory.swap.max", "0"), "memory.events"),
}


class MemoryCage:
    """A memory cgroup that is there as long as the `with` block; what is still in it then goes back to our own.

    Args:
        limit_bytes: what the processes in it may use together; what they had before they were added does not count.

    Raises:
        OSError: this machine gives us no memory cgroup.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.home, self.path, self.kind = _make()

    def add(self, pid: int) -> None:
        """Put a living process in; what it forks later is in it, too."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """Return how many processes the kernel has killed in it for want of memory."""
        lines = (self.path / self.kind.counter).read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])

    def close(self) -> None:
        """Let the processes go and remove the group; a process that has just died may hold it for a moment."""
        for pid in (self.path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (self.home / "cgroup.procs").write_text(pid)
        eventually(self._removed, 60, f"the end of {self.path}")

    def _removed(self) -> bool:
        with suppress(OSError):
            self.path.rmdir()
        return not self.path.exists()

    def __enter__(self) -> Self:
        try:
            (self.path / self.kind.limit).write_text(str(self.limit_bytes))
            name, value = self.kind.with_swap
            with suppress(OSError):  # the kernel may count no swap
                (self.path / name).write_text(value.format(self.limit_bytes))
        except OSError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@cache
def cage_possible() -> bool:
    """True when this machine lets us make memory cgroups; found out by making one."""
    try:
        with MemoryCage(1 << 30):
            return True
    except OSError:
        return False


def need_cage() -> None:
    """Skip the test where there can be no cage."""
    if not cage_possible():
        pytest.skip("this machine gives us no writable memory cgroup, and a real OOM kill needs one")


def _make() -> tuple[Path, Path, Kind]:
    """Make an empty group, and return our own group, the new one and its kind."""
    for home, mount, kind in _homes():
        # Below a group that has processes version 2 gives no controllers: then its sister.
        for place in [home, *home.parents]:
            path = place / f"jobsup-cage-{os.getpid()}-{next(_numbers)}"
            with suppress(OSError):
                path.mkdir()
                if (path / kind.limit).exists() and (path / kind.counter).exists():
                    return home, path, kind
                path.rmdir()
            if place == mount:
                break
    raise OSError("this machine gives us no writable memory cgroup")


def _homes() -> Iterator[tuple[Path, Path, Kind]]:
    """Yield our own group in each hierarchy that can hold memory, with the hierarchy's mount and kind."""
    groups: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        root, mount = left.split()[3:5]
        fs, _, options = right.split(" ")
        controller = "" if fs == "cgroup2" else "memory"
        if fs in KINDS and controller in groups and (not controller or controller in options.split(",")):
            inside = groups[controller].removeprefix("" if root == "/" else root)
            yield Path(mount + inside.rstrip("/")), Path(mount), KINDS[fs]
