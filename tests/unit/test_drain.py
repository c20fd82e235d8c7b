"""The account of a drain: in words, as data, and as the machine gives it."""

from __future__ import annotations

import json

import pytest

from spawnpool import events as e
from spawnpool.drain import DrainReport
from spawnpool.states import StopReason, SupervisorState
from tests.unit.puppet import Job
from tests.unit.stories import at_work, boot_all, finish, learn_short_keys, on_duty, start, wait_until


def test_a_drain_of_nothing_says_so() -> None:
    """All three numbers, whatever they are."""
    assert DrainReport().words() == "drain report: 0 finished, 0 given back, 0 cut short"


def test_the_words_name_keys_and_how_long_those_that_were_cut_short_had_run() -> None:
    """A key without a time had returned, and only its end was not recorded."""
    report = DrainReport(finished=[7, 8], given_back=[9], cut_short=[(3, 12.34), (4, None)])
    assert report.words() == (
        "drain report: 2 finished (7, 8), 1 given back (9), 2 cut short (3 after 12.3 s, 4)"
    )  # fmt: skip


@pytest.mark.parametrize(("count", "words"), [(10, "8, 9)"), (11, "8, 9 and 1 more)"), (1000, "8, 9 and 990 more)")])
def test_a_long_list_is_cut_in_words(count: int, words: str) -> None:
    """A log line stays one that can be read."""
    named = DrainReport(given_back=list(range(count))).words()
    assert f"{count} given back (0, 1, 2, 3, 4, 5, 6, 7, {words}, " in named


def test_the_data_is_whole_and_can_be_written_as_json() -> None:
    """Whoever waits for the drain gets every key."""
    report = DrainReport(finished=list(range(50)), cut_short=[(3, 12.34), (4, None)])
    data = json.loads(json.dumps(report.as_data()))
    assert data == {
        "finished": list(range(50)),
        "given_back": [],
        "cut_short": [{"pk": 3, "ran_s": 12.34}, {"pk": 4, "ran_s": None}],
        "words": report.words(),
    }


def test_a_drain_reports_every_key_that_was_held_once() -> None:
    """One finishes, one is cut short at the end of the grace, those behind them are given back."""
    world = on_duty(2, grace_s=5)
    learn_short_keys(world)
    world.add_keys(6)
    world.feed(e.Woken())
    for wid in (1, 2):
        start(world, world.puppets[wid])
    first, second = (world.puppets[wid].running for wid in (1, 2))
    held = world.machine.holding()
    world.stop(StopReason.DRAIN)
    finish(world, world.puppets[1])
    while world.machine.state is not SupervisorState.STOPPED:
        world.reap()
        world.tick_to_deadline()
        for puppet in world.puppets.values():
            if puppet.running is None:
                puppet.act(1)
    assert world.report is not None
    assert world.report.finished == [first]
    assert world.report.cut_short == [(second, 5.0)]
    assert sorted(world.report.given_back) == sorted(held - {first, second})


def test_keys_of_before_the_stop_are_not_reported() -> None:
    """What finished, died or was given back earlier is not the drain's doing."""
    world = on_duty(1, keys=1)
    start(world, world.puppets[1])
    world.puppets[1].code = -9
    world.reap()
    boot_all(world)
    world.tick()
    start(world, world.puppets[2])
    finish(world, world.puppets[2])
    world.stop(StopReason.DRAIN)
    world.puppets[2].act(1)
    world.reap()
    assert world.report == DrainReport()


def test_a_stop_at_once_reports_what_it_cut_short() -> None:
    """QUIT: with the time that each had run."""
    world = at_work(Job())
    wait_until(world, 1003)
    world.stop(StopReason.NOW)
    world.reap()
    assert world.report == DrainReport(cut_short=[(1, 3.0)])


def test_a_claim_that_is_answered_after_the_stop_is_given_back() -> None:
    """The keys are ours from that moment, and nobody begins them any more."""
    world = on_duty(1)
    world.answers_late = True
    world.add_keys(2)
    world.feed(e.Woken())
    world.feed(e.StopAsked(StopReason.DRAIN))
    world.answer_late_claim()
    world.puppets[1].act(1)
    world.reap()
    assert world.report == DrainReport(given_back=[1])
    assert sorted(world.waiting) == [1, 2]


def test_an_end_for_want_of_work_has_a_report_too() -> None:
    """With nothing held there is nothing to tell."""
    world = on_duty(1, exit_when_empty=True)
    world.puppets[1].act(1)
    world.reap()
    assert (world.code, world.report) == (0, DrainReport())


def test_a_key_whose_end_was_recorded_before_the_stop_is_not_reported_as_cut_short() -> None:
    """QUIT while SETTLED waits in the pipe: reports of an ENDING worker are thrown away."""
    world = at_work(Job())
    world.puppets[1].act(1)  # recorded, said, unread
    world.puppets[1].stubborn = True
    world.stop(StopReason.NOW)
    while world.report is None:
        world.tick_to_deadline()
        world.reap()
    assert world.report.finished == [1], world.report
