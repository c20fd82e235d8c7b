"""When a worker that ended may be spawned again. Pure: times come in, delays go out."""

from __future__ import annotations

from dataclasses import dataclass

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
