"""Which ends a worker's main thread leaves to its helper thread, and which it records itself."""

from __future__ import annotations

import time

from jobsup.models import Status
from jobsup.recorder import SHORT_JOBS, Entry
from tests.db.rows import success
from tests.db.test_recorder import NOT_FOR_LUCK_S, Ends, ends
from tests.support import eventually

__all__ = ["ends"]  # a fixture


def test_ends_are_handed_over_to_the_helper_where_that_leaves_the_main_thread_time(ends: Ends) -> None:
    """Unless only one session can write at a time: then the main thread would wait for the helper."""
    pks = ends.claim(3)
    for pk in pks:
        ends.keep(success(pk), told=False)
    assert ends.recorder.hand_over() == ends.store.sql.several_may_write
    if ends.store.sql.several_may_write:
        eventually(lambda: ends.settled == pks[-1:], NOT_FOR_LUCK_S, "the report")
    ends.recorder.flush()
    assert ends.settled == pks[-1:]
    assert [ends.status(pk) for pk in pks] == [Status.SUCCESSFUL] * 3


def test_ends_of_which_somebody_is_told_are_not_handed_over(ends: Ends) -> None:
    """The main thread tells, and would do so only after the last of many jobs."""
    quiet, told = ends.claim(2)
    ends.keep(success(quiet), told=False)
    ends.keep(success(told))
    assert not ends.recorder.hand_over()
    ends.recorder.flush()
    assert ends.recorded == [told]


def test_ends_of_very_short_jobs_are_not_handed_over(ends: Ends) -> None:
    """Such jobs leave the interpreter's lock to nobody."""
    for pk in ends.claim(SHORT_JOBS):
        ends.keep(success(pk), told=False)
    assert not ends.recorder.hand_over()
    assert ends.settled == []


def test_ends_that_their_jobs_have_committed_are_not_handed_over(ends: Ends) -> None:
    """There is nothing to wait for."""
    [pk] = ends.claim(1)
    now = time.monotonic()
    ends.recorder.keep(Entry(pk, None, now, now, committed=True))
    assert not ends.recorder.hand_over()
    ends.recorder.flush()
    assert ends.settled == [pk]
