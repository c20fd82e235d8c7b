"""How much work may wait in front of a worker, and who gets which keys. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spawnpool.limits import Limits
from spawnpool.member import Member

_MEMORY_KEYS = 50
"""Over how many of the latest keys the expected length is averaged."""


@dataclass(slots=True)
class Pace:
    """How long one key takes at present: a mean that halves the weight of the past every few dozen keys."""

    limits: Limits
    _busy_s: float = 0.0
    _keys: float = 0.0

    def settled(self, keys: int, busy_s: float) -> None:
        """Learn that `keys` took `busy_s` seconds of one worker together."""
        keep = _MEMORY_KEYS / (_MEMORY_KEYS + keys)
        self._busy_s = self._busy_s * keep + busy_s
        self._keys = self._keys * keep + keys

    def lasts(self, keys: int, seconds: float) -> bool:
        """Tell whether so many keys keep one worker busy for some seconds; not while nothing is known."""
        return self._keys >= 1 and keys * self._busy_s >= seconds * self._keys

    def window(self) -> int:
        """Return how many keys may wait in front of one worker; one while nothing is known or keys are long."""
        if self._keys < 1 or self._busy_s <= 0:
            return 1
        return max(1, min(self.limits.window_max, int(self.limits.window_s * self._keys / self._busy_s)))


def demand(members: Sequence[Member], window: int) -> int:
    """Return how many keys to claim: enough to fill every window, once any of them is half empty."""
    hungry = [member for member in members if member.open]
    if not any(len(member.window) <= window // 2 for member in hungry):
        return 0
    return sum(max(0, window - len(member.window)) for member in hungry)


def deal(spare: deque[int], members: Sequence[Member], window: int) -> Iterator[tuple[Member, list[int]]]:
    """Take keys from `spare` and yield hands for the workers that have room, the emptiest first, in even shares."""
    roomy = sorted(
        (member for member in members if member.open and len(member.window) < window),
        key=lambda member: len(member.window),
    )
    for index, member in enumerate(roomy):
        if not spare:
            return
        share = -(-len(spare) // (len(roomy) - index))
        count = min(share, window - len(member.window))
        yield member, [spare.popleft() for _ in range(count)]
