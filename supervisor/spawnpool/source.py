"""The seam between the process side and whoever owns the work: two small protocols and the facts they exchange.

`Source` lives in the supervisor, `Runner` in each worker. Both speak of work as integers only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spawnpool.bounds import Bounds, Interrupt
from spawnpool.card import where_of
from spawnpool.pools import Pool, who
from spawnpool.states import Ended


@dataclass(frozen=True, slots=True)
class Loss:
    """A key whose worker ended before the key was settled.

    Args:
        pk: the key.
        worker: the worker's number in its pool.
        pid: the worker's process id.
        words: what happened to the worker, e.g. "was killed by SIGKILL".
        ran_s: how long the job had run, in seconds; None if it had returned.
        ended: whose doing it was.
        peak_bytes: the worker's peak resident memory, in bytes, if it is known.
        why: what the supervisor ended the worker for, if it did, e.g. "used 612 MB, limit 512 MB".
        stack: where the worker was in Python, most recent call first, if it could say so.
        pool: the worker's pool; "" where there is only one.
    """

    pk: int
    worker: int
    pid: int
    words: str
    ran_s: float | None
    ended: Ended
    peak_bytes: int | None = None
    why: str = ""
    stack: str = ""
    pool: str = ""

    def who(self) -> str:
        """Return which worker ended, and how."""
        return f"{who(self.worker, self.pid, self.pool)} {self.words}{self.ended.by_whom}"

    def tell(self, job: str) -> str:
        """Return the account as one sentence.

        Args:
            job: how the job is called, e.g. "job 77 demo.tasks.analyse, attempt 1 of 3".
        """
        who = self.who()
        if self.ran_s is None:
            what = f"after it had run {job}, before that was recorded"
        else:
            what = f"while running {job}, after {self.ran_s:.1f} s"
        memory = "" if self.peak_bytes is None else f", peak memory {self.peak_bytes / 2**20:.0f} MB"
        # Nobody tells who sent a SIGKILL; when it was not us, it mostly was the kernel for want of memory.
        killed = self.ended is Ended.DIED and self.words.endswith("SIGKILL")
        why = f": {self.why}" if self.why else "; out of memory?" if killed else ""
        return f"{who} {what}{memory}{why}{where_of(self.stack)}"


@dataclass(frozen=True, slots=True)
class Running:
    """A key that has been running for a while: worth writing down.

    Args:
        pk: the key.
        worker: the number of the worker that runs it.
        pid: that worker's process id.
        for_s: for how long it has been running, in seconds.
    """

    pk: int
    worker: int
    pid: int
    for_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim took.

    Args:
        pks: the keys, best first.
        feeds: the feed of each key whose feed has a limit in the pool that asked.
    """

    pks: Sequence[int]
    feeds: Mapping[int, str] = field(default_factory=dict)


