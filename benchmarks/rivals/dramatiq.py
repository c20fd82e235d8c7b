"""dramatiq, with Redis as its broker; no bulk call."""

from __future__ import annotations

import dramatiq

from benchmarks import jobs

ACTORS = {call.__name__: dramatiq.actor(call) for call in (jobs.noop, jobs.orm, jobs.moment)}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    ACTORS[kind].send(argument)
