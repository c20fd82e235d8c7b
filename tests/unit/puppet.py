"""A worker process made of data, for the world of the machine: its lane, its permits, its card, its pipe.

What it does next is chosen from outside; what it says waits in `pipe` until it is delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.limits import RELOADABLE
from spawnpool.pools import Pool, encode
from spawnpool.reports import Kind, Report
from spawnpool.states import ExitCode

MB = 2**20


@dataclass(frozen=True, slots=True)
class Job:
    """What a key does: its limits, whether it heeds an interruption, what it adds to its worker's memory in bytes."""

    bounds: Bounds = NO_BOUNDS
    heeds: bool = True
    grows_by: int = 0


PLAIN = Job()


@dataclass(slots=True)
class Puppet:
    """One worker process; `job_of` tells what its keys do, `settings` what it reads when it boots."""

    wid: int
    number: int
    job_of: Callable[[int], Job]
    begin: Callable[[int, int], None]
    """Told the wid and the key when it begins one."""
    settings: dict[str, float]
    pools: Sequence[Pool] = ()
    """What it reads of pools then."""
    lane: deque[tuple[int, list[int]] | None] = field(default_factory=deque)
    permits: int = 0
    pipe: list[Report] = field(default_factory=list)
    epoch: int = 0
    hand: deque[int] = field(default_factory=deque)
    running: int | None = None
    unsettled: list[int] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    bounds: Bounds = NO_BOUNDS
    card: tuple[int, Interrupt] = (0, Interrupt.NONE)
    must_look: bool = False
    rss_bytes: int = 50 * MB
    ready: bool = False
    stubborn: bool = False
    """Neither works nor listens; only SIGKILL helps."""
    code: int | None = None
    """Its exit code once it is dead."""
    carries: Callable[[], bool] = lambda: True
    """Whether the next report arrives."""

    @property
    def able(self) -> bool:
        """Whether it does anything at all."""
        return self.code is None and not self.stubborn

    def say(self, kind: Kind, key: int = 0, amount: int = 0, text: str = "") -> None:
        """Put a report into the pipe, where it waits for the supervisor to read it."""
        if self.carries():
            self.pipe.append(Report(kind, key, amount, text))

    def act(self, choice: int) -> None:
        """Take the next small step."""
        if not self.able:
            return
        if not self.ready:
            self._boot()
        elif self.running is not None:
            self._end_job(flush=bool(choice % 2) or not self.hand, took_us=(100, 3000, 200_000)[choice % 3])
        elif self.hand:
            self._begin_next()
        elif self.lane:
            self._receive()
        elif not choice % 4:
            self.say(Kind.ALIVE, self.epoch, 1)

    def heed(self) -> None:
        """Look at the card after a signal; a job that heeds it raises and is over."""
        key, why = self.card
        looks, self.must_look = self.must_look, False
        if self.able and looks and key == self.running and why is not Interrupt.NONE and self.job_of(key).heeds:
            self._end_job(flush=True, took_us=200_000)

    def flush(self, took_us: int) -> None:
        """Record what was run and say so."""
        self.say(Kind.RETURNED)
        if self.unsettled:
            self.settled.update(self.unsettled)
            self.say(Kind.SETTLED, self.unsettled[-1], took_us)
            self.unsettled.clear()

    def settle_behind(self) -> None:
        """Record the oldest key while a later one is running, as a recorder's helper thread does."""
        if self.able and len(self.unsettled) > 1:
            pk = self.unsettled.pop(0)
            self.settled.add(pk)
            self.say(Kind.SETTLED, pk, 100)

    def spoil(self) -> None:
        """End the job at hand; it left something behind with which this process cannot go on."""
        if self.able and self.running is not None:
            self._end_job(flush=True, took_us=100)
            self.say(Kind.SPOILED, text="the job left the signal mask changed")
            self._leave()

    def fail_boot(self) -> None:
        """Say that it cannot boot, and leave."""
        if self.able and not self.ready:
            self.say(Kind.FAILED, text="ImportError: no module")
            self.code = ExitCode.BOOT_FAILED

    def find_no_room(self) -> None:
        """Say that there is no room for it, in its boot or before it begins anything of a hand, and leave."""
        if self.able and self.running is None:
            self.say(Kind.FAILED, text="no room")
            self.code = ExitCode.CROWDED

    def _boot(self) -> None:
        for name, value in self.settings.items():
            self.say(Kind.LIMIT, int(value * 1000), RELOADABLE.index(name))
        for piece in encode(self.pools):
            self.say(Kind.POOLS, text=piece)
        self.ready = True
        self.say(Kind.READY)

    def _end_job(self, *, flush: bool, took_us: int) -> None:
        self.running = None
        if flush:
            self.flush(took_us)

    def _begin_next(self) -> None:
        if not self.permits:
            self.flush(100)
            self.epoch += 1
            self.hand.clear()
            self.say(Kind.EMPTIED, amount=self.epoch)
            return
        self.permits -= 1
        pk = self.hand.popleft()
        job = self.job_of(pk)
        self.begin(self.wid, pk)
        self.running = pk
        self.rss_bytes += job.grows_by
        self.unsettled.append(pk)
        if job.bounds != self.bounds:
            self.bounds = job.bounds
            self.say(Kind.BOUNDS, text=job.bounds.encode())
        self.say(Kind.STARTED, pk)

    def _receive(self) -> None:
        message = self.lane.popleft()
        if message is None:
            self.flush(100)
            self._leave()
        elif message[0] == self.epoch:
            self.hand.extend(message[1])

    def _leave(self) -> None:
        self.say(Kind.BYE)
        self.code = 0
