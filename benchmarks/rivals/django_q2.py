"""django-q2, with the ORM as its broker; no bulk call."""

from __future__ import annotations

from django_q.tasks import async_task


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    async_task(f"benchmarks.jobs.{kind}", argument)
