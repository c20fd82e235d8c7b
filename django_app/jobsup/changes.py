"""What people change of jobs that exist: they are tried anew, get another priority, are removed.

Every statement says in its condition which jobs it may change, so that nobody's claim or end is ever written over.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import F

from jobsup import unique
from jobsup.models import Job, Status
from jobsup.queries import ENDED, OPEN
from jobsup.store import Store

AGAIN = (Status.FAILED, Status.CANCELLED)
"""What can be tried anew."""


def retry(store: Store, pks: Sequence[int]) -> list[int]:
    """Put failed and cancelled jobs back to the queue, with all their attempts before them.

    The number of the attempt goes on, so that what is told of earlier ones stays; they do not count any more. A job
    whose unique key another one has by now goes on without it.

    Args:
        store: where they are.
        pks: the jobs; those that have not failed and are not cancelled are left alone.

    Returns:
        Those that are ready now.
    """
    jobs = Job.objects.using(store.alias).filter(status__in=AGAIN)

    def retried() -> list[int]:
        found = _locked(store, pks, AGAIN)
        now = store.sql.now()  # since then it waits

        def again() -> int:
            return jobs.filter(pk__in=found).update(
                status=Status.READY,
                run_after=now,
                uncounted=F("attempt"),
                worker="",
                result=None,
                finished_at=None,
                cancel_asked_at=None,
                ready_at=None,
                ready_message=None,
                untold=False,
            )

        if found:
            unique.giving_way(store.alias, found, again)
            if store.notify:
                store.sql.notify()
        return found

    return store.sql.together(retried)


def reprioritise(store: Store, pks: Sequence[int], priority: int) -> list[int]:
    """Give jobs that have not ended another priority; return which those are.

    Args:
        store: where they are.
        pks: the jobs.
        priority: -100 (last) to 100 (first).
    """
    jobs = Job.objects.using(store.alias).filter(pk__in=pks, status__in=OPEN)

    def changed() -> list[int]:
        jobs.update(priority=priority)
        return sorted(jobs.values_list("pk", flat=True))

    return store.sql.together(changed)


def remove(store: Store, pks: Sequence[int]) -> int:
    """Remove jobs that have ended, with the accounts of their attempts; return how many.

    Args:
        store: where they are.
        pks: the jobs; those that have not ended are left alone.
    """

    def removed() -> int:
        found = _locked(store, pks, ENDED)
        Job.objects.using(store.alias).filter(pk__in=found).only("pk").delete()
        return len(found)

    return store.sql.together(removed)


def _locked(store: Store, pks: Sequence[int], statuses: Sequence[Status]) -> list[int]:
    """Return those of these jobs that are in one of these statuses, locked by a write, so that they stay there."""
    jobs = Job.objects.using(store.alias).filter(pk__in=pks, status__in=statuses)
    jobs.update(claimed_by=None)
    return sorted(jobs.values_list("pk", flat=True))
