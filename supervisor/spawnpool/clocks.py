"""How long the machine was suspended, which the monotonic clock does not count."""

from __future__ import annotations

import time

NOTEWORTHY_S = 0.5
"""Less is no suspension: the two clocks are read one after the other."""


class Suspensions:
    """Finds suspensions of the machine: laptops sleep, and virtual machines are paused and moved."""

    def __init__(self) -> None:
        self._asleep_s = _asleep_s()

    def news(self) -> float:
        """Return for how long it was suspended since the last call, in seconds; 0 if it was not."""
        before, now = self._asleep_s, _asleep_s()
        if now - before < NOTEWORTHY_S:
            return 0.0
        self._asleep_s = now
        return now - before


def _asleep_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
