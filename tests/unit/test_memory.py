"""What the kernel's texts about memory and cgroups mean, and which OOM kill explains which death."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spawnpool.memory import (
    SETTLE_S,
    Counter,
    Mount,
    OomLedger,
    OomWatch,
    counters_of,
    groups_of,
    is_ending,
    kills_in,
    mounts_of,
    rss_bytes,
    verdict_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MB = 2**20
MEMINFO = "MemTotal:        4028440 kB\nMemFree:          123456 kB\n"
USED_UP = "out of memory: the kernel's OOM killer, the machine's memory was used up"

V1_CGROUP = (
    "9:name=systemd:/system.slice/jobs.service\n4:memory:/system.slice/jobs.service\n3:cpu,cpuacct:/system.slice\n"
)
V2_CGROUP = "0::/system.slice/jobs.service\n"
HYBRID_CGROUP = V1_CGROUP + "0::/system.slice/jobs.service\n"

V1_MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 master:2 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
"""
V2_MOUNTS = "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_MOUNTS = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n" + V1_MOUNTS

V1_COUNTER = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
V2_COUNTER = "low 0\nhigh 0\nmax 93\noom 4\noom_kill {}\noom_group_kill 1\nsock_throttled 0\n"

STAT = "{pid} (a ) name) {state} 7243 7243 4098 0 -1 {flags} 100 0 0 0 0 0 0 0 20 0 1 0 1191325 3133440 349\n"
LIVING, EXITING = 0x400000, 0x400004


def counter(folder: str, *above: str, version: int = 2) -> Counter:
    """Return the counter of a group, with the limits of the groups above it."""
    file, limit = {1: ("memory.oom_control", "memory.limit_in_bytes"), 2: ("memory.events", "memory.max")}[version]
    return Counter(Path(folder) / file, tuple(Path(each) / limit for each in (folder, *above)), of_group=True)


# -- texts ------------------------------------------------------------------------------------------------------------


def test_the_group_of_each_controller_is_read() -> None:
    """Several controllers share a line, version 2 has no name, a path may hold colons and blanks."""
    assert groups_of(HYBRID_CGROUP) == {
        "name=systemd": "/system.slice/jobs.service",
        "memory": "/system.slice/jobs.service",
        "cpu": "/system.slice",
        "cpuacct": "/system.slice",
        "": "/system.slice/jobs.service",
    }
    assert groups_of("0::/a:b/c d\n") == {"": "/a:b/c d"}
    assert groups_of("") == groups_of("nonsense\n") == {}


def test_the_mounts_that_can_hold_memory_are_read() -> None:
    """Whatever optional fields there are; the other hierarchies of version 1 are passed over."""
    memory = Mount("/sys/fs/cgroup/memory", "/", 1)
    assert mounts_of(V1_MOUNTS) == [memory]
    assert mounts_of(V2_MOUNTS) == [Mount("/sys/fs/cgroup", "/", 2)]
    assert mounts_of(HYBRID_MOUNTS) == [Mount("/sys/fs/cgroup/unified", "/", 2), memory]
    assert mounts_of(r"1 2 0:3 /a\040b /c\134\040d rw - cgroup none rw,blkio,memory") == [Mount(r"/c\ d", "/a b", 1)]
    assert mounts_of("") == mounts_of("1 2\n\n - cgroup2\n") == []


def test_version_1_has_one_counter_and_every_limit_above() -> None:
    """The group's own; the limits of the groups above hold for it, too."""
    top = "/sys/fs/cgroup/memory"
    found = list(counters_of(groups_of(V1_CGROUP), mounts_of(V1_MOUNTS)))
    assert found == [counter(f"{top}/system.slice/jobs.service", f"{top}/system.slice", top, version=1)]


def test_version_2_is_counted_in_the_nearest_group_that_has_the_controller() -> None:
    """Its files exist only there: every group above is a possibility, and nothing above the mount."""
    top, middle, own = "/sys/fs/cgroup", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/system.slice/jobs.service"
    found = list(counters_of(groups_of(V2_CGROUP), mounts_of(V2_MOUNTS)))
    assert found == [counter(own, middle, top), counter(middle, top), counter(top)]


def test_on_a_hybrid_machine_version_1_comes_first() -> None:
    """The memory controller is in one of the two; where version 1 has none, version 2 has it."""
    first, second, *_ = counters_of(groups_of(HYBRID_CGROUP), mounts_of(HYBRID_MOUNTS))
    assert str(first.file) == "/sys/fs/cgroup/memory/system.slice/jobs.service/memory.oom_control"
    assert str(second.file) == "/sys/fs/cgroup/unified/system.slice/jobs.service/memory.events"
    without = HYBRID_MOUNTS.replace("rw,memory", "rw,pids")
    assert next(counters_of(groups_of(HYBRID_CGROUP), mounts_of(without))) == second


