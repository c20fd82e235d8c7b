"""Running what waits, as supervisors and workers would."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta

from django.utils import timezone

from jobsup.models import Job, Status
from jobsup.results import JobsupResult
from jobsup.store import Store
from jobsup.testing.inprocess import InProcess, in_process, the_stores

ATTEMPTS_MAX = 1000
"""How many attempts are run at most when no limit is given."""


def run_pending(
    *,
    queue: str | Sequence[str] | None = None,
    limit: int | None = None,
    advance: bool | timedelta | datetime = False,
    raise_errors: bool = False,
) -> list[JobsupResult]:
    """Run the jobs that are due, and those that these enqueue, until none is left; return their results.

    They run here, one after the other, on the connection and in the transaction of the caller. A job that fails fails
    for itself only; one that is to be tried again is scheduled, and due when its time has come.

    Args:
        queue: whose jobs, one name or several; None for every queue.
        limit: how many attempts to run at most.
        advance: how far to go on to scheduled jobs, in the order of their times and without waiting: by this long, to
            this moment, or, with True, as far as there are any.
        raise_errors: whether to stop at the first exception of a job and raise it, once it is recorded.

    Returns:
        The result of each job that ran, in the order of their first attempts here, as they stand at the end.

    Raises:
        ImproperlyConfigured: no backend of TASKS is jobsup's.
        RuntimeError: there is more to do after 1000 attempts and no limit was given: a job enqueues itself.
        ValueError: `advance` is a datetime without a time zone and USE_TZ is on, or the reverse.
    """
    queues = [queue] if isinstance(queue, str) else None if queue is None else list(queue)
    ran: list[tuple[InProcess, int]] = []
    with ExitStack() as stack:
        everywhere = [stack.enter_context(in_process(store, raise_errors=raise_errors)) for store in the_stores()]
        stores = [here.store for here in everywhere]
        until = _until(advance, stores[0])
        while limit is None or len(ran) < limit:
            claimed = next(((here, pk) for here in everywhere if (pk := here.claim(queues)) is not None), None)
            if claimed is None:
                promoted = sum(store.sql.promote() for store in stores)
                if promoted or (advance is not False and _promote_next(stores, queues, until)):
                    continue
                break
            here, pk = claimed
            if limit is None and len(ran) >= ATTEMPTS_MAX:
                here.store.release(here.run_id, [pk])
                raise RuntimeError(
                    f"{ATTEMPTS_MAX} attempts were run and there are more: does a job enqueue itself? Give a limit"
                )
            ran.append(claimed)
            here.run(pk)
        return [result for here, pk in dict.fromkeys(ran) for result in here.results([pk])]


def _until(advance: bool | timedelta | datetime, store: Store) -> datetime | None:  # noqa: FBT001  # the caller's own
    """Return up to which moment scheduled jobs are due; None for no bound."""
    if isinstance(advance, timedelta):
        return store.sql.now() + advance
    if isinstance(advance, datetime):
        if timezone.is_naive(advance) is not timezone.is_naive(timezone.now()):
            raise ValueError(f"advance is {advance!r}: with USE_TZ it needs a time zone, and without it none")
        return advance
    return None


def _promote_next(stores: Sequence[Store], queues: Sequence[str] | None, until: datetime | None) -> bool:
    """Make those scheduled jobs ready whose time comes first; False if that is too late or there are none."""
    everywhere = [Job.objects.using(store.alias).filter(status=Status.SCHEDULED) for store in stores]
    if queues is not None:
        everywhere = [scheduled.filter(queue__in=queues) for scheduled in everywhere]
    times = [jobs.order_by("run_after").values_list("run_after", flat=True).first() for jobs in everywhere]
    due_at = min((time for time in times if time is not None), default=None)
    if due_at is None or (until is not None and due_at > until):
        return False
    return sum(jobs.filter(run_after=due_at).update(status=Status.READY) for jobs in everywhere) > 0
