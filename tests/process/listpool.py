"""A pool whose work is a list in memory: a `Source` and a `Runner`; `program` runs a `Supervisor` on them.

The program finds everything in the folder `LISTPOOL_DIR`: `config.json` to start with, `inbox`, a FIFO that new keys
are written to, `boot.json`, the "code" that a worker boots with, and `journal`, a line for everything that happened.
A file `down` makes the source unavailable, `cancelled` names keys that are cancelled, and `bounds.json` says what every
key may use. What a key does is encoded in it: see `Does` and `key`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spawnpool import worker
from spawnpool.bounds import NO_BOUNDS, Bounds
from spawnpool.errors import SourceUnavailable
from spawnpool.source import REST_INTERVAL_S
from spawnpool.states import Ended
from tests.process import deeds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from spawnpool.bounds import Interrupt
    from spawnpool.source import Loss, Reports, Running

MAX_ATTEMPTS = 3
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
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return {entry[3] for entry in map(json.loads, lines) if entry[0] == "done"}


class ListSource:
    """Work in a list, fed through a FIFO; a lost key is tried again until its attempts are used up.

    An attempt counts when the job was running and no stop cut it short; one that broke its limits was the last.
    """

    def __init__(self, directory: Path, keys: Sequence[int]) -> None:
        self._directory = directory
        self._journal = Journal(directory, keep=True)
        self._keys = deque(keys)
        self._claimed: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._heard = False
        self._inbox = os.open(directory / "inbox", os.O_RDWR | os.O_NONBLOCK)

    def _reach(self) -> None:
        if (self._directory / "down").exists():
            raise SourceUnavailable("the list is away")

    def open(self) -> Sequence[int]:
        """Begin; the integer shows that integers reach the runner."""
        self._reach()
        self._journal.tell("open")
        return (42,)

    def claim(self, limit: int) -> Sequence[int]:
        """Hand keys out."""
        self._reach()
        pks = [self._keys.popleft() for _ in range(min(limit, len(self._keys)))]
        if not pks and (news := self._directory / "news_while_asked").exists():
            news.unlink()
            self._hear_while_asked()
        self._claimed.update(pks)
        self._journal.tell("claim", pks)
        if pks and (lost := self._directory / "lose_the_answer").exists():
            lost.unlink()
            raise SourceUnavailable("the list took the claim, and its answer was lost")
        return pks

    def _hear_while_asked(self) -> None:
        """Take in the next keys within the answer to a claim, as a database's driver does with notifications."""
        while not self._heard:
            self._keys.extend(map(int, self._read_inbox().split()))
            self._heard = bool(self._keys)

    def _read_inbox(self) -> bytes:
        try:
            return os.read(self._inbox, 65536)
        except BlockingIOError:
            return b""

    def strays(self, holding: Collection[int]) -> Sequence[int]:
        """Return what was handed out and never arrived."""
        self._reach()
        pks = sorted(self._claimed - self._journal.done() - set(holding))
        self._journal.tell("strays", pks)
        return pks

    def release(self, pks: Sequence[int]) -> None:
        """Take unstarted keys back, uncounted."""
        self._reach()
        self._journal.tell("release", list(pks))
        assert self._claimed.issuperset(pks), f"{pks} are released and not claimed"
        self._claimed.difference_update(pks)
        self._keys.extendleft(reversed(pks))

    def running(self, mark: Running) -> None:
        """Note what runs for long."""
        self._journal.tell("running", mark.pk, mark.pid, mark.for_s)

    def lost(self, losses: Sequence[Loss]) -> Mapping[int, str]:
        """Account for keys that were begun and not settled."""
        self._reach()
        for loss in losses:
            assert loss.pk in self._claimed, f"{loss.pk} is lost and not claimed"
            self._claimed.remove(loss.pk)
            counts = loss.ended is not Ended.STOPPED and loss.ran_s is not None
            self._attempts[loss.pk] = self._attempts.get(loss.pk, 0) + counts
            done = loss.pk in self._journal.done()
            again = not done and not loss.ended.by_a_limit and self._attempts[loss.pk] < MAX_ATTEMPTS
            if again:
                self._keys.append(loss.pk)
            fate = "done" if done else "again" if again else "failed"
            self._journal.tell("account", loss.pk, loss.tell(f"key {loss.pk}"))
            self._journal.tell("lost", loss.pk, loss.words, loss.ran_s, loss.ended.value, loss.pid, fate)
        return {loss.pk: f"key {loss.pk}" for loss in losses}

    def beat(self, state: str) -> None:
        """Note that the supervisor lives."""
        self._reach()
        self._journal.tell("beat", state)

    def cancelled(self) -> Sequence[int]:
        """Return the keys that were written to the file `cancelled` since the last look."""
        file = self._directory / "cancelled"
        if not file.exists():
            return ()
        pks = [int(line) for line in file.read_text().split()]
        file.unlink()
        self._journal.tell("cancelled", pks)
        return pks

    def backlog(self) -> int:
        """Return how many keys wait."""
        return len(self._keys)

    def next_due_s(self) -> None:
        """Nothing waits for its time here."""

    def is_empty(self) -> bool:
        """Nothing waits and everything that was claimed is recorded."""
        return not self._keys and self._claimed <= self._journal.done()

    def wakeup_fd(self) -> int | None:
        """Return the FIFO."""
        return self._inbox

    def woken(self) -> bool:
        """Take in the keys that were written to the FIFO."""
        data, heard, self._heard = self._read_inbox(), self._heard, False
        self._keys.extend(map(int, data.split()))
        return heard or bool(data)

    def before_check(self) -> None:
        """Note that everything would be closed now."""
        self._journal.tell("before_check")

    def close(self, *, finished: bool) -> None:
        """End."""
        self._journal.tell("close", finished)
        os.close(self._inbox)


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
