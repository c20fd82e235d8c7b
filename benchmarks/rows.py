"""The rows: what is measured by which function, how much of it, and what its picture shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import claims, drains, enqueues, footprint, latencies
from benchmarks.server import server
from benchmarks.steps import steps
from benchmarks.world import Figures

Sizes = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One measurement.

    Args:
        measure: gets the world and the sizes, and returns the figures of one run.
        sizes: how much is measured.
        smoke: the same for a run that only shows that the measurement works.
        picture: the figure that is drawn for each contender, "" for no picture.
        more_is_better: whether a large one is good.
    """

    measure: Callable[..., Figures]
    sizes: Sizes
    smoke: Sizes
    picture: str = ""
    more_is_better: bool = True

    @property
    def about(self) -> str:
        """What it measures, in a sentence."""
        return (self.measure.__doc__ or "").partition("\n")[0]


ROWS: dict[str, Row] = {
    "drain": Row(drains.drain, {"jobs": 100_000}, {"jobs": 400}, "per_s"),
    "orm": Row(drains.orm, {"jobs": 10_000}, {"jobs": 100}, "per_s"),
    "latency": Row(latencies.latency, {"jobs": 300}, {"jobs": 10}, "p99_ms", more_is_better=False),
    "priority": Row(latencies.priority, {"jobs": 300, "drained": 50_000}, {"jobs": 10, "drained": 500}),
    "behind": Row(latencies.behind, {"rounds": 10}, {"rounds": 1}),
    "enqueue": Row(enqueues.enqueue, {"jobs": 10_000}, {"jobs": 50}, "per_s"),
    "enqueuers": Row(enqueues.enqueuers, {"clients": 32, "seconds": 5.0}, {"clients": 2, "seconds": 0.1}, "per_s"),
    "bulk": Row(enqueues.bulk, {"jobs": 300_000}, {"jobs": 500}, "per_s"),
    "backlog": Row(drains.backlog, {"jobs": 1_000_000, "drained": 50_000}, {"jobs": 2_000, "drained": 300}, "per_s"),
    "finished": Row(drains.finished, {"jobs": 10_000_000, "drained": 50_000}, {"jobs": 2_000, "drained": 300}, "per_s"),
    "claimers": Row(
        claims.claimers,
        {"jobs": 600_000, "numbers": (1, 16, 64), "seconds": 5.0},
        {"jobs": 50_000, "numbers": (1, 2), "seconds": 0.1},
        "claims_per_s",
    ),
    "held": Row(drains.held, {"jobs": 1_000_000}, {"jobs": 300}, "per_s"),
    "idle": Row(footprint.idle, {"seconds": 30.0, "settle": 10.0}, {"seconds": 1.0, "settle": 0.1}),
    "million": Row(footprint.million, {"jobs": 1_000_000}, {"jobs": 300}),
    "start": Row(footprint.start, {"times": 10}, {"times": 1}),
    "sqlite": Row(drains.sqlite, {"jobs": 30_000}, {"jobs": 200}),
    "mariadb": Row(drains.mariadb, {"jobs": 50_000}, {"jobs": 200}),
    "reload": Row(latencies.reload, {"jobs": 500}, {"jobs": 10}),
    "window": Row(latencies.window, {"jobs": 20_000}, {"jobs": 200}),
    "steps": Row(steps, {"jobs": 100_000}, {"jobs": 200}),
    "server": Row(server, {"jobs": 30_000}, {"jobs": 200}),
}
"""In the order in which all of them are measured."""
