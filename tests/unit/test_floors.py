"""What a claimer remembers of where ready and scheduled jobs begin, and how often it looks at what is before."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from jobsup.sql.postgresql.floors import (
    ABOVE_ALL,
    BELOW_ALL,
    DEAD_FEW,
    DEAD_MAX,
    DUES_SLOW_S,
    LAST_KEY,
    MARGIN,
    SHARE,
    SPAN_MIN,
    Dues,
    Floors,
    Step,
    Stretch,
    Taken,
)

TOP = 5 * SPAN_MIN
MOMENT = datetime(2030, 1, 1, tzinfo=UTC)


def begun(*, short: bool = False) -> Floors:
    """Return what is known after a look that took a job of priority 7, many of 5 and one of 2."""
    floors = Floors()
    taken = [Taken(TOP - 9_000, 7, 0, "a"), Taken(TOP, 5, 0, "a"), Taken(TOP - 8_000, 2, 0, "a")]
    floors.begin(taken, ["a"], short=short)
    return floors


def test_a_walk_looks_between_the_priorities_and_begins_at_their_floors() -> None:
    """Those above the lowest one that was taken were seen to the end; the lowest as far as it was taken."""
    assert list(begun().steps(["a"])) == [
        Step("a", ABOVE_ALL, 7, TOP - MARGIN, LAST_KEY),
        Step("a", 7, 5, TOP - MARGIN, LAST_KEY),
        Step("a", 5, 2, TOP - 8_000 - MARGIN, LAST_KEY),
        Step("a", 2, BELOW_ALL, 0, LAST_KEY),
    ]
    assert begun(short=True).after["a"][2] == TOP - MARGIN
    assert list(begun().steps(["b"])) == [Step("b", ABOVE_ALL, BELOW_ALL, 0, LAST_KEY)]


def test_looks_behind_take_their_share_of_the_time_and_go_down_to_the_beginning() -> None:
    """Step by step; when there was next to nothing dead everything is forgotten, else they begin again."""
    for dead, steps in ((DEAD_MAX + 1, TOP // SPAN_MIN), (0, 3)):  # where nothing is dead they grow
        floors, now = begun(), 100.0
        seen: list[Stretch] = []
        for _ in range(steps):
            [stretch] = floors.behind(now)
            seen.append(stretch)
            floors.looked([stretch], dead, full=False, took_s=0.01, now=now)
            now += 0.01 * (1 / SHARE - 1)
            assert stretch.after <= 0 or floors.behind(now - 0.001) == []
        assert seen[0] == Stretch(TOP - SPAN_MIN, TOP)
        assert seen[-1].after <= 0
        assert all(later.upto == earlier.after for earlier, later in pairwise(seen))
        assert floors.active is (dead > DEAD_FEW)


def test_what_is_worth_it_is_gone_on_with_by_every_other_claim() -> None:
    """As long as there is more than was wanted; a claim that finds nothing new goes there in any case."""
    floors = begun()
    [stretch] = floors.behind(1.0)
    floors.looked([stretch], 10, full=True, took_s=9.0, now=1.0)
    assert floors.behind(1.0) == []
    assert floors.behind(1.0) == [stretch]
    floors.looked([stretch], 10, full=True, took_s=9.0, now=1.0)
    assert floors.behind(1.0, idle=True) == [stretch]


def test_who_finds_nothing_new_looks_at_the_newest_in_any_case() -> None:
    """That neither puts off the look that goes on, nor is done all the time."""
    floors = begun()
    [stretch] = floors.behind(0.0)
    floors.looked([stretch], 10, full=False, took_s=0.1, now=0.0)
    assert floors.behind(0.5, idle=True) == [Stretch(TOP - SPAN_MIN, TOP)]
    floors.looked([Stretch(TOP - SPAN_MIN, TOP)], 10, full=False, took_s=0.1, now=0.5)
    assert floors.behind(0.6, idle=True) == []
    assert floors.behind(0.1 * (1 / SHARE - 1)) == [Stretch(stretch.after - 2 * SPAN_MIN, stretch.after)]


def test_jobs_that_were_put_back_are_looked_for_first() -> None:
    """Neighbours together; none while everything is looked at anyway."""
    floors = begun()
    floors.put_back([5000, 10, 11, 11 + MARGIN, 9000])
    found = floors.behind(0.0)
    assert found == [Stretch(9, 11 + MARGIN), Stretch(4999, 5000), Stretch(8999, 9000)]
    assert Step("a", None, 5, 9, 11 + MARGIN) in list(floors.steps_behind(found, ["a"]))
    floors.looked(found, 0, full=False, took_s=0.0, now=0.0)
    assert floors.behind(0.0) == [Stretch(TOP - SPAN_MIN, TOP)]
    unknown = Floors()
    unknown.put_back([1])
    assert unknown == Floors()


def test_looks_at_all_scheduled_jobs_are_made_as_long_as_they_are_quick() -> None:
    """A slow one is not made again before it is a small share of the time."""
    dues = Dues()
    dues.looked(MOMENT, everything=True, begun=0.0, now=DUES_SLOW_S / 2)
    assert dues.after(0.02) is None
    dues.looked(MOMENT, everything=True, begun=1.0, now=2.0)
    assert dues.after(2.0 + 0.9 / SHARE) == MOMENT
    assert dues.after(2.0 + 1 / SHARE) is None
