"""Verdicts: what becomes of a job after an attempt that did not succeed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.models import Status
from jobsup.verdicts import RETRY_MAX_S, Verdict, after_exception, after_loss, retry_delay_s

ATTEMPTS = st.integers(1, 1000)
LIMITS = st.none() | ATTEMPTS


def test_the_delay_doubles_up_to_an_hour() -> None:
    """1, 2, 4 ... 3600 seconds, however high the attempt."""
    assert [retry_delay_s(attempt) for attempt in (1, 2, 3, 4, 12, 13, 1000)] == [1, 2, 4, 8, 2048, 3600, 3600]


@given(ATTEMPTS)
def test_delays_never_shrink_and_are_bounded(attempt: int) -> None:
    """For every attempt that there can be."""
    assert 1 <= retry_delay_s(attempt) <= retry_delay_s(attempt + 1) <= RETRY_MAX_S


def test_an_exception_is_final_unless_more_attempts_are_declared() -> None:
    """None and 1 mean the same here: a function that raised is not called again."""
    assert after_exception(1, None) == Verdict(Status.FAILED)
    assert after_exception(1, 1) == Verdict(Status.FAILED)
    assert after_exception(1, 2) == Verdict(Status.SCHEDULED, 1.0)
    assert after_exception(3, 2) == Verdict(Status.FAILED)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_loss_is_tried_again_without_a_declaration(at_once: bool) -> None:  # noqa: FBT001
    """Up to the limit for crashes; at once where the job was not the cause."""
    again = Verdict(Status.READY) if at_once else Verdict(Status.SCHEDULED, 2.0)
    assert after_loss(2, None, 5, at_once=at_once) == again
    assert after_loss(5, None, 5, at_once=at_once) == Verdict(Status.FAILED)
    assert after_loss(2, 2, 5, at_once=at_once) == Verdict(Status.FAILED)
    assert after_loss(2, 3, 1, at_once=at_once) == again, "a declaration is stronger than the limit for crashes"


@given(ATTEMPTS, LIMITS, ATTEMPTS, st.booleans())
def test_no_job_runs_more_often_than_its_limit(
    attempt: int,
    limit: int | None,
    crashes: int,
    at_once: bool,  # noqa: FBT001
) -> None:
    """Whatever ended the attempts (promise 2)."""
    lost, raised = after_loss(attempt, limit, crashes, at_once=at_once), after_exception(attempt, limit)
    assert (lost.status is Status.FAILED) == (attempt >= (limit or crashes))
    assert (raised.status is Status.FAILED) == (attempt >= (limit or 1))
