"""What the jobs themselves write down of each run: a file, so that the witness is not the database that is judged.

A line is one write to a file that is open for appending: it is there whole or not at all, also when its writer is
killed. Times are those of the monotonic clock, which all processes of a machine share and nobody can set.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

BEGUN, RETURNED = "B", "R"


class Run(NamedTuple):
    """One run of a job's function.

    Args:
        job: its primary key.
        attempt: the number of the attempt.
        worker, supervisor: the processes that it ran in and under.
        begun_s: when, by the monotonic clock.
        returned_s: when it returned or raised; None if it never did.
    """

    job: int
    attempt: int
    worker: int
    supervisor: int
    begun_s: float
    returned_s: float | None = None


@contextmanager
def witnessed(file: Path, job: int, attempt: int) -> Iterator[None]:
    """Write down that a job begins, and that it returned or raised."""
    who = f"{job} {attempt} {os.getpid()} {os.getppid()}"
    _append(file, f"{BEGUN} {who} {time.monotonic():.6f}\n")
    try:
        yield
    finally:
        _append(file, f"{RETURNED} {who} {time.monotonic():.6f}\n")


def read(file: Path) -> list[Run]:
    """Return all runs in the order in which they began."""
    runs: list[Run] = []
    open_ones: dict[tuple[int, int, int], list[int]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        what, job, attempt, worker, supervisor, at_s = line.split()
        key = int(job), int(attempt), int(worker)
        if what == BEGUN:
            open_ones.setdefault(key, []).append(len(runs))
            runs.append(Run(*key, int(supervisor), float(at_s)))
        else:
            place = open_ones[key].pop()
            runs[place] = runs[place]._replace(returned_s=float(at_s))
    return runs


def _append(file: Path, line: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
