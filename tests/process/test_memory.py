"""What the kernel really tells: memory that grows, kills for want of memory, and kills that only look alike."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spawnpool.memory import OomLedger, OomWatch, rss_bytes
from tests.cage import MemoryCage, need_cage
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 2**20
LIMIT_MB = 32
EATER = """
import sys
eaten = []
for line in sys.stdin:
    eaten.append(bytearray(int(line) << 20))
    print(len(eaten), flush=True)
"""
WORDS = f"out of memory: the kernel's OOM killer, limit {LIMIT_MB} MB of its cgroup"


class Eater:
    """A process that takes memory when it is told to."""

    def __init__(self) -> None:
        command = [sys.executable, "-S", "-c", EATER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid = self.process.pid
        self.eat(0)

    def eat(self, megabytes: int) -> str:
        """Take so much more, and return its answer: empty when it died of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{megabytes}\n")
        return self.process.stdout.readline()


@contextmanager
def eaters(count: int = 1) -> Iterator[list[Eater]]:
    """Have some of them for a while."""
    started = [Eater() for _ in range(count)]
    try:
        yield started
    finally:
        for each in started:
            each.process.kill()
            each.process.communicate()


def killed(eater: Eater) -> None:
    """It ended by SIGKILL, whoever sent it."""
    assert eventually(eater.process.poll, 60, "the end of the process") == -signal.SIGKILL


def test_resident_memory_grows_with_what_is_taken() -> None:
    """In bytes; nothing is left when the process is a zombie, nor when it is gone."""
    with eaters() as (eater,):
        before = rss_bytes(eater.pid) or 0
        eater.eat(64)
        assert 60 * MB < (rss_bytes(eater.pid) or 0) - before < 80 * MB
        eater.process.kill()
        eventually(lambda: rss_bytes(eater.pid) is None, 60, "the end of its memory")
        killed(eater)
        assert rss_bytes(eater.pid) is None


def test_fault_18_y7_a_kill_for_want_of_memory_is_told_in_words() -> None:
    """Seen by the supervisor after the process is collected; it itself and a neighbour live on."""
    need_cage()
    ledger = OomLedger()
    with eaters(2) as (eater, neighbour), MemoryCage(LIMIT_MB * MB) as cage:
        cage.add(eater.pid)
        watch, other = OomWatch(eater.pid, ledger), OomWatch(neighbour.pid, ledger)
        assert eater.eat(3 * LIMIT_MB) == ""
        killed(eater)
        watch.look()  # of a process that is gone: changes nothing
        assert cage.oom_kills() == 1
        assert watch.verdict() == WORDS
        assert neighbour.eat(3 * LIMIT_MB) != ""
        assert other.verdict() is None


def test_fault_18_a_look_while_it_dies_does_not_hide_the_kill() -> None:
    """A zombie's group is "/" on version 1: neither group nor counter of that are believed."""
    need_cage()
    with eaters() as (eater,), MemoryCage(LIMIT_MB * MB) as cage:
        cage.add(eater.pid)
        watch = OomWatch(eater.pid, OomLedger())
        assert eater.eat(3 * LIMIT_MB) == ""
        eventually(lambda: rss_bytes(eater.pid) is None, 60, "a zombie")
        watch.look()
        killed(eater)
        assert watch.verdict() == WORDS


def test_fault_18_one_real_kill_explains_one_death() -> None:
    """A plain kill -9 beside it, in the same group and at the same time, is told from nothing but the count."""
    need_cage()
    ledger = OomLedger()
    with eaters(3) as (hog, *others), MemoryCage(LIMIT_MB * MB) as cage:
        watches = []
        for eater in (hog, *others):
            cage.add(eater.pid)
            watches.append(OomWatch(eater.pid, ledger))
        assert hog.eat(3 * LIMIT_MB) == ""
        killed(hog)
        assert cage.oom_kills() == 1
        for eater in others:
            eater.process.kill()
            killed(eater)
        assert [watch.verdict() for watch in watches] == [WORDS, None, None]


def test_a_plain_kill_is_no_want_of_memory() -> None:
    """In a cage and outside of one."""
    with eaters() as (eater,):
        watch = OomWatch(eater.pid, OomLedger())
        eater.process.kill()
        killed(eater)
        assert watch.verdict() is None
    need_cage()
    with eaters() as (eater,), MemoryCage(LIMIT_MB * MB) as cage:
        cage.add(eater.pid)
        watch = OomWatch(eater.pid, OomLedger())
        eater.process.kill()
        killed(eater)
        assert watch.verdict() is None


def test_who_is_moved_is_followed_by_the_next_look() -> None:
    """An operator or systemd may give a living worker another group."""
    need_cage()
    with eaters() as (eater,), MemoryCage(2 * LIMIT_MB * MB) as wide, MemoryCage(LIMIT_MB * MB) as narrow:
        wide.add(eater.pid)
        watch = OomWatch(eater.pid, OomLedger())
        narrow.add(eater.pid)
        watch.look()
        assert eater.eat(3 * LIMIT_MB) == ""
        killed(eater)
        assert (wide.oom_kills(), narrow.oom_kills()) == (0, 1)
        assert watch.verdict() == WORDS
