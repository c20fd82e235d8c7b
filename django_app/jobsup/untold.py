"""Jobs that ended by no worker's hand, of which nobody has told the receivers of `task_finished` yet.

Receivers are users' code and run in workers, never in a supervisor; those of a job that was cancelled while it waited
run where that was done. Whoever is to tell of a job takes it first, so that each is told of once: should he die while
he tells, it is not told of again, for it may be what killed him.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from django.db import transaction

from jobsup.models import Job, Status, Supervisor
from jobsup.results import result_of, task_of
from jobsup.runs import OVER
from jobsup.store import Store
from jobsup.telling import tell_ended
from jobsup.text import summary

ENDED = (Status.FAILED, Status.CANCELLED)
_log = logging.getLogger("jobsup.worker")


def untold_of(store: Store, run: int) -> list[int]:
    """Return the jobs that the workers of a run are to tell of."""
    jobs = Job.objects.using(store.alias).filter(untold=True, claimed_by=run)
    return list(jobs.order_by("pk").values_list("pk", flat=True))


def adopt(store: Store, run: int) -> bool:
    """Have a run tell of what nobody else is going to: its run is over; tell whether there was anything."""
    living = list(Supervisor.objects.using(store.alias).exclude(state__in=OVER).values_list("pk", flat=True))
    abandoned = Job.objects.using(store.alias).filter(untold=True).exclude(claimed_by__in=living)
    return abandoned.exists() and store.sql.insisting(lambda: abandoned.update(claimed_by=run)) > 0


def take(store: Store, pks: Sequence[int], run: int | None = None) -> set[int]:
    """Take jobs in order to tell of them; return those that nobody else has taken.

    Args:
        store: where they are.
        pks: the jobs.
        run: whose they must be; None: anybody's.
    """
    jobs = Job.objects.using(store.alias).filter(pk__in=pks, untold=True, status__in=ENDED)
    if run is not None:
        jobs = jobs.filter(claimed_by=run)

    def taken() -> set[int]:
        if not jobs.update(untold=True):  # a write that changes nothing locks them, on every vendor
            return set()
        mine = set(jobs.values_list("pk", flat=True))
        Job.objects.using(store.alias).filter(pk__in=mine).update(untold=False)
        return mine

    return store.sql.together(taken)


def tell_at_commit(store: Store, pks: Sequence[int]) -> None:
    """Tell of those of these jobs that were cancelled while they waited, here, as soon as that is certain.

    Where a transaction is managed by hand nobody can say when that is: a worker tells then.
    """
    connection = store.sql.connection
    if connection.in_atomic_block or connection.get_autocommit():
        transaction.on_commit(partial(_tell, store, pks), using=store.alias)


def _tell(store: Store, pks: Sequence[int]) -> None:
    if not (taken := take(store, pks)):
        return
    for row, failures in store.get_many(sorted(taken)):
        try:
            tell_ended(result_of(task_of(row), row, failures))
        except Exception as error:  # noqa: BLE001  # its task is gone; it is cancelled all the same
            _log.warning("job %d %s is cancelled, but telling so failed: %s", row.id, row.task, summary(error))
