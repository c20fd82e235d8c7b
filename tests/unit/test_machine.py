"""The machine, one story at a time: recall, quiet, drain, back-off, windows, the ladder, accounts."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.machine import Machine
from spawnpool.reports import Kind, Report
from spawnpool.states import Ended, StopReason, SupervisorState
from tests.unit.stories import boot_all, finish, learn_short_keys, on_duty, start
from tests.unit.world import World

if TYPE_CHECKING:
    pass


# ---- boot and back-off


def test_failed_boots_back_off_up_to_a_minute() -> None:
    """1, 2, 4 ... 60 s lie between the boots of a worker that cannot."""
    world = World(Limits(workers=1))
    world.tick()
    for _ in range(8):
        next(iter(world.puppets.values())).fail_boot()
        world.reap()
        while not world.puppets:
            world.tick_to_deadline()
    times = [at for at, _ in world.spawns]
    assert [round(later - at, 3) for at, later in pairwise(times)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert any("could not boot: ImportError: no module; next try in 60 s" in text for text in world.said)


@pytest.mark.parametrize(("stubborn", "ends_at", "code"), [(False, 1007, -6), (True, 1009, -9)])
def test_s9_a_boot_that_hangs_is_ended_at_its_deadline_and_backs_off(
    *, stubborn: bool, ends_at: float, code: int
) -> None:
    """BOOTING has a limit of its own, boot_timeout_s, and the ladder follows: where it hung is worth knowing."""
    world = World(Limits(workers=1, boot_timeout_s=7))
    world.tick()
    world.puppets[1].stubborn = stubborn
    while world.puppets[1].code is None:
        world.tick_to_deadline()
    assert (world.now, world.puppets[1].code) == (ends_at, code)
    world.reap()
    assert any("could not boot: not ready after 7 s; next try in 1 s" in text for text in world.said)
    world.tick(0.9)
    assert len(world.spawns) == 1
    world.tick(0.1)
    assert len(world.spawns) == 2


def test_a_worker_killed_at_work_is_replaced_at_once() -> None:
    """Back-off is for boots only, and READY ends it."""
    world = on_duty(1, keys=1)
    for wid in (1, 2, 3):
        start(world, world.puppets[wid])
        world.puppets[wid].code = -9
        world.reap()
        assert world.spawns[-1] == (world.now, 1)
        boot_all(world)
        world.tick()
    assert world.finished == {1}, "the third attempt is the last"


def test_a_spawn_that_fails_backs_off_and_says_so() -> None:
    """No descriptors or processes left: the next try comes after the back-off, in words."""
    world = World(Limits(workers=1))
    world.spawn_fails = True
    for _ in range(4):
        world.tick_to_deadline()
    assert [at - 1000 for at, _ in world.spawns] == [0, 1, 3]
    assert any("no descriptors" in text and "next try in 2 s" in text for text in world.said)


# ---- windows


def test_long_keys_go_out_one_at_a_time() -> None:
    """A key that takes longer than the window has nothing waiting behind it."""
    world = on_duty(2)
    learn_short_keys(world, us=200_000)
    world.add_keys(10)
    world.feed(e.Woken())
    assert [len(member.window) for member in world.machine.members.values()] == [1, 1]
    assert not world.machine.spare


def test_short_keys_go_out_many_at_a_time() -> None:
    """As many as take about window_s together, and never more than window_max."""
    world = on_duty(2)
    learn_short_keys(world, us=1000)
    world.add_keys(500)
    world.feed(e.Woken())
    assert [len(member.window) for member in world.machine.members.values()] == [50, 50]


def test_the_window_has_a_limit_however_short_the_keys_are() -> None:
    """One pipe must hold what waits."""
    world = on_duty(1, window_max=20)
    learn_short_keys(world, us=1)
    world.add_keys(500)
    world.feed(e.Woken())
    assert len(world.machine.members[1].window) == 20


# ---- recall


def two_keys_behind_a_slow_one() -> World:
    """Return a world in which worker 1 runs a key with two waiting behind it and worker 2 is free."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(3)
    world.feed(e.Woken())
    world.feed(e.ResizeAsked(+1))
    start(world, world.puppets[1])
    boot_all(world)
    assert len(world.machine.members[1].window) == 3
    return world


