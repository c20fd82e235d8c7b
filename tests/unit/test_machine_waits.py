"""The machine, one story at a time: keys that wait behind long jobs, and answers that come at a bad moment."""

from __future__ import annotations

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.machine import Machine
from spawnpool.reports import Kind, Report
from spawnpool.states import WorkerState
from tests.unit.stories import learn_short_keys, on_duty, start


def test_keys_behind_a_long_job_go_back_to_the_source_when_nobody_is_free() -> None:
    """Other supervisors may be idle; and nothing is claimed again while the only worker is busy for long."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(3)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    assert len(world.machine.members[1].window) == 3
    for _ in range(40):
        world.tick(0.1)
    assert list(world.machine.members[1].window) == [4]
    assert not world.machine.spare
    assert sorted(world.waiting) == [5, 6]


def ready(machine: Machine, wid: int) -> None:
    """Let a worker be on duty."""
    machine.step(e.Reported(wid, [Report(Kind.READY)]), 0.0)


def test_a_job_that_began_just_before_its_worker_was_asked_to_leave_is_not_cut_short() -> None:
    """Its start is told after the stop: the deadline for an idle worker does not hold for it."""
    machine = Machine(Limits(workers=2), 0.0)
    machine.step(e.Tick(), 0.0)
    for wid in (1, 2):
        ready(machine, wid)
    machine.step(e.Claimed([5], 1, None), 0.0)
    [wid] = [member.wid for member in machine.members.values() if member.window]
    machine.step(e.ResizeAsked(-1), 0.1)
    if machine.members[wid].state is not WorkerState.LEAVING:
        machine.step(e.ReloadAsked(), 0.1)
        new = max(machine.members)
        ready(machine, new)
    machine.step(e.TakenBack(wid, 0), 0.1)
    machine.step(e.Reported(wid, [Report(Kind.STARTED, 5)]), 0.1)
    assert machine.members[wid].state is WorkerState.LEAVING
    actions = machine.step(e.Tick(), 1000.0)
    assert not [action for action in actions if isinstance(action, e.Abort) and action.wid == wid]


def test_nothing_is_sent_between_asking_keys_back_and_the_answer() -> None:
    """Else the answer would cut off the wrong keys."""
    machine = Machine(Limits(workers=1, window_s=10.0), 0.0)
    machine.step(e.Tick(), 0.0)
    ready(machine, 1)
    for pk in (1, 2):
        machine.step(e.Claimed([pk], 1, None), 0.0)
        machine.step(e.Reported(1, [Report(Kind.STARTED, pk), Report(Kind.SETTLED, pk, 100)]), 0.0)
    machine.step(e.Claimed([3, 4, 5], 3, None), 0.0)
    machine.step(e.Reported(1, [Report(Kind.STARTED, 3)]), 0.0)
    actions = machine.step(e.QuietAsked(quiet=True), 0.01)
    assert [action.most for action in actions if isinstance(action, e.TakeBack)] == [2]
    actions = machine.step(e.QuietAsked(quiet=False), 0.01)
    actions += machine.step(e.Claimed([6], 1, None), 0.01)
    assert not [action for action in actions if isinstance(action, e.Send)]
    machine.step(e.TakenBack(1, 2), 0.01)
    assert list(machine.members[1].window) == [3]
    assert sorted(machine.holding()) == [3, 4, 5, 6]


def test_a_key_that_comes_again_is_not_lost_with_the_worker_that_had_recorded_its_end() -> None:
    """The worker is on the ladder and its reports are not read any more; the new claim proves what it had done."""
    machine = Machine(Limits(workers=2), 0.0)
    machine.step(e.Tick(), 0.0)
    for wid in (1, 2):
        ready(machine, wid)
    machine.step(e.Claimed([5], 2, None), 0.0)
    [wid] = [member.wid for member in machine.members.values() if member.window]
    machine.step(e.Reported(wid, [Report(Kind.STARTED, 5)]), 0.0)
    machine.step(e.Babbled(wid, "it sent rubbish"), 0.0)
    machine.step(e.Claimed([5], 1, None), 1.5)
    actions = machine.step(e.Died(wid, 0, -9, "was killed by SIGKILL"), 2.0)
    assert not [action for action in actions if isinstance(action, e.Lose)]
    assert machine.holding() == {5}


def test_a_quiet_supervisor_waits_while_a_long_job_runs() -> None:
    """No deadline that nobody keeps, or the loop would turn without a pause."""
    world = on_duty(1)
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    world.feed(e.QuietAsked(quiet=True))
    world.tick(1.0)
    deadline = world.machine.next_deadline()
    assert deadline is not None
    assert deadline > world.now


def test_a_key_is_not_bounced_between_two_free_workers_that_load_slowly() -> None:
    """Loading takes 30 ms (a far database): it must be started within a second all the same."""
    world = on_duty(2)
    world.add_keys(1)
    world.feed(e.Woken())
    loaded_at: dict[tuple[int, int], float] = {}
    while world.now < 1005 and 1 not in world.finished:
        for puppet in world.puppets.values():
            if puppet.hand and world.now < loaded_at.get((puppet.wid, puppet.epoch), 0):
                continue
            before = len(puppet.hand)
            puppet.act(1)
            if len(puppet.hand) > before:
                loaded_at[puppet.wid, puppet.epoch] = world.now + 0.03
        world.deliver_all()
        world.tick(0.005)
    assert world.now < 1001, world.machine.members


def test_a_worker_that_drops_what_was_recalled_while_a_claim_is_made_gets_work_again() -> None:
    """It says that it has nothing before the answer to the recall would have had its turn, did that wait for it."""
    world = on_duty(2)
    learn_short_keys(world)
    quick, slow = world.puppets.values()
    world.add_keys(60)
    world.feed(e.Woken())
    start(world, slow)
    while quick.lane or quick.hand or quick.running is not None:
        quick.act(1)
    slow.say(Kind.ALIVE)
    world.now += world.machine.limits.recall_after_s
    world.works_meanwhile = True
    world.deliver_all()
    assert slow.epoch == 1, "nothing was recalled"
    member = world.machine.members[slow.wid]
    assert (member.recalled, member.epoch, member.open) == (False, 1, True)
