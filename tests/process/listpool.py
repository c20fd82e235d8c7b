"""A pool whose work is a list in memory: its `Runner`; `program` runs a `Supervisor` on that and on a `ListSource`.

The program finds everything in the folder `LISTPOOL_DIR`: `config.json` to start with, `inbox`, a FIFO that new keys
are written to, `boot.json`, the "code" that a worker boots with, and `journal`, a line for everything that happened.
A file `down` makes the source unavailable, `cancelled` names keys that are cancelled, `paused` feeds that are paused,
and `bounds.json` says what every key may use. What a key does is encoded in it: see `Does` and `key`; its feed is what
it does.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spawnpool import worker
from spawnpool.bounds import NO_BOUNDS, Bounds
from spawnpool.pools import Pool
from spawnpool.source import REST_INTERVAL_S
from tests.process import deeds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spawnpool.bounds import Interrupt
    from spawnpool.source import Reports

TOLD = {"LISTPOOL_DIR", "NOTIFY_SOCKET", "WATCHDOG_USEC"}
"""The variables of which a worker tells whether it has them."""
_serials = itertools.count(1)


class Does(IntEnum):
    """What running a key does; those marked * do it on the first attempt only."""

    NOOP = 1
    SLEEP = 2  # for arg milliseconds
    KILL = 3  # sends itself signal arg
    EXIT = 4  # os._exit(arg)
    CLOSE_ALL = 5  # closes every descriptor, then opens and writes files
    FORK_RETURN = 6  # forks, and both come back
    FORK_SLEEPER = 7  # leaves a forked grandchild that sleeps arg milliseconds
    SHELL_SLEEPER = 8  # leaves `sleep` behind, with every inheritable descriptor
    GARBAGE = 9  # writes on the lane: 0 noise, 1 half a report, 2 a report that cannot be
    LIST_FDS = 10  # writes the descriptors that a child process gets
    DEAF = 11  # ignores SIGTERM and SIGABRT and goes on for a minute
    KILL_BEFORE_START = 12  # * is killed when it has the keys and has begun none
    KILL_BEFORE_RECORD = 13  # * is killed after it ran and before that was recorded
    KILL_AFTER_RECORD = 14  # * is killed after it was recorded and before that was reported
    EXIT_AFTER_SETTLED = 15  # ends at once after the report
    CHILD_TERM = 16  # writes how a child process ends that gets SIGTERM
    GROW = 17  # takes arg MB of memory and keeps them
    HOLD_GIL = 18  # stays in C, where no handler of a signal can run
    BLOCK = 19  # blocks every signal that can be blocked and goes on for a minute
    FORGET_USR1 = 20  # takes the handler of SIGUSR1 away, says so and goes on for a minute
    ABORT_CHILD = 21  # forks a child that dies of SIGABRT


def key(does: Does, arg: int = 0) -> int:
    """Return a new key that does that."""
    return (does * 100_000 + arg) * 10_000 + next(_serials)


def feed_of(pk: int) -> str:
    """Return the feed of a key: what it does."""
    return Does(pk // 10_000 // 100_000).name.lower()


class Journal:
    """Lines of JSON, each written at once by whoever has something to tell.

    Args:
        directory: where the file is.
        keep: keep it open; else it is opened for each line, since a job may close what is open.
    """

    def __init__(self, directory: Path, *, keep: bool = False) -> None:
        self.path = directory / "journal"
        self._kept = self._open() if keep else None

    def tell(self, what: str, *details: object) -> None:
        """Append one line."""
        line = json.dumps([what, os.getpid(), time.monotonic(), *details]) + "\n"
        fd = self._open() if self._kept is None else self._kept
        os.write(fd, line.encode())
        if self._kept is None:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def done(self) -> set[int]:
        """Return the keys whose outcome is recorded."""
        return {entry[3] for entry in entries_of(self.path) if entry[0] == "done"}


def entries_of(journal: Path) -> list[list[Any]]:
    """Return the lines of a journal: what, pid, time, details; without one that is just being written."""
    whole = journal.read_text().rpartition("\n")[0] if journal.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


class ListRunner:
    """Runs keys as `Does` says; boots as `boot.json` says."""

    def __init__(self, number: int, reports: Reports, run: int) -> None:
        assert run == 42
        self._directory = Path(os.environ["LISTPOOL_DIR"])
        self._journal = Journal(self._directory)
        self._reports = reports
        self._kept: list[int] = []
        self._left = ""
        self._open = False
        self._kept_memory: list[bytearray] = []
        self._journal.tell("boot", number, sorted(TOLD & {*os.environ}), "only_in_the_parent" in sys.modules)
        code = self._directory / "boot.json"
        self._code: dict[str, Any] = json.loads(code.read_text()) if code.exists() else {}
        if "fail" in self._code:
            raise ImportError(self._code["fail"])
        if "exit" in self._code:
            os._exit(self._code["exit"])
        vars(worker)["REST_INTERVAL_S"] = self._code.get("rest_interval_s", REST_INTERVAL_S)
        self._hang(self._code.get("sleep_s", 0))

    def _hang(self, seconds: float) -> None:
        time.sleep(seconds)

    def limits(self) -> Mapping[str, float]:
        """Return what the settings say."""
        limits: dict[str, float] = self._code.get("limits", {})
        return limits

    def pools(self) -> Sequence[Pool]:
        """Return what the settings say."""
        return [Pool(**values) for values in self._code.get("pools", ())]

    def flaws(self) -> Sequence[str]:
        """Return what the code says."""
        flaws: list[str] = self._code.get("flaws", [])
        return flaws

    def load(self, pks: Sequence[int]) -> None:
        """Have the keys in hand."""
        if self._now(pks[0], Does.KILL_BEFORE_START):
            os.kill(os.getpid(), signal.SIGKILL)

    def describe(self, pk: int) -> str:
        """Return the title."""
        return f"key {pk}"

    def run(self, pk: int) -> None:
        """Do what the key says."""
        self._journal.tell("start", pk)
        does, arg = divmod(pk // 10_000, 100_000)
        try:
            self._open = True
            if job := JOBS.get(Does(does)):
                job(self, arg)
        except deeds.Interrupted as interrupted:
            self._journal.tell("interrupted", pk, str(interrupted))
        finally:
            self._open = False
        self._kept.append(pk)

    def bounds(self, pk: int) -> Bounds:
        """Return the limits that the file `bounds.json` says."""
        file = self._directory / "bounds.json"
        return Bounds(**json.loads(file.read_text())) if file.exists() else NO_BOUNDS

    def interrupt(self, why: Interrupt) -> None:
        """Raise in the job that is running."""
        if self._open:
            raise deeds.Interrupted(why.name)

    def log_reopened(self) -> None:
        """Note it."""
        self._journal.tell("log reopened")

    def tidy(self) -> None:
        """Nothing is restored here."""

    def must_flush(self, *, more: bool) -> bool:
        """Record in batches."""
        return not more or len(self._kept) >= 3 or bool(self._left)

    def flush(self) -> str:
        """Record, then report; with the points at which it may be killed. Say what a job left behind."""
        if not self._kept:
            return self._left
        kept, self._kept = self._kept, []
        if any(self._now(pk, Does.KILL_BEFORE_RECORD) for pk in kept):
            os.kill(os.getpid(), signal.SIGKILL)
        for pk in kept:
            self._journal.tell("done", pk)
        if any(self._now(pk, Does.KILL_AFTER_RECORD) for pk in kept):
            os.kill(os.getpid(), signal.SIGKILL)
        self._reports.settled(kept[-1])
        if any(self._now(pk, Does.EXIT_AFTER_SETTLED) for pk in kept):
            os._exit(0)
        return self._left

    def rest(self, idle_s: float) -> None:
        """Nothing to let go of."""

    def close(self) -> None:
        """Record what is kept."""
        self.flush()

    def _now(self, pk: int, does: Does) -> bool:
        """Tell whether a key does this and does it for the first time."""
        if pk // 10_000 // 100_000 != does:
            return False
        marker = self._directory / f"did-{pk}"
        first = not marker.exists()
        marker.touch()
        return first

    def close_all(self, _arg: int) -> None:
        """Close the lanes, too, and write into files that get their numbers."""
        os.closerange(3, 1000)
        for n in range(8):
            fd = os.open(self._directory / f"precious-{n}", os.O_RDWR | os.O_CREAT, 0o600)
            os.write(fd, b"precious")

    def garbage(self, arg: int) -> None:
        """Write on the lane as a job might that found its number."""
        noise = (b"\xff" * 100, b"\x01\x03", b"\x01\x03\0\0" + b"\x07" * 12)[arg]
        os.write(self._reports._lane.fds()[1], noise)  # type: ignore[attr-defined]

    def list_fds(self, _arg: int) -> None:
        """Write down what a child process finds open."""
        seen = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, check=True)
        (self._directory / "fds").write_bytes(seen.stdout)

    def child_term(self, _arg: int) -> None:
        """Write down whether a child process dies of SIGTERM, as any should."""
        child = subprocess.Popen(["sleep", "60"], restore_signals=False)
        child.terminate()
        (self._directory / "child").write_text(f"{child.wait(20)}")


JOBS: dict[Does, Callable[[ListRunner, int], object]] = {
    Does.SLEEP: lambda runner, arg: time.sleep(arg / 1000),
    Does.KILL: lambda runner, arg: os.kill(os.getpid(), arg),
    Does.EXIT: lambda runner, arg: os._exit(arg),
    Does.CLOSE_ALL: ListRunner.close_all,
    Does.FORK_RETURN: lambda runner, arg: os.fork(),
    Does.FORK_SLEEPER: lambda runner, arg: deeds.leave_forked_sleeper(arg),
    Does.SHELL_SLEEPER: lambda runner, arg: os.system(f"sleep {arg / 1000} &"),
    Does.GARBAGE: ListRunner.garbage,
    Does.LIST_FDS: ListRunner.list_fds,
    Does.DEAF: lambda runner, arg: deeds.be_deaf(),
    Does.CHILD_TERM: ListRunner.child_term,
    Does.GROW: lambda runner, arg: runner._kept_memory.append(bytearray(arg << 20)),
    Does.HOLD_GIL: lambda runner, arg: sum(range(10**13)),
    Does.BLOCK: lambda runner, arg: deeds.block_signals(),
    Does.FORGET_USR1: lambda runner, arg: deeds.forget_usr1(runner._directory / "forgot"),
    Does.ABORT_CHILD: lambda runner, arg: deeds.abort_child(),
}
