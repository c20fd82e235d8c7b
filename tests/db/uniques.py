"""Unique jobs for the store's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobsup.models import Job
from tests.db.rows import new_row

if TYPE_CHECKING:
    from jobsup.store import Store


def held_keys(alias: str) -> list[tuple[int, str | None]]:
    """Return the jobs that wait, with their keys."""
    return list(Job.objects.using(alias).filter(status__in=(0, 1)).order_by("pk").values_list("pk", "unique_key"))


def unique_row(text: str = "k", *, running: bool = False, **values: Any) -> Any:
    """Return a job with a key that is not there yet."""
    return new_row(**values)._replace(unique_key=text, unique_running=running)


def put_unique(store: Store, text: str = "k", *, replace: bool = False, **values: Any) -> tuple[int, bool]:
    """Enqueue a job with a key; return its id or that of the one that has it, and whether it is new."""
    pk, enqueued_at = store.enqueue_unique(unique_row(text, **values), replace=replace)
    return pk, enqueued_at is not None
