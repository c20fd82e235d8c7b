"""The jobs of the benchmarks."""

from __future__ import annotations

import time

from jobsup import task


@task
def noop() -> None:
    """Do nothing."""


@task
def moment() -> float:
    """Return when it began, in seconds since the epoch."""
    return time.time()
