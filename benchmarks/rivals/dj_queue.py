"""dj-queue: a backend of `django.tasks`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rivals.declared import TASKS, enqueue

__all__ = ["enqueue", "enqueue_many"]


def enqueue_many(kind: str, numbers: Sequence[int]) -> None:
    """Enqueue jobs by its bulk call."""
    task = TASKS[kind]
    task.get_backend().enqueue_all([(task, [number], {}) for number in numbers])