def test_a_key_behind_a_slow_job_goes_to_the_free_worker_once() -> None:
    """After recall_after_s the unstarted keys move over; the slow one stays."""
    world = two_keys_behind_a_slow_one()
    world.tick_to_deadline()
    assert round(world.now - 1000, 3) == 0.02
    assert [list(member.window) for member in world.machine.members.values()] == [[4], [5, 6]]
    for _ in range(9):
        world.act(world.puppets[2], 1)
    world.deliver_all()
    assert world.finished == {1, 2, 3, 5, 6}


def test_a_worker_gets_nothing_until_it_dropped_what_was_recalled() -> None:
    """Its next hand carries the epoch that it said it waits for; older hands are dead letters."""
    world = two_keys_behind_a_slow_one()
    world.tick_to_deadline()
    world.add_keys(1000)
    world.feed(e.Woken())
    assert len(world.machine.members[1].window) == 1
    finish(world, world.puppets[1])
    assert not world.machine.members[1].window
    while not any(report.kind is Kind.EMPTIED for report in world.puppets[1].pipe):
        world.act(world.puppets[1], 0)
    world.deliver(world.puppets[1])
    world.tick()
    epoch, pks = next(message for message in world.puppets[1].lane if message)
    assert (epoch, bool(pks)) == (1, True)


def test_a_recall_that_comes_too_late_does_not_talk_in_circles() -> None:
    """The permit is taken and STARTED not read yet: nothing comes back, and the loop must go on to read."""
    world = on_duty(2, keys=1)
    puppet = world.puppets[1]
    while puppet.running is None:
        world.act(puppet, 0)
    world.tick(0.5)
    world.deliver(puppet)
    assert world.machine.members[1].running() == 1


# ---- quiet, drain, end


def test_quiet_gives_back_what_is_unstarted_and_continue_claims_at_once() -> None:
    """TSTP takes no new work and lets what runs go on; CONT takes work again."""
    world = two_keys_behind_a_slow_one()
    world.feed(e.QuietAsked(quiet=True))
    assert list(world.waiting) == [5, 6]
    finish(world, world.puppets[1])
    world.act(world.puppets[1], 0)
    world.deliver_all()
    world.tick(60)
    assert not world.claimed
    world.feed(e.QuietAsked(quiet=False))
    assert world.claimed


def test_a_drain_lets_running_keys_finish_and_gives_the_rest_back() -> None:
    """TERM: nothing is lost, nothing more begins, the last worker's death is the end."""
    world = two_keys_behind_a_slow_one()
    world.feed(e.StopAsked(StopReason.DRAIN))
    assert world.machine.state is SupervisorState.DRAINING
    assert list(world.waiting) == [5, 6]
    for _ in range(6):
        for puppet in list(world.puppets.values()):
            world.act(puppet, 1)
        world.reap()
    assert (world.machine.state, world.code, world.finished) == (SupervisorState.STOPPED, 0, {1, 2, 3, 4})


def test_a_drain_ends_a_booting_worker_at_once() -> None:
    """It holds nothing and nobody wants to know where it is: SIGKILL, not the ladder."""
    world = World(Limits(workers=1))
    world.tick()
    world.feed(e.StopAsked(StopReason.DRAIN))
    assert world.puppets[1].code == -9
    world.reap()
    assert world.machine.state is SupervisorState.STOPPED


