"""The jobs as tasks of `django.tasks`, for every rival that is a backend of that."""

from __future__ import annotations

from typing import Any

from django.tasks import task

from benchmarks import jobs


@task
def noop(number: int) -> None:
    """Do nothing."""
    jobs.noop(number)


@task
def orm(number: int) -> None:
    """Read a row and write it."""
    jobs.orm(number)


@task
def moment(sent: float) -> None:
    """Note when it began."""
    jobs.moment(sent)


TASKS: dict[str, Any] = {"noop": noop, "orm": orm, "moment": moment}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    TASKS[kind].enqueue(argument)
