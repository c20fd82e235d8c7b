"""The numbered places of the pools and a reload that goes through them. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spawnpool.restarts import Backoff


@dataclass(slots=True)
class Slot:
    """Place `number` of a pool: who fills it, who is on trial for it, and when it may be filled again.

    `renew_at` is when a worker that has served its time may be replaced at the earliest.
    """

    number: int
    pool: str
    backoff: Backoff = field(default_factory=Backoff)
    wid: int | None = None
    trial: int | None = None
    spawn_at: float = 0.0
    renew_at: float = 0.0


@dataclass(slots=True)
class Reload:
    """A reload under way: workers of `generation` take over slot by slot."""

    generation: int
    count: int = 0
    again: bool = False
    limits: dict[str, float] = field(default_factory=dict)
    pools: str = ""
    tried: set[int] = field(default_factory=set)
    """The places that a worker on the new code was started for."""

    def taken_over(self, limits: Mapping[str, float], pools: str = "") -> None:
        """Note that one more worker runs the new code, and what it read from the new settings."""
        self.count += 1
        self.limits, self.pools = dict(limits), pools
