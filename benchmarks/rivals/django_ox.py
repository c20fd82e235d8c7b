"""django-ox: a backend of `django.tasks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.tasks import task_backends

from benchmarks.rivals.declared import TASKS, enqueue

__all__ = ["enqueue", "enqueue_many"]


def enqueue_many(kind: str, numbers: Sequence[int]) -> None:
    """Enqueue jobs by its bulk call."""
    backend: Any = task_backends["default"]
    backend.enqueue_many(TASKS[kind], [((number,), {}) for number in numbers])
