"""The window of one worker: begun, settled, taken back, split at death."""

from __future__ import annotations

import pytest

from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.errors import BrokenReport
from spawnpool.member import DOUBT_S, Member
from spawnpool.states import WorkerState


def busy(*pks: int, begun: int = 0) -> Member:
    """Return a worker with these keys before it, the first few of them begun."""
    member = Member(1, 1, 0, WorkerState.SERVING, None)
    member.sent(pks, 1.0)
    for pk in pks[:begun]:
        member.begin(pk, 2.0)
    return member


def test_settling_a_key_settles_all_before_it() -> None:
    """One report accounts for a batch."""
    member = busy(1, 2, 3, begun=2)
    assert member.settle(2, 3.0) == [1, 2]
    assert (list(member.window), member.started, member.returned, member.done) == ([3], 0, True, 2)


def test_settling_an_earlier_key_leaves_the_running_one() -> None:
    """A recorder's thread may record the last job while the next one runs."""
    member = busy(1, 2, 3, begun=2)
    member.settle(1, 3.0)
    assert member.running() == 2


def test_taking_back_never_touches_what_was_begun() -> None:
    """However many are asked for, only unstarted ones come, in their order."""
    member = busy(1, 2, 3, 4, begun=2)
    assert member.take_back(9) == [3, 4]
    assert member.recalled
    assert list(member.window) == [1, 2]


def test_taking_nothing_back_leaves_the_worker_as_it_was() -> None:
    """It will not say EMPTIED, so nobody may wait for that."""
    member = busy(1, begun=1)
    assert member.take_back(3) == []
    assert not member.recalled


@pytest.mark.parametrize(("unstarted", "begun"), [(3, []), (2, [1]), (0, [1, 2, 3])])
def test_a_death_is_split_by_the_permits_that_are_left(unstarted: int, begun: list[int]) -> None:
    """The permit was taken though STARTED was never read: begun."""
    member = busy(1, 2, 3)
    assert member.split_at_death(unstarted) == (begun, [pk for pk in (1, 2, 3) if pk not in begun])


def test_a_key_that_begins_tells_of_all_before_it() -> None:
    """Reports of keys that came and went meanwhile may have been left out."""
    member = busy(1, 2, 3)
    member.begin(2, 1.0)
    assert (member.running(), member.unstarted) == (2, 1)
    with pytest.raises(BrokenReport, match="does not wait on its lane"):
        member.begin(1, 1.0)
    assert member.settle(2, 1.0) == [1, 2]


def test_a_key_that_was_not_sent_cannot_be_begun_or_settled() -> None:
    """A report that contradicts the lane is no report."""
    with pytest.raises(BrokenReport, match="does not wait on its lane"):
        busy(1).begin(2, 1.0)
    with pytest.raises(BrokenReport, match="has not started"):
        busy(1).settle(1, 1.0)
    with pytest.raises(BrokenReport, match="does not wait on its lane"):
        busy().begin(1, 1.0)


def test_a_worker_is_free_only_when_it_could_begin_right_now() -> None:
    """Not with keys before it, not while it drops recalled ones, not while it boots or leaves."""
    assert busy().free
    assert not busy(1).free
    recalled = busy(1)
    recalled.take_back(1)
    assert not recalled.free
    assert not Member(1, 1, 0, WorkerState.BOOTING, None).free


def test_a_key_that_begins_has_its_own_limits_and_no_history() -> None:
    """What was told last holds from the next start on; whatever was done about the key before is over."""
    member = busy(1, 2, 3, begun=1)
    member.bounds = Bounds(5, 3, 7)
    assert (member.held_to, member.patience_until) == (NO_BOUNDS, None)
    member.begin(2, 10.0)
    assert (member.held_to, member.patience_until) == (Bounds(5, 3, 7), 15.0)
    member.cancelled, member.interrupted, member.bounds = True, Interrupt.TIMEOUT, NO_BOUNDS
    member.begin(3, 20.0)
    assert (member.cancelled, member.interrupted, member.patience_until) == (False, Interrupt.NONE, None)


def test_a_worker_that_runs_nothing_should_say_something_now_and_then() -> None:
    """Free or loading: in time; maybe recording: in twice the time; busy: never; doubted: soon."""
    member = busy()
    member.heard_at = 100.0
    assert member.silent_at(25) == 125
    member.sent([1], 110.0)
    assert member.silent_at(25) == 125
    member.begin(1, 120.0)
    assert member.silent_at(25) is None
    member.returned = True
    assert member.silent_at(25) == 150
    member.settle(1, 130.0)
    member.doubted_at = 131.0
    assert (member.doubted, member.silent_at(25)) == (True, 131.0 + DOUBT_S)
    member.heard_at = 131.0  # what it said had waited to be read
    assert (member.doubted, member.silent_at(25)) == (False, 156.0)
    member.state = WorkerState.LEAVING
    assert member.silent_at(25) is None
