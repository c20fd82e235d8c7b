"""huey, with Redis as its storage; no bulk call."""

from __future__ import annotations

from huey.contrib.djhuey import db_task, task

from benchmarks import jobs

TASKS = {
    "noop": task(name="noop")(jobs.noop),
    "orm": db_task(name="orm")(jobs.orm),
    "moment": task(name="moment")(jobs.moment),
}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    TASKS[kind](argument)
