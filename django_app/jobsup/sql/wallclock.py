"""This machine's clock, where it stands for the database's: whether somebody has set it."""

from __future__ import annotations

import time

JUMP_S = 1.0
"""Less is no jump: clocks are kept right by slewing them, and the two are read one after the other."""


class WallClock:
    """Finds out that the clock was set, by one that cannot be; of what was before this process nothing is known."""

    def __init__(self) -> None:
        self._offset_s = _offset_s()
        self._set_at = float("-inf")

    def steady_s(self) -> float:
        """Return for how long the clock has not been set, in seconds, as far as that was looked at."""
        offset_s, now = _offset_s(), time.monotonic()
        if abs(offset_s - self._offset_s) > JUMP_S:
            self._offset_s, self._set_at = offset_s, now
        return now - self._set_at


def _offset_s() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
