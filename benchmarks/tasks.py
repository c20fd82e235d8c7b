"""The jobs of jobsup."""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import jobs
from benchmarks.steps import PLACE, time_steps
from jobsup import task
from jobsup.recorder import Entry, Recorder


@task
def noop(number: int) -> None:
    """Do nothing."""
    jobs.noop(number)


@task
def orm(number: int) -> None:
    """Read a row and write it."""
    jobs.orm(number)


@task(atomic=True)
def orm_atomic(number: int) -> None:
    """Do the same in one commit with the record of the success."""
    jobs.orm(number)


@task
def moment(sent: float) -> None:
    """Note when it began."""
    jobs.moment(sent)


@task
def nothing() -> None:
    """Do nothing at all."""


@task
def ended(_number: int) -> None:
    """Do nothing at all, with an argument."""


@task
def take(number: int, text: str) -> None:
    """Take two arguments and do nothing."""


@task
def short(sent: float) -> None:
    """Note when it began and take 10 ms."""
    jobs.moment(sent)
    time.sleep(0.010)


@task
def brief(number: int) -> None:
    """Take 1 ms."""
    began = time.time()
    time.sleep(0.001)
    jobs.note(number, began, time.time())


@task
def long(number: int, until: str, seconds: float) -> None:
    """Note when it began and keep a worker busy until there is a file, or for so many seconds."""
    now = time.time()
    jobs.note(number, now, now)
    give_up_at = time.monotonic() + seconds
    while not Path(until).exists() and time.monotonic() < give_up_at:
        time.sleep(0.005)


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


if place := os.environ.get(PLACE):  # a worker that is to time its steps
    time_steps(place)
if place := os.environ.get("BENCH_WINDOW"):  # a worker that is to say when it has recorded the ends of its jobs
    Recorder._write = _noting(Recorder._write)  # type: ignore[assignment,method-assign]  # noqa: SLF001
    atexit.register(_keep, place)
