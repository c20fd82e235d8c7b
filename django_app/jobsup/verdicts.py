"""What becomes of a job after an attempt that did not succeed. Pure."""

from __future__ import annotations

from typing import NamedTuple

from jobsup.models import Status

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 3600.0


class Verdict(NamedTuple):
    """A job's next status and, where it is tried again later, the delay in seconds."""

    status: Status
    delay_s: float = 0.0


def retry_delay_s(attempt: int) -> float:
    """Return how long to wait after attempt `attempt` (1, 2, ...): 1, 2, 4 ... 3600 seconds."""
    return float(min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(attempt - 1, 20)))


def after_exception(attempt: int, max_attempts: int | None) -> Verdict:
    """Judge a job whose function raised; only a declared `max_attempts` has it tried again."""
    if max_attempts is None or attempt >= max_attempts:
        return Verdict(Status.FAILED)
    return Verdict(Status.SCHEDULED, retry_delay_s(attempt))


def after_loss(attempt: int, max_attempts: int | None, crash_attempts: int, *, at_once: bool) -> Verdict:
    """Judge a job whose worker ended on it; a violent death counts as an attempt.

    Args:
        attempt: the attempt that ended.
        max_attempts: what its task declares.
        crash_attempts: the limit for a task that declares nothing.
        at_once: whether it goes back to the queue without a delay: the job was not the cause.
    """
    if attempt >= (max_attempts or crash_attempts):
        return Verdict(Status.FAILED)
    return Verdict(Status.READY) if at_once else Verdict(Status.SCHEDULED, retry_delay_s(attempt))
