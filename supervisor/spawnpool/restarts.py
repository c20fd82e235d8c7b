"""When a worker that ended may be spawned again. Pure: times come in, delays go out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0


@dataclass(slots=True)
class Backoff:
    """The delay before the next spawn in one slot: 1, 2, 4 ... 60 s for a worker that cannot boot, else none."""

    failures: int = 0

    def boot_failed(self) -> float:
        """Count one more failed boot and return the delay before the next, in seconds."""
        self.failures += 1
        return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self.failures - 1, 10)))

    def booted(self) -> None:
        """Forget the failures: a worker reported READY."""
        self.failures = 0


@dataclass(slots=True)
class Intensity:
    """How often the workers of a pool die, and what that means for their restarts.

    Up to `restarts_max` deaths within `window_s` are repaired at once. Beyond, the pool is degraded: restarts go on,
    but no faster than at that rate, until the deaths have become half as frequent. (OTP's supervisors give up there.)
    """

    restarts_max: int
    window_s: float
    degraded: bool = False
    _deaths: deque[float] = field(default_factory=deque)
    _last: float = float("-inf")

    def died(self, now: float) -> bool:
        """Count an unexpected death; True if that is the one with which the pool becomes degraded."""
        self._deaths.append(now)
        self._forget(now)
        if self.degraded or len(self._deaths) <= self.restarts_max:
            return False
        self.degraded = True
        return True

    def recovered(self, now: float) -> bool:
        """Tell whether the pool has just ceased to be degraded."""
        self._forget(now)
        if not self.degraded or len(self._deaths) > self.restarts_max // 2:
            return False
        self.degraded = False
        return True

    @property
    def pause_s(self) -> float:
        """How far apart the restarts of a degraded pool are, in seconds."""
        return self.window_s / self.restarts_max

    def may_restart_at(self) -> float:
        """Return the time from which on a worker may be spawned."""
        return self._last + self.pause_s if self.degraded else float("-inf")

    def restarted(self, now: float) -> None:
        """Note that a worker was spawned."""
        self._last = now

    def recovery_at(self) -> float | None:
        """Return when the pool may cease to be degraded; None if it is not."""
        if not self.degraded:
            return None
        past = self.restarts_max // 2  # so many may lie within the window
        return self._deaths[-past - 1] + self.window_s if len(self._deaths) > past else self._last

    def _forget(self, now: float) -> None:
        while self._deaths and now >= self._deaths[0] + self.window_s:  # as `recovery_at` reckons, to the last bit
            self._deaths.popleft()
