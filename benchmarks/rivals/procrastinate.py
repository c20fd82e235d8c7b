"""procrastinate, by its Django app."""

from __future__ import annotations

from collections.abc import Sequence

from procrastinate.contrib.django import app

from benchmarks import jobs


@app.task(name="noop")
def noop(number: int) -> None:
    """Do nothing."""
    jobs.noop(number)


@app.task(name="orm")
def orm(number: int) -> None:
    """Read a row and write it."""
    jobs.orm(number)


@app.task(name="moment")
def moment(number: float) -> None:
    """Note when it began."""
    jobs.moment(number)


TASKS = {"noop": noop, "orm": orm, "moment": moment}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    TASKS[kind].defer(number=argument)


def enqueue_many(kind: str, numbers: Sequence[int]) -> None:
    """Enqueue jobs by its bulk call."""
    TASKS[kind].batch_defer(*({"number": number} for number in numbers))
