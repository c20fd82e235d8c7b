"""What becomes of a job after an attempt that did not succeed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jobsup.models import Status

CLAIMS_MAX = 30_000
"""How often a job may be claimed in all, with its snoozes; the column of the attempt's number ends at 32767."""
DELAY_MIN_S = 0.1
"""How long a job waits at least: its supervisor hears of the end of one attempt before it can take the next."""

IsNamed = Callable[[Sequence[str]], bool]
"""Tells whether what ended the attempt is among these exceptions."""
Delay = Callable[[], float | None]
"""Returns how long to wait for the next attempt, in seconds; None: there is to be none."""


class Verdict(NamedTuple):
    """A job's next status and, where it is tried again later, the delay in seconds.

    `uncounted` says that the attempt does not count.
    """

    status: Status
    delay_s: float = 0.0
    uncounted: bool = False


FAILED = Verdict(Status.FAILED)


class Policy(NamedTuple):
    """What a job's row says of trying it again; see `jobsup.task.JobsupTask`."""

    max_attempts: int | None = None
    backoff: Any = None
    retry_on: Sequence[str] | None = None
    discard_on: Sequence[str] = ()

    def retries(self, named: IsNamed) -> bool:
        """Tell whether an exception is one that is to be followed by another attempt, as long as there are any."""
        if named(self.discard_on):
            return False
        if self.retry_on is not None:
            return named(self.retry_on)
        return self.max_attempts is not None or self.backoff is not None

    def limit(self, crash_attempts: int) -> int:
        """Return how many attempts there may be; `crash_attempts` where the task declares no number."""
        return self.max_attempts or crash_attempts


def after_exception(attempt: int, limit: int, policy: Policy, named: IsNamed, delay_s: Delay) -> Verdict:
    """Judge a job whose function raised; only what its task declares has it tried again.

    Args:
        attempt: how many attempts there were, this one included, of those that count.
        limit: how many there may be.
        policy: what the task declares.
        named: whether the exception is among some.
        delay_s: how long to wait; asked only if it is to be tried again.
    """
    return _again(attempt, limit, delay_s) if policy.retries(named) else FAILED


def after_retry(attempt: int, limit: int, delay_s: Delay) -> Verdict:
    """Judge a job that asked to be tried again: whatever its task declares, up to its limit."""
    return _again(attempt, limit, delay_s)


def after_snooze(claims: int, delay_s: float) -> Verdict:
    """Judge a job that asked to run later as if it had not run yet; `claims` is how often it was claimed in all."""
    return FAILED if claims >= CLAIMS_MAX else Verdict(Status.SCHEDULED, max(DELAY_MIN_S, delay_s), uncounted=True)


def after_loss(attempt: int, limit: int, policy: Policy, named: IsNamed, delay_s: Delay, *, at_once: bool) -> Verdict:
    """Judge a job whose worker ended on it; a violent death counts as an attempt, and is tried again unless discarded.

    Args:
        attempt: how many attempts there were, this one included, of those that count.
        limit: how many there may be.
        policy: what the task declares.
        named: whether the error that stands for the loss is among some.
        delay_s: how long to wait.
        at_once: whether it goes back to the queue without a delay: the job was not the cause.
    """
    if named(policy.discard_on):
        return FAILED
    verdict = _again(attempt, limit, delay_s)
    return Verdict(Status.READY) if at_once and verdict.status is Status.SCHEDULED else verdict


def _again(attempt: int, limit: int, delay_s: Delay) -> Verdict:
    if attempt >= limit:
        return FAILED
    after_s = delay_s()
    return FAILED if after_s is None else Verdict(Status.SCHEDULED, max(DELAY_MIN_S, after_s))
