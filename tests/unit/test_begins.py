"""Each begin of a worker is told once and in its place, whether the card or the lane said it first."""

from __future__ import annotations

import pytest

from spawnpool.begins import Begins
from spawnpool.card import Begin
from spawnpool.reports import AMOUNT_MAX, Kind, Report

RETURNED = Report(Kind.RETURNED)


def started(count: int, key: int) -> Report:
    """Make what stands on a lane before the next report."""
    return Report(Kind.STARTED, key, count)


def test_a_begin_that_only_the_card_tells_comes_last() -> None:
    """All that was reported before it has been read by then, the limits that it has among them."""
    begins, begin, bounds = Begins(), Begin(1, 70, 99.5), Report(Kind.BOUNDS, text="1 1 0")
    assert begins.are_new(begin)
    assert list(begins.tell([bounds], begin, 100.0)) == [bounds, Report(Kind.STARTED, 70, 500_000)]
    assert not begins.are_new(begin)
    assert list(begins.tell([], begin, 101.0)) == []


def test_what_the_card_has_told_is_not_told_again_by_the_lane() -> None:
    """The report that stands before the next one is late news then."""
    begins = Begins()
    list(begins.tell([], Begin(1, 70, 100.0), 100.0))
    assert list(begins.tell([started(1, 70), RETURNED], Begin(1, 70, 100.0), 100.1)) == [RETURNED]


def test_a_begin_that_the_lane_tells_as_well_comes_before_what_was_reported_after_it() -> None:
    """The card was read, then the key returned, and then the lane was read."""
    told = list(Begins().tell([started(3, 72), RETURNED], Begin(3, 72, 100.0), 100.25))
    assert told == [Report(Kind.STARTED, 72, 250_000), RETURNED]


def test_what_the_lane_tells_beyond_the_card_is_told_with_no_moment() -> None:
    """It began after the card was read."""
    told = list(Begins().tell([started(2, 71), RETURNED], Begin(1, 70, 100.0), 100.5))
    assert told == [Report(Kind.STARTED, 71, 0), RETURNED]


def test_nothing_is_told_of_a_worker_that_has_begun_nothing() -> None:
    """Nor of a begin that is being written."""
    begins = Begins()
    assert not begins.are_new(None)
    assert list(begins.tell([RETURNED], None, 100.0)) == [RETURNED]


def test_two_threads_that_say_the_same_begin_are_told_as_one() -> None:
    """The second one may even come after that of a later key."""
    told = list(
        Begins().tell([started(1, 70), RETURNED, started(2, 71), RETURNED, started(1, 70), RETURNED], None, 1.0)
    )
    assert told == [Report(Kind.STARTED, 70), RETURNED, Report(Kind.STARTED, 71), RETURNED, RETURNED]


@pytest.mark.parametrize("count", [AMOUNT_MAX, AMOUNT_MAX + 1, AMOUNT_MAX + 2, 7 * AMOUNT_MAX])
def test_a_worker_that_has_begun_more_keys_than_a_report_can_count_goes_on(count: int) -> None:
    """The lower 32 bits are compared."""
    begins = Begins()
    begins._count = (count - 1) & AMOUNT_MAX
    assert begins.are_new(Begin(count, 70, 1.0))
    assert [report.key for report in begins.tell([], Begin(count, 70, 1.0), 1.0)] == [70]
    assert not begins.are_new(Begin(count, 70, 1.0))