class Source(Protocol):
    """Where the supervisor gets its work and leaves its facts; every call is short and may raise SourceUnavailable."""

    @property
    def title(self) -> str:
        """What it is called in sentences, e.g. "the database 'default'"."""

    def open(self) -> Sequence[int]:
        """Begin this run and return the integers that each worker's runner is started with.

        Called again when this run was declared over: then it begins a new one.

        Raises:
            SourceUnavailable: waiting may help.
            SourceRefused: it will not.
        """

    def serve(self, pools: Sequence[Pool]) -> None:
        """Learn which pools there are; called before `open`, and again when a reload changed them."""

    def claim(self, limit: int, pool: str, rooms: Mapping[str, int]) -> Taken:
        """Take keys into this run's possession, never one of a feed that is paused.

        Args:
            limit: how many at most.
            pool: the name of the pool that they are for.
            rooms: how many at most of each feed that has a limit there.
        """

    def strays(self, holding: Collection[int]) -> Sequence[int]:
        """Return the keys that this run owns by the source's books and that are not among those it is `holding`.

        Asked after a claim that failed: it may have been made, and only its answer lost.
        """

    def release(self, pks: Sequence[int]) -> None:
        """Give back keys that were claimed but never started; they count as never claimed."""

    def running(self, mark: Running) -> None:
        """Write down that a key has been running for a while."""

    def cancelled(self) -> Sequence[int]:
        """Return the keys of this run whose cancellation was asked for since this was last told.

        Called about once a second while anything runs and whenever the supervisor is woken; may look less often.
        """

    def paused(self) -> Sequence[int]:
        """Return the keys of this run whose feed is paused, if that was told since the last call; called likewise."""

    def lost(self, losses: Sequence[Loss]) -> Mapping[int, str]:
        """Account for keys whose worker ended; return how to call each in a log line, e.g. "job 77 demo.analyse"."""

    def backlog(self) -> int | None:
        """Return about how many keys are ready to be claimed, for show; None if that is not worth asking for now."""

    def beat(self, state: str) -> None:
        """Say that this run is alive.

        Raises:
            RunOver: somebody else declared this run dead.
        """

    def recover(self) -> None:
        """Take over what dead runs of others left behind; called after each beat."""

    def next_due_s(self) -> float | None:
        """Return in how many seconds the next key that waits for its time is due, None if there is none."""

    def is_empty(self) -> bool:
        """Tell whether nothing is waiting, running or going to be tried again soon."""

    def wakeup_fd(self) -> int | None:
        """Return a descriptor that becomes readable when there may be new work, None where there is no such thing.

        One that is there no more after `before_check` has the supervisor claim, and so connect, at once.
        """

    def woken(self) -> bool:
        """Tell, cheaply and without waiting, whether there may be new work since the last call."""

    def before_check(self) -> None:
        """Close every connection of this process: the children are about to be looked at or spawned."""

    def close(self, *, finished: bool) -> None:
        """End this run; `finished` tells that no worker is left and nothing is owed."""


class Reports(Protocol):
    """What a runner may say to the supervisor while it works."""

    def settled(self, pk: int) -> None:
        """Say that every key up to and including `pk`, in the order of the lane, has its outcome recorded."""

    def alive(self) -> None:
        """Say that this worker is well, where it may take long though no key runs; cheap."""

    def asked_to_end(self) -> bool:
        """Tell whether the key that is running was asked to end, since it was cancelled."""

    def note_crashes(self) -> None:
        """Have crashes leave their Python stacks with the supervisor; again, when a job has switched that off."""


class Runner(Protocol):
    """What a worker does with its keys; made once per worker by the factory that the pool's spec names."""

    def limits(self) -> Mapping[str, float]:
        """Return those of `spawnpool.limits.RELOADABLE` that the settings, as this fresh process reads them, say."""

    def pools(self) -> Sequence[Pool]:
        """Return the pools that those settings say; none for one of as many workers as the limits say."""

    def flaws(self) -> Iterable[str]:
        """Return what is broken of the code that keys may need; a reload is refused for that, a start is not."""

    def load(self, pks: Sequence[int]) -> None:
        """Fetch what is needed to run these keys; whatever was loaded before and not run is forgotten."""

    def describe(self, pk: int) -> str:
        """Return the words for the process title, e.g. "job 77 demo.tasks.analyse"."""

    def run(self, pk: int) -> None:
        """Run one key to its end and keep its outcome in memory; never raises for what the job does.

        It touches nothing that is shared with a forked child: that child may come back from here too.
        """

    def bounds(self, pk: int) -> Bounds:
        """Return the limits of a key that was loaded."""

    def interrupt(self, why: Interrupt) -> None:
        """Have the key that is running raise, at once or as soon as its own code runs; from a signal handler."""

    def log_reopened(self) -> None:
        """Learn that descriptors 1 and 2 lead to a new log file; from a signal handler."""

    def tidy(self) -> None:
        """Restore what the job that just ran left behind.

        Never called in a forked child, and never after a job closed the worker's own descriptors.
        """

    def must_flush(self, *, more: bool) -> bool:
        """Tell whether kept outcomes must be recorded now; `more` tells that the next key is at hand."""

    def flush(self) -> str:
        """Record the kept outcomes and report them settled; return why no further key may run here, "" if it may."""

    def rest(self, idle_s: float) -> None:
        """Called while nothing is to be done, after each whole `REST_INTERVAL_S` of idleness."""

    def close(self) -> None:
        """Record what is kept and leave nothing open."""


REST_INTERVAL_S = 5.0
"""How often an idle worker gets the chance to let go of what it need not hold."""
