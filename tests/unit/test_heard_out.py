"""The machine, one story at a time: before a job loses its worker, what the worker has said is read."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.bounds import Bounds
from spawnpool.reports import Kind
from tests.unit.puppet import Job
from tests.unit.stories import at_work, start, wait_until

IGNORES = Job(Bounds(timeout_s=5, grace_s=3), heeds=False)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_that_ended_in_time_is_not_blamed_for_what_nobody_has_read_yet(*, cancelled: bool) -> None:
    """The supervisor was kept busy, or stopped: before the last step it hears the worker out."""
    job = Job(heeds=False) if cancelled else IGNORES
    world = at_work(job, cancel_ask_s=2, cancel_grace_s=4)
    for pk in (1, 2):  # the second key is heard out as well as the first
        if cancelled:
            world.cancel(pk)
        wait_until(world, world.now + 5)
        assert world.orders[-1].loudly
        world.act(world.puppets[1], 1)  # ended and recorded; that waits in its pipe
        world.tick(600)
        assert (world.puppets[1].code, world.lost) == (None, [])
        assert pk in world.finished
        world.jobs[pk + 1] = job
        world.add_keys(1)
        world.feed(e.Woken())
        start(world, world.puppets[1])
    if cancelled:
        world.cancel(3)
    wait_until(world, world.now + 8)
    assert world.puppets[1].code == -6, "the key that does not end is not spared"


def test_a_worker_is_heard_out_once_and_not_in_a_circle() -> None:
    """What it says is no reason to spare it, unless that is that its job is over."""
    world = at_work(IGNORES)
    wait_until(world, 1005)
    world.puppets[1].say(Kind.ALIVE)
    world.tick(3)
    assert (world.puppets[1].code, world.puppets[1].pipe) == (-6, [])


def test_a_worker_is_heard_out_though_other_facts_wait_before_its_own() -> None:
    """Each of them is a step of its own, and none of those may be the last one against the job."""
    world = at_work(IGNORES)
    wait_until(world, 1005)
    world.act(world.puppets[1], 1)
    world.now += 600
    world.answers += [e.Woken(), e.Woken()]
    world.tick()
    assert (world.finished, world.puppets[1].code) == ({1}, None)