@pytest.mark.parametrize(
    ("group", "root", "folder"),
    [
        ("/", "/", "/m"),  # a container with a cgroup namespace of its own
        ("/box/1", "/box/1", "/m"),  # one without: it sees its group's path and a mount of that group
        ("/box/1/w", "/box/1", "/m/w"),
        ("/box/12", "/box/1", None),  # another container's
        ("/../other", "/", None),  # outside of the namespace
        ("/box", "/..", None),
    ],
)
def test_a_container_may_see_a_part_of_the_hierarchy(group: str, root: str, folder: str | None) -> None:
    """The path below the mount is what is left of the group's path behind the mount's root."""
    found = next(counters_of({"memory": group}, [Mount("/m", root, 1)]), None)
    assert (found and str(found.file.parent)) == folder


def test_kills_are_read_from_every_kind_of_counter() -> None:
    """Never from a line that only begins or ends alike."""
    assert kills_in(V1_COUNTER.format(3)) == 3
    assert kills_in(V2_COUNTER.format(17)) == 17
    assert kills_in("nr_free_pages 1\noom_kill 5\n") == 5
    assert kills_in("oom_kill_disable 0\nunder_oom 0\n") is None  # Linux before 4.13
    assert kills_in("oom_group_kill 1\n") is None
    assert kills_in("") is None


@pytest.mark.parametrize(
    ("limits", "meminfo", "words"),
    [
        (["max\n", f"{100 * MB}\n", f"{200 * MB}\n"], MEMINFO, "limit 100 MB of its cgroup"),
        ([f"{3 << 30}"], MEMINFO, "limit 3072 MB of its cgroup"),
        ([f"{100 * MB}"], "", "limit 100 MB of its cgroup"),
        (["9223372036854771712\n"], MEMINFO, "the machine's memory was used up"),
        (["max\n", ""], MEMINFO, "the machine's memory was used up"),
        ([], "", "the machine's memory was used up"),
    ],
)
def test_the_verdict_names_the_narrowest_limit(limits: Sequence[str], meminfo: str, words: str) -> None:
    """Unless there is none below what the machine has."""
    assert verdict_in_words(limits, meminfo) == f"out of memory: the kernel's OOM killer, {words}"


def test_a_process_that_begins_to_end_is_told_from_a_living_one() -> None:
    """By its flag: it may take long until it is a zombie, and version 1 names a wrong group meanwhile."""
    assert not is_ending(STAT.format(pid=7, state="R", flags=LIVING))
    assert not is_ending(STAT.format(pid=7, state="T", flags=LIVING))
    assert is_ending(STAT.format(pid=7, state="R", flags=EXITING))
    assert is_ending(STAT.format(pid=7, state="Z", flags=LIVING))
    assert is_ending("")


def test_who_is_gone_has_no_resident_memory() -> None:
    """And no such pid can be."""
    assert rss_bytes(1 << 22) is None
    assert (rss_bytes(os.getpid()) or 0) > MB


# -- the books, on a kernel of files ----------------------------------------------------------------------------------


