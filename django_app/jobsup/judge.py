"""Judges jobs whose attempt did not succeed, by what their rows and tasks say of trying them again."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from jobsup.errors import RowUnreadable
from jobsup.models import Job
from jobsup.options import options_of
from jobsup.retries import (
    ASKS_ITS_DECLARATION,
    DEFAULT_BACKOFF,
    Backoff,
    Discard,
    Retry,
    Snooze,
    declared_at,
    is_named,
    names_in_line,
    seconds,
)
from jobsup.sql import LoadedRow
from jobsup.text import summary
from jobsup.verdicts import FAILED, Policy, Verdict, after_exception, after_loss, after_retry, after_snooze

_log = logging.getLogger("jobsup.worker")


Judged = LoadedRow | Job
"""Where a job's number of attempts and its options stand."""


@lru_cache(maxsize=1024)
def policy_of(max_attempts: int | None, options: str | None) -> Policy:
    """Return what a job's row says of trying it again; where that cannot be read, nobody knows, and it is not."""
    try:
        given = options_of(options)
    except RowUnreadable:
        return Policy(max_attempts=1)
    kept = json.loads(options) if options else {}
    return Policy(
        max_attempts,
        given.get("backoff", kept.get("backoff")),
        given["retry_on"],
        given["discard_on"] or (),
    )


class Judge:
    """The judge of one process.

    Args:
        crash_attempts: the limit of attempts for jobs whose task declares none; see `Conf`.
        draw: where chance comes from: returns a number from 0 up to 1, without 1.
    """

    def __init__(self, crash_attempts: int, draw: Callable[[], float] = random.random) -> None:
        self._crash_attempts, self._draw = crash_attempts, draw

    def limit(self, row: Judged) -> int:
        """Return how many attempts of a job may count."""
        return policy_of(row.max_attempts, row.options).limit(self._crash_attempts)

    def raised(self, row: Judged, result: Any, error: BaseException) -> Verdict:
        """Judge a job that raised; in a worker, where its own code may be asked.

        Args:
            row: the job.
            result: its `TaskResult` as it stands; None if it did not come so far.
            error: what it raised.
        """
        policy, attempt, limit = policy_of(row.max_attempts, row.options), row.attempt - row.uncounted, self.limit(row)
        delay_s: Callable[[], float | None] = partial(self._delay_s, row, policy, result, error)
        match error:
            case Discard():
                return FAILED
            case Snooze():
                verdict = after_snooze(row.attempt, error.delay_s() or 0.0)
                if not verdict.uncounted:
                    error.add_note(f"that is too often: it was claimed {row.attempt} times")
                return verdict
            case Retry():
                after_s = error.delay_s()
                return after_retry(attempt, limit, delay_s if after_s is None else lambda: after_s)
        return after_exception(attempt, limit, policy, partial(_is_named, type(error)), delay_s)

    def lost(self, row: Judged, kind: type[BaseException], *, by_a_limit: bool, at_once: bool) -> Verdict:
        """Judge a job whose worker ended; in a supervisor, where no code of a task is imported.

        Args:
            row: the job.
            kind: the class that stands for the cause.
            by_a_limit: whether the job outgrew its time-out or its memory: that is judged as if it had raised `kind`.
            at_once: whether it goes back to the queue without a delay.
        """
        policy, attempt, limit = policy_of(row.max_attempts, row.options), row.attempt - row.uncounted, self.limit(row)
        named = partial(is_named, kind)
        backoff = DEFAULT_BACKOFF if isinstance(policy.backoff, str) else _as_backoff(policy.backoff)
        delay_s = partial(backoff.delay_s, attempt, self._draw)
        if by_a_limit:
            return after_exception(attempt, limit, policy, named, delay_s)
        return after_loss(attempt, limit, policy, named, delay_s, at_once=at_once)

    def _delay_s(self, row: Judged, policy: Policy, result: Any, error: BaseException) -> float | None:
        """Return how long a job waits for its next attempt; None for no further one."""
        backoff = policy.backoff
        if isinstance(backoff, str):
            if result is not None:
                try:
                    return _asked(backoff, result, error)
                except BaseException as failure:  # noqa: BLE001  # it is the task's code; the job must not be lost for it
                    _log.warning(
                        "job %d %s: its backoff is of no use, and the default is taken: %s",
                        row.id, row.task, summary(failure),
                    )  # fmt: skip
            backoff = None
        return _as_backoff(backoff).delay_s(row.attempt - row.uncounted, self._draw)


def _asked(backoff: str, result: Any, error: BaseException) -> float | None:
    """Return what a task's own function says."""
    function = result.task.backoff if backoff == ASKS_ITS_DECLARATION else declared_at(backoff)
    if not callable(function):
        raise TypeError("it is no function any more")
    answer = function(error, result)
    try:
        return None if answer is None else seconds(answer)
    except (TypeError, ValueError) as failure:
        raise type(failure)(f"it returned {answer!r}: {failure}") from None


def _as_backoff(backoff: Any) -> Backoff:
    """Return the delays that an option stands for which is no function."""
    if backoff is None:
        return DEFAULT_BACKOFF
    return backoff if isinstance(backoff, Backoff) else Backoff(base=backoff, factor=1, max=backoff, jitter=0)


def _is_named(kind: type[BaseException], names: Sequence[str]) -> bool:
    """Tell as `is_named`, also where a class is named by another path than that of the module that defines it."""
    if is_named(kind, names):
        return True
    for name in set(names) - names_in_line(kind):
        try:
            found = declared_at(name)
        except BaseException as error:  # noqa: BLE001  # a module may raise anything while it is imported
            _log.warning("the exception %s cannot be found: %s", name, summary(error))
            continue
        if isinstance(found, type) and issubclass(kind, found):
            return True
    return False
