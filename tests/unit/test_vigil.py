"""When a supervisor looks for work, and when it does not want to be woken; no clock, no database."""

from __future__ import annotations

import pytest

from jobsup.vigil import CALLS_MAX, DEAF_LOOK_S, ELSEWHERE_S, HUSH_S, HUSHED_LOOK_MAX_S, QUIET_S, Vigil

SHORTEST_S, LONGEST_S = 0.005, 5.0
NOW = 1000.0


def overwhelmed() -> Vigil:
    """Return one that has just been woken too often."""
    vigil = Vigil(SHORTEST_S)
    vigil.called(CALLS_MAX + 1, NOW)
    return vigil


def test_who_is_told_of_all_looks_seldom() -> None:
    """Also right after a job was found: whoever enqueues the next one will call."""
    vigil = Vigil(SHORTEST_S)
    assert vigil.pause_s(NOW, LONGEST_S) == LONGEST_S
    vigil.called(1, NOW)
    vigil.looked(NOW, found=True, told_of_all=True)
    assert vigil.pause_s(NOW, LONGEST_S) == LONGEST_S


def test_p11_who_is_called_too_often_wants_to_be_left_alone() -> None:
    """Somewhat less than a hundred calls a second are borne, more are not; whether they come one by one or together."""
    vigil = Vigil(SHORTEST_S)
    for number in range(100):
        vigil.called(1, NOW + number / 95)
    assert not vigil.hushes(NOW + 1)
    vigil.called(CALLS_MAX + 1, NOW + 2)
    assert vigil.hushes(NOW + 2)
    assert vigil.pause_s(NOW + 2, LONGEST_S) == SHORTEST_S
    assert not vigil.hushes(NOW + 2 + HUSH_S), "tried again now and then"


def test_p11_a_hush_ends_when_there_is_nothing_to_find() -> None:
    """Not at the first empty look, and not while nobody looks, since all workers are busy."""
    vigil = overwhelmed()
    vigil.looked(NOW + 0.1, found=True, told_of_all=True)
    vigil.looked(NOW + 0.2, found=False, told_of_all=True)
    assert vigil.hushes(NOW + 0.1 + QUIET_S + 1)
    vigil.looked(NOW + 0.1 + QUIET_S, found=False, told_of_all=True)
    assert not vigil.hushes(NOW + 0.1 + QUIET_S)


@pytest.mark.parametrize("open_s", [0.02, 0.3, 2.0, 15.0])
def test_p10_p11_what_is_committed_late_is_found_soon(open_s: float) -> None:
    """What was inserted during a hush and committed after it, unheard: late by a share of the time it took."""
    vigil = overwhelmed()
    vigil.looked(NOW, found=True, told_of_all=True)
    now = NOW
    while now < NOW + open_s:
        vigil.looked(now, found=False, told_of_all=True)
        now += vigil.pause_s(now, LONGEST_S)
    assert now - (NOW + open_s) <= max(SHORTEST_S, open_s / 3)


def test_looks_become_as_seldom_as_they_were() -> None:
    """And there are not many until then."""
    vigil = overwhelmed()
    now, looks = NOW, 0
    while (pause_s := vigil.pause_s(now, LONGEST_S)) < LONGEST_S:
        now, looks = now + pause_s, looks + 1
        vigil.looked(now, found=False, told_of_all=True)
    assert looks < 60
    assert now < NOW + 30


def test_who_is_told_of_nothing_looks_as_often_as_there_was_work() -> None:
    """Where nobody can call, or not from everywhere."""
    vigil = Vigil(SHORTEST_S)
    assert vigil.pause_s(NOW, 1.0) == 1.0
    vigil.looked(NOW, found=True, told_of_all=False)
    pauses = [vigil.pause_s(NOW + after_s, 1.0) for after_s in (0, 0.1, 1, 3.9, 4, 3600)]
    assert pauses == pytest.approx([SHORTEST_S, 0.025, 0.25, 0.975, 1.0, 1.0])


def test_work_that_nobody_called_for_is_expected_from_there_for_a_day() -> None:
    """Whoever is on the same machine calls, and then looks are rare; from another one nobody can call."""
    vigil = Vigil(SHORTEST_S)
    vigil.called(1, NOW)
    vigil.looked(NOW, found=True, told_of_all=False)
    assert vigil.pause_s(NOW + 3600, LONGEST_S) == LONGEST_S
    vigil.looked(NOW, found=True, told_of_all=False, unheard=True)
    assert vigil.pause_s(NOW + 0.1, LONGEST_S) < DEAF_LOOK_S
    assert vigil.pause_s(NOW + ELSEWHERE_S - 1, LONGEST_S) == DEAF_LOOK_S
    assert vigil.pause_s(NOW + ELSEWHERE_S, LONGEST_S) == LONGEST_S


def test_where_everybody_can_call_a_lost_call_changes_nothing() -> None:
    """What was found without one was told of all the same."""
    vigil = Vigil(SHORTEST_S)
    vigil.looked(NOW, found=True, told_of_all=True, unheard=True)
    assert vigil.pause_s(NOW, LONGEST_S) == LONGEST_S


def test_p11_a_hush_of_another_supervisor_is_a_reason_to_look_often() -> None:
    """Nobody calls this one then either, however long the other goes on, or hangs."""
    vigil = Vigil(SHORTEST_S)
    vigil.looked(NOW, found=False, told_of_all=True, others_hush=True)
    assert vigil.pause_s(NOW + 60, LONGEST_S) == HUSHED_LOOK_MAX_S
    vigil.looked(NOW + 60, found=True, told_of_all=True)
    assert vigil.pause_s(NOW + 60, LONGEST_S) == SHORTEST_S
    vigil.looked(NOW + 61, found=False, told_of_all=True)
    assert vigil.pause_s(NOW + 120, LONGEST_S) == LONGEST_S
