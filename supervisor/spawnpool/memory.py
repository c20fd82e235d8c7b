"""What the kernel tells of a process's memory: how much it has, and whether the OOM killer ended it.

The OOM killer sends a plain SIGKILL. What gives it away is a counter of the process's memory cgroup, on version 1
`oom_kill` in memory.oom_control, on version 2 in memory.events, which rises just before the signal is sent. All
processes of a group share it, so each kill that it counts explains one death and no other.

Nothing here raises when the kernel tells nothing: then there is no answer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PF_EXITING = 0x4  # <linux/sched.h>: the process ends; version 1 says from now on that its group is "/"
SETTLE_S = 5.0
"""Between the counting of a kill and the death lies the freeing of all its memory: kills this young stay in play."""
KILLS_KEPT = 1024
"""So many numbers of explained kills are remembered; a watch that has not looked since then has other worries."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def rss_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, in bytes; None when it has none, for it is gone or a zombie."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE_BYTES or None if len(fields) > 1 else None


# ---- what the kernel's texts say


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy of cgroups is mounted that can hold the memory controller.

    Args:
        point: the folder.
        root: the group that is seen there; "/" unless a container sees only its own.
        version: 1 or 2.
    """

    point: str
    root: str
    version: int


@dataclass(frozen=True, slots=True)
class Counter:
    """A file in which the kernel counts OOM kills.

    Args:
        file: the file.
        limits: the files that limit the memory of its group, from the group itself up.
        of_group: it counts for the process's own group, not for the whole machine.
    """

    file: Path
    limits: tuple[Path, ...]
    of_group: bool


def mounts_of(mountinfo: str) -> list[Mount]:
    """Return the mounts that /proc/self/mountinfo names and that can hold the memory controller."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        place, kind = left.split(" "), right.split(" ")
        if len(place) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            found.append(Mount(_plain(place[4]), _plain(place[3]), 2 if kind[0] == "cgroup2" else 1))
    return found


def groups_of(cgroup: str) -> dict[str, str]:
    """Return a process's group by controller from its /proc/PID/cgroup; that of version 2 has the name ""."""
    groups = {}
    for line in cgroup.splitlines():
        if line.count(":") < 2:
            continue
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    return groups


def counters_of(groups: Mapping[str, str], mounts: Iterable[Mount]) -> Iterator[Counter]:
    """Yield the counters that could be the process's own, the right one first.

    A hybrid machine has both versions, and the memory controller is in version 1 where that has one. On version 2 a
    group without the controller is counted in the nearest one above that has it; only there the counter exists.
    """
    for mount in sorted(mounts, key=lambda mount: mount.version):
        group = groups.get("memory" if mount.version == 1 else "")
        inside = None if group is None else _below(group, mount.root)
        if inside is None:
            continue
        top = Path(mount.point)
        folders = [folder for folder in (top / inside, *(top / inside).parents) if folder.is_relative_to(top)]
        if mount.version == 1:
            limits = tuple(folder / "memory.limit_in_bytes" for folder in folders)
            yield Counter(folders[0] / "memory.oom_control", limits, of_group=True)
            continue
        for n, folder in enumerate(folders):
            limits = tuple(above / "memory.max" for above in folders[n:])
            yield Counter(folder / "memory.events", limits, of_group=True)


def kills_in(text: str) -> int | None:
    """Return the OOM kills that memory.oom_control, memory.events or /proc/vmstat counts; None if it counts none."""
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def verdict_in_words(limits: Iterable[str], meminfo: str) -> str:
    """Return the cause of a death by the OOM killer, from what the limit files of the group and /proc/meminfo say."""
    total = re.search(r"^MemTotal: +(\d+) kB$", meminfo, re.MULTILINE)
    sizes = [int(limit) for limit in limits if limit.strip().isdigit()]  # else "max", or the file is missing
    if sizes and (total is None or min(sizes) < int(total[1]) * 1024):
        return f"out of memory: the kernel's OOM killer, limit {min(sizes) / 2**20:.0f} MB of its cgroup"
    return "out of memory: the kernel's OOM killer, the machine's memory was used up"


def is_ending(stat: str) -> bool:
    """True when /proc/PID/stat is of a process that is on its way out, is a zombie or is gone."""
    fields = stat.rpartition(")")[2].split()
    return len(fields) < 7 or fields[0] in "ZX" or bool(int(fields[6]) & PF_EXITING)


