"""The jobs of the benchmarks."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.accounts import raise_by_one
from jobsup import task
from jobsup.recorder import Entry, Recorder


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
def long() -> None:
    """Keep a worker busy until it is cancelled."""
    while True:
        time.sleep(0.1)


@task
def take(number: int, text: str) -> None:
    """Take two arguments and do nothing."""


@task
def raise_ordinary(number: int) -> None:
    """Read a row and write it."""
    raise_by_one(number)


@task(atomic=True)
def raise_atomic(number: int) -> None:
    """Do the same in one commit with the record of the success."""
    raise_by_one(number)


@task
def ended(_number: int) -> None:
    """Do nothing, with an argument."""


_after: list[float] = []


def _noting(write: Callable[[Recorder, Sequence[Entry]], None]) -> Callable[[Recorder, Sequence[Entry]], None]:
    """Note for each job how long after its return its record was known to be committed."""

    def note(recorder: Recorder, entries: Sequence[Entry]) -> None:
        write(recorder, entries)
        now = time.monotonic()
        _after.extend(now - entry.ended_at for entry in entries)

    return note


def _keep(place: str) -> None:
    Path(place, f"{os.getpid()}.json").write_text(json.dumps(_after))


if place := os.environ.get("BENCH_WINDOW"):  # a worker that is to say when it has recorded the ends of its jobs
    Recorder._write = _noting(Recorder._write)  # type: ignore[assignment,method-assign]  # noqa: SLF001
    atexit.register(_keep, place)
