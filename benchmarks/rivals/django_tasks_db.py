"""django-tasks-db: the backend of `django.tasks` that keeps its jobs in Django's database; no bulk call."""

from __future__ import annotations

from benchmarks.rivals.declared import enqueue

__all__ = ["enqueue"]
