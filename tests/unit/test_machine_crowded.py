"""The machine, one story at a time: the source has no room for everybody."""

from __future__ import annotations

from spawnpool import events as e
from spawnpool.roster import ROOM_S
from spawnpool.states import WorkerState
from tests.unit.stories import boot_all, on_duty, serving, start, wait_until
from tests.unit.world import World


def told(world: World) -> str:
    """Return why the pool is not whole."""
    return world.machine.degraded


def leave(world: World) -> None:
    """Let all who were asked to leave do so."""
    for puppet in list(world.puppets.values()):
        if world.machine.members[puppet.wid].state is WorkerState.LEAVING:
            world.act(puppet, 0)
    world.deliver_all()
    world.reap()


def test_d3_a_worker_that_finds_no_room_is_started_again_after_a_minute_and_told_of() -> None:
    """Not at once, not sooner and sooner, and however many there are, that is no pool whose workers die."""
    world = on_duty(1)
    for again in range(30):
        [puppet] = world.puppets.values()
        puppet.find_no_room()
        world.deliver_all()
        world.reap()
        assert f"worker 1 {'could not boot' if again else 'leaves'}: no room" in told(world)
        assert not world.puppets
        wait_until(world, world.now + ROOM_S - 1)
        assert not world.puppets
        wait_until(world, world.now + 1)
        assert len(world.puppets) == 1
    boot_all(world)
    assert not told(world)


def test_d3_an_idle_worker_makes_room_for_the_supervisor_and_nobody_takes_it() -> None:
    """The one with the highest number; its place stays empty for a minute, and it is told why."""
    world = on_duty(3)
    world.feed(e.Crowded("no room"))
    assert serving(world) == {1, 2}
    world.feed(e.Crowded("no room"))
    assert serving(world) == {1, 2}, "room is on its way"
    leave(world)
    assert told(world) == "worker 3 has made room for the supervisor: no room"
    world.puppets[2].find_no_room()
    world.deliver_all()
    world.reap()
    wait_until(world, world.now + 2 * ROOM_S)
    assert len(world.puppets) == 1, "none is started as long as the supervisor has no room"
    world.feed(e.SourceBack())
    wait_until(world, world.now + 1)
    assert len(world.puppets) == 3
    boot_all(world)
    assert not told(world)


def test_d3_that_the_supervisor_has_room_again_is_no_reason_to_hurry() -> None:
    """What it got is what a worker has left."""
    world = on_duty(2)
    world.feed(e.Crowded("no room"))
    leave(world)
    world.feed(e.SourceBack())
    wait_until(world, world.now + ROOM_S - 1)
    assert len(world.puppets) == 1
    wait_until(world, world.now + 1)
    assert len(world.puppets) == 2


def test_d3_a_busy_worker_makes_room_after_its_job_and_the_last_one_stays() -> None:
    """No job is cut short; without a worker there would be nothing to have room for."""
    world = on_duty(2, keys=2)
    world.feed(e.Woken())
    for puppet in list(world.puppets.values()):
        start(world, puppet)
    world.feed(e.Crowded("no room"))
    [leaving] = [m for m in world.machine.members.values() if m.state is WorkerState.LEAVING]
    assert leaving.running() is not None
    world.feed(e.Crowded("no room"))
    assert len(serving(world)) == 1


def test_d3_a_reload_waits_until_there_is_room() -> None:
    """A new worker beside an old one would take it."""
    world = on_duty(2)
    world.feed(e.Crowded("no room"))
    leave(world)
    world.feed(e.ReloadAsked())
    wait_until(world, world.now + 10)
    assert len(world.puppets) == 1
    assert world.machine.reloading
    world.feed(e.SourceBack())
    assert len(world.puppets) == 2
