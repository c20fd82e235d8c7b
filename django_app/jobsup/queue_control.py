"""Pausing queues: from then on nobody takes jobs from them, on any host, until they go on.

What runs is finished. What a supervisor has claimed and no worker has begun goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from jobsup.models import Job, Queue, Status
from jobsup.pools import QUEUE_CHARS_MAX
from jobsup.store import Store

PAUSE = "pause"
"""The word by which supervisors are told."""


def pause(store: Store, names: Sequence[str]) -> list[str]:
    """Pause queues; return those that were not paused before. Joins the caller's transaction.

    Args:
        store: the jobs.
        names: of the queues, whether or not there is a job in them.

    Raises:
        ValueError: one of them cannot be the name of a queue.
    """
    wanted = _checked(names)
    queues, now = Queue.objects.using(store.alias), store.sql.now()

    def paused() -> list[str]:
        queues.bulk_create([Queue(name=name) for name in wanted], ignore_conflicts=True)
        changed = [name for name in wanted if queues.filter(name=name, paused_at=None).update(paused_at=now)]
        if changed:
            store.sql.notify(PAUSE)
        return changed

    return store.sql.together(paused)


def resume(store: Store, names: Sequence[str]) -> list[str]:
    """Let queues go on; return those that were paused. Joins the caller's transaction.

    Args:
        store: the jobs.
        names: of the queues.

    Raises:
        ValueError: one of them cannot be the name of a queue.
    """
    wanted = _checked(names)
    queues = Queue.objects.using(store.alias).filter(paused_at__isnull=False)

    def resumed() -> list[str]:
        changed = [name for name in wanted if queues.filter(name=name).update(paused_at=None)]
        if changed:
            store.sql.notify()
        return changed

    return store.sql.together(resumed)


def paused(store: Store) -> dict[str, datetime]:
    """Return the queues that are paused, and since when."""
    queues = Queue.objects.using(store.alias).order_by("name").values_list("name", "paused_at")
    return {name: paused_at for name, paused_at in queues if paused_at is not None}


def paused_jobs(store: Store, run: int) -> list[int]:
    """Return the jobs of a run whose queue is paused."""
    if not (names := list(paused(store))):
        return []
    jobs = Job.objects.using(store.alias).filter(status=Status.RUNNING, claimed_by=run, queue__in=names)
    return list(jobs.values_list("pk", flat=True))


def _checked(names: Sequence[str]) -> list[str]:
    for name in [names] if isinstance(names, str) else names:
        if name is names or not 0 < len(name) <= QUEUE_CHARS_MAX or "\0" in name:
            raise ValueError(f"{name!r} is no name of a queue: expected 1 to {QUEUE_CHARS_MAX} characters")
    return list(dict.fromkeys(names))
