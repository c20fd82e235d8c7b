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


@task
def short() -> float:
    """Take 10 ms; return when it began, in seconds since the epoch."""
    began = time.time()
    time.sleep(0.010)
    return began


@task
def take(number: int, text: str) -> None:
    """Take two arguments and do nothing."""
