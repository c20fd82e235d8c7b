"""What the machine knows about one worker process: its state, and the window of keys that were sent to it.

The window is in the order of the lane: first keys that were started, then unstarted ones. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice

from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.errors import BrokenReport
from spawnpool.pools import DEFAULT
from spawnpool.states import Ended, WorkerState

DOUBT_S = 1.0
"""Between the doubt about a silent worker and its end, in seconds: the supervisor itself may have been kept busy."""


@dataclass(slots=True)
class Member:
    """One worker process, from its spawn to its death."""

    wid: int
    number: int
    generation: int
    state: WorkerState
    deadline: float | None
    """When its present state has lasted too long; None if it may last."""
    window: deque[int] = field(default_factory=deque)
    started: int = 0
    returned: bool = True
    """Every started key has returned; nothing is running."""
    epoch: int = 0
    recalled: bool = False
    """Keys were taken back and it has not said yet that it dropped them."""
    progress_at: float = 0.0
    """When something was last begun, settled or, into an empty window, sent."""
    asked_back_at: float = float("-inf")
    """When keys were last asked back."""
    slow: bool = False
    """What it has before it has not moved on for a while; nothing more is put behind that."""
    started_at: float = 0.0
    marked: bool = False
    """The source was told of the key that is running."""
    was_ready: bool = False
    ready_at: float = 0.0
    heard_at: float = 0.0
    """When it last said anything."""
    doubted_at: float = float("-inf")
    """When it had been silent for too long; what it said meanwhile may only not have been read yet."""
    done: int = 0
    """How many keys it has settled."""
    rss_bytes: int = 0
    """Its resident memory when that was last measured; 0 if it never was."""
    measure_at: float = 0.0
    bounds: Bounds = NO_BOUNDS
    """The limits of the keys that start from now on."""
    held_to: Bounds = NO_BOUNDS
    """The limits of the key that is running."""
    cancelled: bool = False
    """The cancellation of the key that is running was asked for."""
    interrupted: Interrupt = Interrupt.NONE
    """Why the key that is running was interrupted."""
    ordered: int | None = None
    """Which key its card tells of."""
    patience_until: float | None = None
    """When the next step against the key that is running is due."""
    ended: Ended = Ended.DIED
    why: str = ""
    """What the supervisor ended it for."""
    listening: bool = False
    """Its lane is to be read before the last step against the key that is running."""
    heard_out: bool = False
    """It was."""
    killed: bool = False
    """SIGKILL was sent."""
    ended_for: int | None = None
    """The key that was running then, as far as was known."""
    farewell: str = ""
    """Why it could not boot, in its own words."""
    limits: dict[str, float] = field(default_factory=dict)
    """What it read from the settings."""
    pools: str = ""
    """What it read there of pools, as far as it has said so."""
    pool: str = DEFAULT
    """Whose work it does."""

    @property
    def unstarted(self) -> int:
        """How many keys it was sent and has not begun."""
        return len(self.window) - self.started

    @property
    def serving(self) -> bool:
        """Whether it takes work."""
        return self.state is WorkerState.SERVING

    @property
    def free(self) -> bool:
        """Whether it could begin a key right now."""
        return self.serving and not self.window and not self.recalled

    @property
    def open(self) -> bool:
        """Whether more keys may be put before it."""
        return self.serving and not self.recalled and not self.slow

    @property
    def doubted(self) -> bool:
        """Whether it said nothing since its silence was noticed."""
        return self.doubted_at > self.heard_at

    def silent_at(self, silence_max_s: float) -> float | None:
        """Return when it has been silent for too long, None while it need not talk.

        An idle worker, and one that loads keys, says now and then that it is well. One that may be waiting for its
        source in order to record keys gets twice as long: the keys would be run again.
        """
        if not self.serving or self.running() is not None:
            return None
        if self.doubted:
            return self.doubted_at + DOUBT_S
        return self.heard_at + silence_max_s * (2 if self.started else 1)

    def doing(self) -> str:
        """Return what it was about, for the log."""
        return "idle" if self.was_ready else "booting"

    def sent(self, pks: Iterable[int], now: float) -> None:
        """Append keys that were put on its lane."""
        if not self.window:
            self.progress_at = now
        self.window.extend(pks)

    def begin(self, pk: int, now: float, ago_s: float = 0.0) -> None:
        """Note that `pk` is running and everything before it has returned, whether that was told or not.

        Args:
            pk: the key.
            now: the time.
            ago_s: how long ago it began, in seconds.

        Raises:
            BrokenReport: it is not on the lane, or was started before.
        """
        waiting = islice(self.window, self.started, None)
        if not (ahead := next((n for n, key in enumerate(waiting, start=1) if key == pk), 0)):
            raise BrokenReport(f"it says that it started {pk}, which does not wait on its lane")
        self.started += ahead
        if self.state is WorkerState.LEAVING:
            self.deadline = None  # it had begun before it was asked to leave, and may finish
        self.returned, self.marked = False, False
        self.cancelled, self.interrupted = False, Interrupt.NONE
        self.listening = self.heard_out = False
        self.held_to = self.bounds
        self.started_at = now - ago_s
        self.progress_at = max(self.progress_at, self.started_at)
        self.patience_until = None if self.held_to.timeout_s is None else self.started_at + self.held_to.timeout_s

    def settle(self, pk: int, now: float) -> list[int]:
        """Drop every key up to `pk` and return them.

        Raises:
            BrokenReport: it was never started.
        """
        count = next((n for n, key in enumerate(islice(self.window, self.started), start=1) if key == pk), 0)
        if not count:
            raise BrokenReport(f"it says that it settled {pk}, which it has not started")
        settled = [self.window.popleft() for _ in range(count)]
        self.started -= count
        self.done += count
        if not self.started:
            self.returned = True
        self.progress_at = now
        return settled

    def idles(self, epoch: int) -> None:
        """Take in that it has nothing in hand.

        Raises:
            BrokenReport: by what it has said it would have: some report of it was lost.
        """
        if self.started or epoch != self.epoch:
            raise BrokenReport("it is idle, and what became of its jobs was not told")

    def take_back(self, count: int) -> list[int]:
        """Cut `count` unstarted keys off the end, as the answer to having asked, and return them in their order."""
        count = min(count, self.unstarted)
        taken = [self.window.pop() for _ in range(count)]
        self.recalled = count > 0
        taken.reverse()
        return taken

    def ask_back(self, now: float) -> int:
        """Note that all unstarted keys are asked back, so that none are sent meanwhile, and return how many."""
        self.recalled, self.asked_back_at = True, now
        return self.unstarted

    def forget(self, pks: Collection[int]) -> None:
        """Drop keys that turned out to be somebody else's by now."""
        begun = [pk for pk in islice(self.window, self.started) if pk not in pks]
        rest = [pk for pk in islice(self.window, self.started, None) if pk not in pks]
        self.window, self.started = deque(begun + rest), len(begun)

    def running(self) -> int | None:
        """Return the key that is running, None if nothing is."""
        return None if self.returned or not self.started else self.window[self.started - 1]

    def split_at_death(self, unstarted: int) -> tuple[list[int], list[int]]:
        """Return the keys that were started and those that were not, by the permits that are left."""
        begun = max(self.started, len(self.window) - unstarted)
        if begun > self.started:  # the permit was taken, the report was not sent any more
            self.returned = False
        keys = list(self.window)
        return keys[:begun], keys[begun:]