def test_the_ladder_is_abort_and_two_seconds_later_kill() -> None:
    """A job that is cut short by a stop is told as STOPPED, not as its own death."""
    world = on_duty(1, keys=1)
    start(world, world.puppets[1])
    actions = world.machine.step(e.StopAsked(StopReason.NOW), world.now)
    assert e.Abort(1) in actions
    assert e.Kill(1) not in world.machine.step(e.Tick(), world.now + 1.9)
    assert e.Kill(1) in world.machine.step(e.Tick(), world.now + 2)
    losses = [a for a in world.machine.step(e.Died(1, 0, -9, "was killed"), world.now + 3) if isinstance(a, e.Lose)]
    assert [(loss.pk, loss.ran_s, loss.ended) for loss in losses[0].losses] == [(1, 3, Ended.STOPPED)]


def test_a_weaker_stop_never_softens_a_stronger_one() -> None:
    """Urgency only rises."""
    world = on_duty(1, keys=1)
    world.feed(e.StopAsked(StopReason.NOW))
    world.feed(e.StopAsked(StopReason.DRAIN))
    assert (world.machine.reason, world.machine.state) == (StopReason.NOW, SupervisorState.KILLING)


def test_it_ends_by_itself_when_nothing_is_left() -> None:
    """exit_when_empty: the last settled key is followed by one more question, then by a drain."""
    world = on_duty(2, keys=3, exit_when_empty=True)
    for _ in range(30):
        for puppet in list(world.puppets.values()):
            world.act(puppet, 1)
        world.deliver_all()
        world.reap()
        world.tick()
    assert (world.code, world.finished) == (0, {1, 2, 3})
    assert world.now == 1000, "it waited for a poll that it did not need"


# ---- accounts


def test_a_key_that_runs_for_a_while_is_marked_once() -> None:
    """Short keys are never written down; long ones once."""
    world = on_duty(1, keys=1)
    start(world, world.puppets[1])
    marks = [a for s in (0.4, 0.5, 0.6, 9) for a in world.machine.step(e.Tick(), 1000 + s) if isinstance(a, e.Mark)]
    assert len(marks) == 1


def test_a_key_whose_job_returned_is_lost_without_a_running_time() -> None:
    """The worker died between RETURNED and SETTLED: not the job's fault, and it is told so."""
    machine = lane_of_three()
    machine.step(e.Reported(1, [Report(Kind.STARTED, 1), Report(Kind.STARTED, 2), Report(Kind.RETURNED)]), 1005)
    actions = machine.step(e.Died(1, 1, -9, "was killed"), 1006)
    assert [(loss.pk, loss.ran_s) for a in actions if isinstance(a, e.Lose) for loss in a.losses] == [
        (1, None),
        (2, None),
    ]
    assert list(machine.spare) == [3]


def test_a_key_that_was_begun_without_a_word_is_told_as_running() -> None:
    """The worker died between its permit and its STARTED: begun by the permits, for no time at all."""
    machine = lane_of_three()
    actions = machine.step(e.Died(1, 2, -9, "was killed"), 1006)
    assert [(loss.pk, loss.ran_s) for a in actions if isinstance(a, e.Lose) for loss in a.losses] == [(1, 0)]
    assert list(machine.spare) == [2, 3]


def lane_of_three() -> Machine:
    """Return a machine whose only worker has the keys 1, 2 and 3 before it."""
    machine = Machine(Limits(workers=1), 1000)
    machine.step(e.Tick(), 1000)
    machine.step(e.Reported(1, [Report(Kind.READY)]), 1000)
    machine.members[1].sent([1, 2, 3], 1000)
    return machine


@pytest.mark.parametrize(
    "report",
    [Report(Kind.STARTED, 9), Report(Kind.SETTLED, 1), Report(Kind.LIMIT, 5, 99), Report(Kind.BOUNDS, text="nan 1 1")],
    ids=[
        "started what was not sent",
        "settled before it started",
        "a limit that does not exist",
        "bounds of no job",
    ],
)
def test_m5_a_worker_that_says_what_cannot_be_is_ended(report: Report) -> None:
    """It is replaced, its keys are accounted for, nobody else is touched."""
    machine = lane_of_three()
    assert e.Abort(1) in machine.step(e.Reported(1, [report]), 1000)
    assert machine.members[1].ended is Ended.EXPELLED
