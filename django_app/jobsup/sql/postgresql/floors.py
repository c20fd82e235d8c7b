"""Where the ready jobs of each queue and priority begin, as far as one claimer has seen. Pure.

Each claim leaves a dead entry at the front of the index of ready jobs. It is gone soon, unless a transaction anywhere
on the server is older than the claim: then every claim walks over all dead entries since. So a claimer that has walked
over many of them begins behind those that it saw, and looks at what is before only now and then: for jobs whose
enqueuing was committed late, and for those that were put back. Once nothing dead is found there, it forgets all this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

DEAD_MAX = 2_000
"""Over so many dead entries a claim may walk, however few jobs it wants; that takes less than 1 ms."""

DEAD_PER_KEY = 100
"""Over so many for each job that it wants it may walk, too, which makes it about half as long again: 64 claimers that
are at it at the same time leave up to 90 for each job of a claim, without any old transaction."""

DEAD_FEW = 500
"""With no more than so many behind the floors these are forgotten."""

MARGIN = 500
"""So far, in keys, a floor stays behind: enqueuers do not commit in the order in which they draw their keys."""

SPAN_MIN = 10_000
SPAN_MAX = 1_000_000
"""How many keys one look behind the floors covers: few where much is dead, so that it takes some milliseconds."""

SHARE = 0.05
"""The share of the time that looks behind the floors may take while they find little."""
SHARE_IDLE = 0.2
"""The share that looks at the newest of these keys may take besides, by claims that found nothing new."""

LEARN_EVERY_S = 1.0
"""How often to learn, at most, which queues and priorities there are that others serve."""

DUES_SLOW_S = 0.02
"""A look at all scheduled jobs that takes longer than this goes over many dead entries."""

AGAIN_MAX = 32
"""How many stretches of jobs that were put back are looked at in one look."""

ABOVE_ALL, BELOW_ALL = 1 << 15, -(1 << 15) - 1
"""No priority is as high, or as low; they are 16 bits."""
LAST_KEY = (1 << 63) - 1


class Step(NamedTuple):
    """One step of a walk through a queue: the priorities between two that are known, then the lower one of these.

    Args:
        queue: its name.
        above: the priorities below this one; None for none of those in between.
        priority: and down to this one, which itself is entered behind `after`.
        after: the key behind which it is entered.
        upto: the last key.
    """

    queue: str
    above: int | None
    priority: int
    after: int
    upto: int = LAST_KEY


class Stretch(NamedTuple):
    """Keys above `after`, up to `upto`."""

    after: int
    upto: int


class Taken(NamedTuple):
    """A job that a claim took."""

    pk: int
    priority: int
    rank: int
    queue: str


def bearable(limit: int) -> int:
    """Return over how many dead entries a claim of so many jobs may walk."""
    return max(DEAD_MAX, DEAD_PER_KEY * limit)


@dataclass(slots=True)
class Floors:
    """What one claimer knows of where ready jobs begin; of nothing, as long as it is not `active`."""

    active: bool = False
    after: dict[str, dict[int, int]] = field(default_factory=dict)
    """By queue and priority: the key up to which it saw nothing left."""
    top: int = 0
    """The highest key that it knows of."""
    _again: list[Stretch] = field(default_factory=list)  # jobs that were put back
    _upto: int = 0  # the look behind goes on with the keys up to this one
    _span: int = SPAN_MIN
    _dead: int = 0  # seen on the present way down
    _look_at: float = 0.0
    _newest_at: float = 0.0
    _pause: bool = False  # the look before was worth it: after a claim of what is new it goes on
    _learn_at: float = 0.0

    def begin(self, taken: Sequence[Taken], names: Iterable[str], *, short: bool) -> None:
        """Take the end of a look at everything for the floors."""
        self.active = True
        self.saw(taken, names, short=short)
        self._upto = self.top

    def forget(self) -> None:
        """Go back to looking at everything."""
        self.active = False
        self.after.clear()
        self._again.clear()
        self.top = self._dead = 0
        self._look_at, self._newest_at, self._pause, self._span = 0.0, 0.0, False, SPAN_MIN

    # ---- the walk from the floors on

    def steps(self, names: Iterable[str]) -> Iterator[Step]:
        """Return the walk through each queue; what is not known yet is seen at once, from its beginning."""
        for name in names:
            above = ABOVE_ALL
            for priority, after in sorted(self.after.get(name, {}).items(), reverse=True):
                yield Step(name, above, priority, after)
                above = priority
            yield Step(name, above, BELOW_ALL, 0)

    def saw(self, taken: Sequence[Taken], names: Iterable[str], *, short: bool) -> None:
        """Raise the floors behind what a claim took.

        Args:
            taken: what it was.
            names: the queues of which it could have taken all.
            short: whether there was less than it wanted.
        """
        self.top = max(self.top, max((job.pk for job in taken), default=0))
        lowest: dict[str, int] = {}
        for job in taken:
            self._raise(job.queue, job.priority, job.pk)
            lowest[job.queue] = min(lowest.get(job.queue, job.priority), job.priority)
        for name in names:  # nothing was left of the priorities above the last one that it came to
            for priority in self.after.get(name, ()):
                if short or (name in lowest and priority > lowest[name]):
                    self._raise(name, priority, self.top)

    def must_learn(self, walked: int, now: float) -> bool:
        """Tell whether a walk that met so many dead entries met them where no floor is."""
        if walked <= DEAD_MAX + 2 * MARGIN * sum(map(len, self.after.values())) or now < self._learn_at:
            return False
        self._learn_at = now + LEARN_EVERY_S
        return True

    def learn(self, recent: Iterable[tuple[str, int, int]], *, trust: bool = False) -> None:
        """Learn which queues and priorities there are.

        Args:
            recent: a queue, a priority, and the highest key of it, of all that are new.
            trust: whether to begin behind these keys without having looked at what is before.
        """
        for name, priority, pk in recent:
            self.top = max(self.top, pk)
            self.after.setdefault(name, {}).setdefault(priority, max(0, pk - MARGIN) if trust else 0)
        self._upto = self._upto or self.top

    def _raise(self, name: str, priority: int, pk: int) -> None:
        known = self.after.setdefault(name, {})
        known[priority] = max(known.get(priority, 0), pk - MARGIN)

    # ---- the looks behind them

    def put_back(self, pks: Iterable[int]) -> None:
        """Have the next look go to jobs that were put back."""
        if not self.active:
            return
        for pk in sorted(pks):
            last = self._again[-1] if self._again else None
            if last is not None and last.after < pk <= last.upto + MARGIN:
                self._again[-1] = Stretch(last.after, max(pk, last.upto))
            else:
                self._again.append(Stretch(pk - 1, pk))

    def behind(self, now: float, *, idle: bool = False) -> list[Stretch]:
        """Return which keys behind the floors to look at, nothing if it is not time.

        Args:
            now: a monotonic clock in seconds.
            idle: whether there was nothing from the floors on; then the newest keys are looked at in any case.
        """
        if self._again:
            return self._again[:AGAIN_MAX]
        pause, self._pause = self._pause, False
        if now >= self._look_at and (idle or not pause):
            return [Stretch(self._upto - self._span, self._upto)]
        return [Stretch(self.top - SPAN_MIN, self.top)] if idle and now >= self._newest_at else []

    def steps_behind(self, stretches: Sequence[Stretch], names: Iterable[str]) -> Iterator[Step]:
        """Return the walk through these keys, as far as they are behind the floors."""
        for name in names:
            for priority, after in sorted(self.after.get(name, {}).items(), reverse=True):
                for stretch in sorted(stretches):
                    upto = min(stretch.upto, after)
                    if upto > stretch.after:
                        yield Step(name, None, priority, stretch.after, upto)

    def looked(self, stretches: Sequence[Stretch], walked: int, *, full: bool, took_s: float, now: float) -> None:
        """Learn from a look behind; once a way down has met next to nothing dead, it is over.

        Args:
            stretches: where it looked.
            walked: over how many dead entries it went.
            full: whether there may be more.
            took_s: how long it took.
            now: a monotonic clock in seconds.
        """
        if full:
            self._pause = True
            return
        if self._again and stretches == self._again[:AGAIN_MAX]:
            del self._again[:AGAIN_MAX]
        [(after, upto)] = stretches[:1]
        if upto != self._upto:
            self._newest_at = now + took_s * (1 / SHARE_IDLE - 1)
            return
        self._look_at = now + took_s * (1 / SHARE - 1)
        self._dead += walked
        self._upto = after
        self._span = SPAN_MIN if walked > DEAD_MAX else min(SPAN_MAX, self._span * 2)
        if self._upto <= 0:
            if self._dead <= DEAD_FEW:
                self.forget()
            self._upto, self._dead, self._span = self.top, 0, SPAN_MIN

    def look_again_s(self, now: float) -> float | None:
        """Return in how many seconds the next look behind is due."""
        return max(0.0, self._look_at - now) if self.active else None


@dataclass(slots=True)
class Dues:
    """Where the scheduled jobs begin in the index of these, whose front is dead entries just so."""

    _floor: datetime | None = None  # nothing was due before that, some time ago
    _look_at: float = 0.0

    def after(self, now: float) -> datetime | None:
        """Return after which moment to look for jobs that are due; None for all of them."""
        return None if now >= self._look_at else self._floor

    def looked(self, floor: datetime, *, everything: bool, begun: float, now: float) -> None:
        """Learn from a look; one at everything that took long is not made again soon.

        Args:
            floor: before this there was nothing for a while.
            everything: whether the look was at everything.
            begun: when it began.
            now: when it ended; monotonic clocks in seconds.
        """
        self._floor = floor
        if everything:
            self._look_at = now + (now - begun) * (1 / SHARE - 1) if now - begun > DUES_SLOW_S else 0.0
