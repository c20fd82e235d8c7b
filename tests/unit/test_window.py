"""How many keys wait where: pace, demand and fair dealing."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.states import WorkerState
from spawnpool.window import Pace, deal, demand

quick = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def member(wid: int, held: int = 0, state: WorkerState = WorkerState.SERVING, *, recalled: bool = False) -> Member:
    """Return a worker with so many keys before it."""
    return Member(wid, wid, 0, state, None, window=deque(range(-held, 0)), recalled=recalled)


@given(keys=st.integers(0, 60), held=st.lists(st.integers(0, 12), max_size=5), window=st.integers(1, 10))
@quick
def test_dealing_forgets_nothing_doubles_nothing_and_fills_no_window_over(
    keys: int, held: list[int], window: int
) -> None:
    """Every key is dealt once or stays, and stays only where no worker has room."""
    members = [member(wid, count) for wid, count in enumerate(held)]
    spare = deque(range(keys))
    dealt = {taker.wid: pks for taker, pks in deal(spare, members, window)}
    assert sorted(pk for pks in dealt.values() for pk in pks) + list(spare) == list(range(keys))
    for each in members:
        assert len(each.window) + len(dealt.get(each.wid, [])) <= max(window, len(each.window))
        assert not spare or len(each.window) + len(dealt.get(each.wid, [])) >= window


def test_keys_are_dealt_in_even_shares() -> None:
    """Three keys for three free workers: one each, not three for the first."""
    assert [pks for _, pks in deal(deque([1, 2, 3]), [member(wid) for wid in range(3)], 50)] == [[1], [2], [3]]


def test_who_does_not_serve_or_was_recalled_gets_nothing() -> None:
    """Booting, leaving and ending workers, and those that have not dropped what was taken back."""
    others = [member(n, state=state) for n, state in enumerate(WorkerState) if state is not WorkerState.SERVING]
    assert list(deal(deque([1]), [*others, member(9, recalled=True)], 50)) == []
    assert demand([*others, member(9, recalled=True)], 50) == 0


def test_demand_begins_when_a_window_is_half_empty_and_fills_all() -> None:
    """Claims come in batches, before anybody runs dry."""
    assert demand([member(1, 6), member(2, 10)], 10) == 0
    assert demand([member(1, 5), member(2, 8)], 10) == 7
    assert demand([member(1, 1)], 1) == 0
    assert demand([member(1, 0)], 1) == 1


def test_the_pace_follows_the_keys_of_late() -> None:
    """From nothing known, to short, to long within a few dozen keys."""
    pace = Pace(Limits())
    assert pace.window() == 1
    pace.settled(100, 0.1)
    assert pace.window() == 50
    for _ in range(30):
        pace.settled(1, 1.0)
    assert pace.window() == 1
