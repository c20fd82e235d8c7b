"""Small steps from which the stories about the machine are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spawnpool import events as e
from spawnpool.limits import RELOADABLE, Limits
from spawnpool.reports import Kind
from tests.unit.world import World

if TYPE_CHECKING:
    from tests.unit.world import Puppet


def on_duty(workers: int = 2, keys: int = 0, fixed: frozenset[str] = frozenset(), **limits: float) -> World:
    """Return a world whose workers are all ready."""
    world = World(Limits(workers=workers).changed(limits), keys, fixed)
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
    for name, value in limits.items():
        puppet.say(Kind.LIMIT, int(value * 1000), RELOADABLE.index(name))
    world.act(puppet, 0)
    world.deliver(puppet)


def start(world: World, puppet: Puppet) -> None:
    """Let a worker begin its next key."""
    for _ in range(9):
        if puppet.running is None:
            world.act(puppet, 0)
    assert puppet.running is not None, "there is nothing to start"
    world.deliver(puppet)


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
