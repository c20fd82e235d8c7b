"""The limits of a job as the text of a report: what was meant arrives, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spawnpool.bounds import NO_BOUNDS, Bounds
from spawnpool.reports import Kind, decode, encode

seconds = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)
bounds = st.builds(
    Bounds, st.none() | seconds.filter(bool), seconds, st.none() | st.integers(min_value=1, max_value=2**50)
)


@given(sent=bounds)
@settings(max_examples=60, derandomize=True, database=None, deadline=None)
def test_bounds_arrive_as_they_were_sent(sent: Bounds) -> None:
    """To the millisecond and to the byte, within one report."""
    (report,) = decode(bytearray(encode(Kind.BOUNDS, text=sent.encode())))
    assert Bounds.decode(report.text) == sent


def test_no_limit_is_no_limit() -> None:
    """None is not 0 seconds or 0 bytes."""
    assert Bounds.decode(NO_BOUNDS.encode()) == NO_BOUNDS == Bounds(None, 10.0, None)


@pytest.mark.parametrize("timeout_s", [0.0, 0.0004])
def test_a_tiny_time_out_is_not_taken_for_none(timeout_s: float) -> None:
    """Rounded to what a report can say, it is still a time-out."""
    assert Bounds.decode(Bounds(timeout_s).encode()).timeout_s == 0.001


@pytest.mark.parametrize(
    "text", ["", "1 2", "1 2 3 4", "a 2 3", "1 2 3.5", "nan 2 3", "1 inf 3", "-1 2 3", "1 -2 3", "1 2 -3"]
)
def test_m5_what_no_job_can_have_is_refused(text: str) -> None:
    """A deadline of nan would never come, and never let another one come."""
    with pytest.raises(ValueError, match=r"limits|convert|literal|unpack"):
        Bounds.decode(text)
