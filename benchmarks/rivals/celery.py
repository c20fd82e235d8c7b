"""Celery, with Redis as its broker; no bulk call."""

from __future__ import annotations

from celery import Celery
from django.conf import settings

from benchmarks import jobs

app = Celery("bench", broker=settings.BENCH_REDIS)  # type: ignore[misc]
TASKS = {call.__name__: app.task(name=call.__name__)(call) for call in (jobs.noop, jobs.orm, jobs.moment)}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    TASKS[kind].delay(argument)
