"""Verdicts: what becomes of a job after an attempt that did not succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.models import Status
from jobsup.verdicts import (
    CLAIMS_MAX,
    DELAY_MIN_S,
    FAILED,
    Policy,
    Verdict,
    after_exception,
    after_loss,
    after_retry,
    after_snooze,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ATTEMPTS = st.integers(1, 1000)
NAMES = st.sampled_from([(), ("a",), ("b",), ("a", "b")])
POLICIES = st.builds(
    Policy,
    max_attempts=st.none() | ATTEMPTS,
    backoff=st.none() | st.just(5.0),
    retry_on=st.none() | NAMES,
    discard_on=NAMES,
)
ANY = Policy(max_attempts=3)


def ended_by(name: str) -> Callable[[Sequence[str]], bool]:
    """Return how an error is known of which this is the only name."""
    return lambda names: name in names


def in_five() -> float | None:
    """Wait for five seconds."""
    return 5.0


def never() -> float | None:
    """Have no further attempt."""
    return None


def not_asked() -> float | None:
    """Fail: it is nobody's business how long one would wait."""
    raise AssertionError


AGAIN = Verdict(Status.SCHEDULED, 5.0)


@pytest.mark.parametrize(
    ("policy", "name", "again"),
    [
        (Policy(), "a", False),
        (Policy(max_attempts=2), "a", True),
        (Policy(max_attempts=1), "a", False),
        (Policy(backoff=5.0), "a", True),
        (Policy(retry_on=("a",)), "a", True),
        (Policy(retry_on=("a",)), "b", False),
        (Policy(max_attempts=2, retry_on=()), "a", False),
        (Policy(max_attempts=2, retry_on=("a",), backoff=5.0), "b", False),
        (Policy(max_attempts=2, discard_on=("a",)), "a", False),
        (Policy(max_attempts=2, discard_on=("a",)), "b", True),
        (Policy(max_attempts=2, retry_on=("a",), discard_on=("a",)), "a", False),
        (Policy(discard_on=("a",)), "b", False),
    ],
)
def test_an_exception_is_final_unless_the_task_declares_more(policy: Policy, name: str, again: bool) -> None:  # noqa: FBT001
    """Any one of three options asks for more attempts; `retry_on` says after which, `discard_on` is the stronger."""
    verdict = after_exception(1, policy.limit(5), policy, ended_by(name), in_five if again else not_asked)
    assert verdict == (AGAIN if again else FAILED)


def test_the_last_attempt_is_the_last() -> None:
    """Whatever the delays would be."""
    assert after_exception(2, 3, ANY, ended_by("a"), in_five) == AGAIN
    assert after_exception(3, 3, ANY, ended_by("a"), not_asked) == FAILED
    assert after_exception(4, 3, ANY, ended_by("a"), not_asked) == FAILED
    assert after_exception(1, 3, ANY, ended_by("a"), never) == FAILED


def test_one_that_asks_for_it_is_tried_again_whatever_is_declared() -> None:
    """Up to its limit, which everybody has."""
    assert after_retry(1, Policy().limit(5), in_five) == AGAIN
    assert after_retry(5, Policy().limit(5), not_asked) == FAILED
    assert after_retry(1, Policy(max_attempts=1).limit(5), not_asked) == FAILED
    assert after_retry(1, 5, never) == FAILED


def test_a_snooze_does_not_count_but_ends_before_its_column_does() -> None:
    """However often: a number that no column takes would stop the queue."""
    assert after_snooze(1, 60.0) == Verdict(Status.SCHEDULED, 60.0, uncounted=True)
    assert after_snooze(CLAIMS_MAX - 1, 60.0).uncounted
    assert after_snooze(CLAIMS_MAX, 60.0) == FAILED
    assert CLAIMS_MAX + 2000 < 2**15


def test_nobody_is_back_before_his_end_was_heard_of() -> None:
    """A delay of 0 is a short one."""
    at_once: Any = lambda: 0.0  # noqa: E731
    for verdict in (
        after_exception(1, 3, ANY, ended_by("a"), at_once),
        after_retry(1, 3, at_once),
        after_snooze(1, 0.0),
        after_loss(1, 3, ANY, ended_by("a"), at_once, at_once=False),
    ):
        assert (verdict.status, verdict.delay_s) == (Status.SCHEDULED, DELAY_MIN_S)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_loss_is_tried_again_without_a_declaration(at_once: bool) -> None:  # noqa: FBT001
    """Up to the limit for crashes, and whatever `retry_on` says of exceptions; `discard_on` ends it."""
    again = Verdict(Status.READY) if at_once else AGAIN
    lost = ended_by("lost")
    for policy in (Policy(), Policy(retry_on=("a",)), Policy(retry_on=()), Policy(max_attempts=3, discard_on=("a",))):
        assert after_loss(2, policy.limit(5), policy, lost, in_five, at_once=at_once) == again
    assert after_loss(5, Policy().limit(5), Policy(), lost, not_asked, at_once=at_once) == FAILED
    assert after_loss(2, Policy(2).limit(5), Policy(2), lost, not_asked, at_once=at_once) == FAILED
    assert after_loss(2, Policy(3).limit(1), Policy(3), lost, in_five, at_once=at_once) == again, "declared: stronger"
    for policy in (Policy(discard_on=("lost",)), Policy(max_attempts=9, retry_on=("lost",), discard_on=("lost",))):
        assert after_loss(1, policy.limit(5), policy, lost, not_asked, at_once=at_once) == FAILED


@given(ATTEMPTS, POLICIES, ATTEMPTS, st.sampled_from(["a", "b", "c"]), st.booleans(), st.none() | st.floats(0, 1e6))
def test_no_job_runs_more_often_than_its_limit(
    attempt: int,
    policy: Policy,
    crashes: int,
    name: str,
    at_once: bool,  # noqa: FBT001
    delay_s: float | None,
) -> None:
    """Whatever ended the attempts, whatever is declared (promise 2); and who is tried again waits as he should."""
    limit = policy.limit(crashes)
    assert limit == (policy.max_attempts or crashes)
    named = ended_by(name)
    verdicts = (
        after_exception(attempt, limit, policy, named, lambda: delay_s),
        after_retry(attempt, limit, lambda: delay_s),
        after_loss(attempt, limit, policy, named, lambda: delay_s, at_once=at_once),
    )
    for verdict in verdicts:
        if attempt >= limit:
            assert verdict == FAILED
        if verdict.status is Status.SCHEDULED:
            assert delay_s is not None
            assert verdict.delay_s == max(DELAY_MIN_S, delay_s)
        assert not verdict.uncounted
    if name in policy.discard_on:
        assert verdicts[0] == verdicts[2] == FAILED
