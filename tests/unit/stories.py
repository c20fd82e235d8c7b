"""Small steps from which the stories about the machine are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spawnpool import events as e
from spawnpool.limits import Limits
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spawnpool.pools import Pool
    from tests.unit.puppet import Job, Puppet


def on_duty(
    workers: int = 2,
    keys: int = 0,
    fixed: frozenset[str] = frozenset(),
    pools: Sequence[Pool] = (),
    **limits: float,
) -> World:
    """Return a world whose workers are all ready."""
    world = World(Limits(workers=workers).changed(limits), keys, fixed, pools)
    world.tick()
    boot_all(world)
    return world


def boot_all(world: World) -> None:
    """Let every booting worker become ready."""
    for puppet in list(world.puppets.values()):
        if not puppet.ready:
            boot(world, puppet)


def boot(world: World, puppet: Puppet, **limits: float) -> None:
    """Let one worker become ready, with what it read from the settings."""
    puppet.settings.update(limits)
    world.act(puppet, 0)
    world.deliver(puppet)


def start(world: World, puppet: Puppet) -> None:
    """Let a worker begin its next key."""
    for _ in range(9):
        if puppet.running is None:
            world.act(puppet, 0)
    assert puppet.running is not None, "there is nothing to start"
    world.deliver(puppet)


def at_work(job: Job, workers: int = 1, **limits: float) -> World:
    """Return a world in which worker 1 has begun such a job, as key 1."""
    world = on_duty(workers, 0, frozenset(), (), **limits)
    world.jobs[1] = job
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    return world


def wait_until(world: World, at: float) -> None:
    """Let time pass up to a moment, at the pace of the machine's own deadlines; nobody does anything meanwhile."""
    while (deadline := world.machine.next_deadline()) is not None and deadline <= at:
        world.tick_to_deadline()
    world.tick(at - world.now)


def finish(world: World, puppet: Puppet) -> None:
    """Let a worker end its key and record it."""
    world.act(puppet, 1)
    world.deliver(puppet)


def serving(world: World) -> set[int]:
    """Return the wids of the workers on duty."""
    return {member.wid for member in world.machine.members.values() if member.serving}


def learn_short_keys(world: World, us: int = 1000) -> None:
    """Let one worker run a few keys, so that the windows grow."""
    world.add_keys(3)
    world.feed(e.Woken())
    for _ in range(40):
        for puppet in world.puppets.values():
            if puppet.running is not None:
                puppet.running = None
                puppet.flush(us)
            else:
                world.act(puppet, 0)
        world.deliver_all()
    assert not world.claimed
