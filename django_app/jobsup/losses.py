"""What is told of jobs whose worker ended: the supervisor's facts, as the store takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobsup.conf import worker_id
from jobsup.errors import JobCancelled, JobTimeout, MemoryLimitExceeded
from jobsup.store import WORKER_LOST, LostAttempt
from jobsup.text import class_path
from spawnpool.source import Loss
from spawnpool.states import Ended

CAUSES = {
    Ended.TIMED_OUT: class_path(JobTimeout),
    Ended.OVER_MEMORY: class_path(MemoryLimitExceeded),
    Ended.CANCELLED: class_path(JobCancelled),
}
"""The class that stands for each cause in a job's errors; `WORKER_LOST` for all others."""


def lost_attempts(losses: Sequence[Loss], node: str) -> Iterator[LostAttempt]:
    """Yield the account of each loss.

    Args:
        losses: what the supervisor lost.
        node: the name of its machine.
    """
    for loss in losses:
        yield LostAttempt(
            loss.pk,
            worker_id(node, loss.worker, loss.pid),
            loss.tell("{job}") + (f"\n\n{loss.stack}" if loss.stack else ""),
            loss.ran_s,
            at_once=loss.ended in (Ended.STOPPED, Ended.FENCED),
            exception=CAUSES.get(loss.ended, WORKER_LOST),
            by_a_limit=loss.ended.by_a_limit,
        )