class Kernel:
    """The files of a kernel of version 1 or 2, in a folder, and a clock."""

    def __init__(self, folder: Path, version: int) -> None:
        self.version, self.now = version, 1000.0
        self.proc, self.top = folder / "proc", folder / "cgroup"
        kind = "cgroup cgroup rw,memory" if version == 1 else "cgroup2 cgroup2 rw"
        self.write(self.proc / "self/mountinfo", f"35 31 0:32 / {self.top} rw - {kind}\n")
        self.write(self.proc / "meminfo", MEMINFO)
        self.write(self.proc / "vmstat", "oom_kill 0\n")
        self.group("jobs", 0)
        self.ledger = OomLedger(self.proc)

    def write(self, path: Path, text: str) -> None:
        """Let a file say something."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, name: str, kills: int, limit: str = str(100 * MB)) -> None:
        """Make a group, or change what it has counted."""
        file, text = {1: ("memory.oom_control", V1_COUNTER), 2: ("memory.events", V2_COUNTER)}[self.version]
        self.write(self.top / name / file, text.format(kills))
        self.write(self.top / name / {1: "memory.limit_in_bytes", 2: "memory.max"}[self.version], limit)

    def process(self, pid: int, group: str, state: str = "S", flags: int = LIVING) -> None:
        """Make a process, or change where and how it is."""
        line = f"4:memory:{group}\n" if self.version == 1 else f"0::{group}\n"
        self.write(self.proc / str(pid) / "cgroup", line)
        self.write(self.proc / str(pid) / "stat", STAT.format(pid=pid, state=state, flags=flags))

    def watch(self, pid: int, group: str = "/jobs") -> OomWatch:
        """Watch a new process."""
        self.process(pid, group)
        return OomWatch(pid, self.ledger, lambda: self.now)

    def settle(self, *watches: OomWatch) -> None:
        """Let so much time go by, with looks, that everything counted before is past."""
        for _ in range(3):
            for watch in watches:
                watch.look()
            self.now += SETTLE_S


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Kernel:
    """A kernel with one group, of 100 MB, that has counted nothing."""
    return Kernel(tmp_path, request.param)


LIMIT_100 = "out of memory: the kernel's OOM killer, limit 100 MB of its cgroup"


def test_fault_18_a_kill_that_was_counted_explains_a_death(kernel: Kernel) -> None:
    """And without one there is nothing to tell."""
    watch = kernel.watch(7)
    assert watch.verdict() is None
    kernel.group("jobs", 1)
    assert watch.verdict() == LIMIT_100


def test_kills_of_former_times_explain_nothing(kernel: Kernel) -> None:
    """Neither those before the process was there, nor those it has long survived."""
    kernel.group("jobs", 5)
    watch = kernel.watch(7)
    assert watch.verdict() is None
    kernel.group("jobs", 6)
    kernel.settle(watch)
    assert watch.verdict() is None


def test_a_kill_just_before_the_last_look_is_still_in_play(kernel: Kernel) -> None:
    """It is counted before the signal is sent, and dying takes its time; the process looks alive meanwhile."""
    watch = kernel.watch(7)
    kernel.settle(watch)
    kernel.group("jobs", 1)
    for _ in range(10):
        watch.look()
        kernel.now += SETTLE_S / 20
    assert watch.verdict() == LIMIT_100


def test_one_kill_explains_one_death(kernel: Kernel) -> None:
    """Of two that died, one was killed by somebody else; of three with three kills, all were of the kernel."""
    watches = [kernel.watch(pid) for pid in (7, 8)]
    kernel.group("jobs", 1)
    assert [watch.verdict() for watch in watches] == [LIMIT_100, None]
    watches = [kernel.watch(pid) for pid in (9, 10, 11)]
    kernel.group("jobs", 4)  # memory.oom.group kills all at once
    assert [watch.verdict() for watch in watches] == [LIMIT_100] * 3
    assert kernel.watch(12).verdict() is None


def test_the_looks_of_one_do_not_hide_the_kill_of_another(kernel: Kernel) -> None:
    """Nor does it matter who is asked about first."""
    victim = kernel.watch(7)
    kernel.settle(victim)
    kernel.group("jobs", 1)
    late = kernel.watch(8)
    kernel.group("jobs", 2)
    assert late.verdict() == LIMIT_100
    assert victim.verdict() == LIMIT_100


@pytest.mark.parametrize(("state", "flags"), [("Z", EXITING), ("R", EXITING), ("Z", LIVING)])
def test_what_a_dying_process_says_of_its_group_is_not_believed(kernel: Kernel, state: str, flags: int) -> None:
    """On version 1 it says "/" from the moment it begins to end."""
    kernel.group("", 0)
    watch = kernel.watch(7)
    kernel.group("jobs", 1)
    kernel.process(7, "/", state, flags)
    kernel.settle(watch)
    assert watch.verdict() == LIMIT_100


def test_a_process_that_was_moved_is_followed(kernel: Kernel) -> None:
    """The new group's counter counts from the first look at it."""
    watch = kernel.watch(7)
    kernel.group("other", 3, str(200 * MB))
    kernel.process(7, "/other")
    watch.look()
    kernel.group("jobs", 1)
    assert watch.verdict() is None
    kernel.group("other", 4, str(200 * MB))
    assert watch.verdict() == "out of memory: the kernel's OOM killer, limit 200 MB of its cgroup"


def test_a_new_group_of_an_old_name_starts_anew(kernel: Kernel) -> None:
    """Its first kill is not the one that was explained before."""
    watch = kernel.watch(7)
    kernel.group("jobs", 1)
    assert watch.verdict() == LIMIT_100
    kernel.group("jobs", 0)
    watch = kernel.watch(8)
    kernel.group("jobs", 1)
    assert watch.verdict() == LIMIT_100


def test_a_counter_that_starts_anew_under_a_living_process_is_followed(kernel: Kernel) -> None:
    """Its numbers are lower than what was seen."""
    kernel.group("jobs", 9)
    watch = kernel.watch(7)
    kernel.group("jobs", 0)
    watch.look()
    kernel.group("jobs", 1)
    assert watch.verdict() == LIMIT_100


def test_without_a_group_that_counts_the_machine_is_asked(kernel: Kernel) -> None:
    """It counts for every process there is, hence the question mark."""
    watch = kernel.watch(7, "/unknown/group")
    assert watch.verdict() is None
    (kernel.proc / "vmstat").write_text("pgfault 1\noom_kill 1\n")
    assert watch.verdict() == "out of memory? the kernel's OOM killer ended a process of this machine at that time"


def test_where_the_kernel_tells_nothing_there_is_no_verdict(tmp_path: Path) -> None:
    """A container may show neither groups nor counters, a process may be gone before the first look."""
    watch = OomWatch(7, OomLedger(tmp_path))
    watch.look()
    assert watch.verdict() is None


def test_version_2_walks_up_to_the_group_with_the_controller(tmp_path: Path) -> None:
    """A session without a controller of its own is counted in the slice above."""
    kernel = Kernel(tmp_path, 2)
    (kernel.top / "jobs/inner/most").mkdir(parents=True)
    watch = kernel.watch(7, "/jobs/inner/most")
    kernel.group("jobs", 1, "max")
    assert watch.verdict() == USED_UP