# ---- which kill explains which death


class OomLedger:
    """The books on OOM kills, kept by one supervisor for all its workers: each kill explains one death.

    Args:
        proc: where the kernel's process files are.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._mounts = mounts_of(_read(proc / "self/mountinfo"))
        self._explained: dict[Counter, set[int]] = {}
        self._places: dict[str, list[Counter]] = {}

    def counter(self, pid: int) -> tuple[Counter, int] | None:
        """Return the counter of a living process and what it says now; None if it ends or nothing counts for it."""
        cgroup = _read(self._proc / str(pid) / "cgroup")
        readings = ((counter, self.kills(counter)) for counter in self._counters(cgroup))
        found = next(((counter, kills) for counter, kills in readings if kills is not None), None)
        # Asked last: what was read above is true only if the process did not even begin to end meanwhile.
        return None if is_ending(_read(self._proc / str(pid) / "stat")) else found

    def kills(self, counter: Counter) -> int | None:
        """Return what a counter says now; None if it cannot be read."""
        kills = kills_in(_read(counter.file))
        if kills is not None and (numbers := self._explained.get(counter)):
            # A higher number belongs to a group of the same name that is gone.
            numbers -= {number for number in numbers if not kills - KILLS_KEPT < number <= kills}
        return kills

    def take(self, counter: Counter, seen: int) -> bool:
        """Take the oldest kill after the first `seen` ones that explains no death yet; False if there is none."""
        explained = self._explained.setdefault(counter, set())
        number = next((n for n in range(seen + 1, (self.kills(counter) or 0) + 1) if n not in explained), None)
        if number is not None:
            explained.add(number)
        return number is not None

    def words(self, counter: Counter) -> str:
        """Return what a kill that this counter counted means."""
        if not counter.of_group:
            return "out of memory? the kernel's OOM killer ended a process of this machine at that time"
        return verdict_in_words(map(_read, counter.limits), _read(self._proc / "meminfo"))

    def _counters(self, cgroup: str) -> list[Counter]:
        """Return where a process may be counted, from its /proc/PID/cgroup; mostly that of its neighbours, too."""
        if (counters := self._places.get(cgroup)) is None:
            whole = Counter(self._proc / "vmstat", (), of_group=False)
            counters = self._places[cgroup] = [*counters_of(groups_of(cgroup), self._mounts), whole]
        return counters


class OomWatch:
    """Looks at the OOM counter of one living process, and tells after its death by SIGKILL whether that was why.

    Args:
        pid: the process, a child of ours that is not yet collected.
        ledger: the books of the supervisor.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, pid: int, ledger: OomLedger, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid, self._ledger, self._clock = pid, ledger, clock
        self._counter: Counter | None = None
        self._seen = 0  # kills up to this number are not ours: they were counted long before
        self._last = (0.0, 0)  # a later look: when it was and what it saw
        self.look()

    def look(self) -> None:
        """Look again, for the process may have been moved; once it ends, what was seen before stays."""
        if (found := self._ledger.counter(self._pid)) is None:
            return
        counter, kills = found
        now = self._clock()
        if counter != self._counter or kills < self._seen:
            self._counter, self._seen, self._last = counter, kills, (now, kills)
        elif now - self._last[0] >= SETTLE_S:
            self._seen, self._last = self._last[1], (now, kills)

    def verdict(self) -> str | None:
        """Return in words that the OOM killer ended the process; None if the kernel tells nothing of the kind.

        To be asked once, after a death by a SIGKILL that we did not send.
        """
        if self._counter is None or not self._ledger.take(self._counter, self._seen):
            return None
        return self._ledger.words(self._counter)


def _read(path: Path) -> str:
    """Return what a file of the kernel says; nothing if it is missing or gone."""
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""


def _plain(field: str) -> str:
    r"""Undo the escapes of mountinfo: a blank is \040 there."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)


def _below(group: str, root: str) -> str | None:
    """Return the path of a group below the group that is mounted; None if it is outside."""
    inside = Path(group)
    if ".." in inside.parts or not inside.is_relative_to(root):
        return None
    return str(inside.relative_to(root))
