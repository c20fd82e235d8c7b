"""Reports that never arrive: a lane carries each whole or not at all, and still none of them is relied on alone."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from spawnpool import events as e
from tests.unit.happenings import KINDS
from tests.unit.stories import on_duty

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.puppet import Job
    from tests.unit.world import World

KEYS = 20
TURNS = 600


@pytest.mark.parametrize("kinds", [(KINDS[0],), (KINDS[0], KINDS[1])], ids=["plain", "with time-outs"])
def test_fault_50_any_report_may_be_lost_and_every_key_is_done(kinds: tuple[Job, ...]) -> None:
    """For every n of a run of 20 keys: the n-th report never arrives. All are done, and no worker is stuck."""
    n = lost = 1
    while lost:
        lost = live_through(n, kinds)
        n += 1
    assert n > KEYS


def live_through(n: int, kinds: tuple[Job, ...]) -> bool:
    """Live through a run without the n-th report; tell whether there were so many."""
    world, said, lost = on_duty(2), count(1), []

    def carries() -> bool:
        if next(said) == n:
            lost.append(n)
            return False
        return True

    world.kinds, world.carries = kinds, carries
    for puppet in world.puppets.values():
        puppet.carries = carries
    add(world, KEYS)
    go_on(world, lambda: len(world.finished) == KEYS)
    assert world.finished == set(range(1, KEYS + 1)), f"report {n} was lost: {world.claimed}, {world.said}"
    add(world, 2)
    go_on(world, lambda: len(world.finished) == KEYS + 2 and all(m.free for m in world.machine.members.values()))
    assert all(m.free for m in world.machine.members.values()), f"report {n} was lost, and a worker is stuck"
    return bool(lost)


def add(world: World, keys: int) -> None:
    """Bring keys, and wake the machine."""
    world.add_keys(keys)
    world.feed(e.Woken())


def go_on(world: World, done: Callable[[], bool]) -> None:
    """Let everybody go on until something is so, or for very long."""
    for _ in range(TURNS):
        if done():
            return
        for puppet in list(world.puppets.values()):
            for choice in (1, 3, 4):
                puppet.act(choice)
                puppet.heed()
        world.deliver_all()
        world.reap()
        world.tick_to_deadline()
