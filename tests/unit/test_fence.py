"""A supervisor that cannot say that it lives: when it stops, what becomes of its keys, and how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spawnpool import events as e
from spawnpool.fence import margin_s
from spawnpool.states import Ended, ExitCode, StopReason, SupervisorState, WorkerState
from tests.unit.stories import boot_all, finish, on_duty, serving, start, wait_until

if TYPE_CHECKING:
    from tests.unit.world import World

LEASE_S = 30.0


def at_work() -> World:
    """Return a world with two workers, of which the first runs key 1, with key 2 behind it; a beat has just arrived."""
    world = on_duty(2, 0, frozenset(), (), lease_s=LEASE_S, beat_interval_s=LEASE_S / 3, silence_max_s=999.0)
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    wait_until(world, 1010.0)
    assert world.lease_until == 1040.0
    return world


def endings(world: World, since: float) -> list[tuple[float, int]]:
    """Return when each worker was dead that has died, after `since`, in seconds, with its wid."""
    found: list[tuple[float, int]] = []
    while world.now < since + LEASE_S:
        world.tick_to_deadline()
        found += [(world.now - since, wid) for wid, puppet in world.puppets.items() if puppet.code is not None]
        world.reap()
    return found


def test_p7_the_last_worker_is_dead_well_before_the_lease_is_over() -> None:
    """10 s before, SIGABRT; 2 s later SIGKILL, for one that is deaf. Nothing is begun, and the reason is told."""
    world = at_work()
    world.source_down, world.puppets[2].stubborn = True, True
    world.add_keys(3)
    world.feed(e.Woken())
    assert [at for at, _ in endings(world, 1010.0)] == pytest.approx([20.0, 22.0])
    assert not world.machine.members
    assert "the source could not be reached for 20 s" in world.machine.degraded
    [loss] = [loss for action in world.lost for loss in action.losses]
    assert (loss.pk, loss.ended) == (1, Ended.FENCED)
    assert loss.ran_s == pytest.approx(30.0)
    assert loss.tell("job 1").endswith(
        "by its supervisor while running job 1, after 30.0 s: the source could not be reached for 20 s"
    )
    assert any("its 2 workers are ended, nothing is begun until that is settled" in text for text in world.said)


@pytest.mark.parametrize(("lease_s", "margin"), [(3, 1), (6, 2), (30, 10), (3600, 10)])
def test_a_short_lease_has_a_short_margin(lease_s: float, margin: float) -> None:
    """A third of it."""
    assert margin_s(lease_s) == margin


def test_a_short_absence_hurts_nobody() -> None:
    """As long as one of the beats arrives in time."""
    world = at_work()
    world.source_down = True
    wait_until(world, 1029.0)
    world.source_down = False
    world.machine._beat_at = world.now  # the shell tries a beat again that failed
    wait_until(world, 1060.0)
    assert serving(world) == {1, 2}
    assert not world.lost


def test_after_a_long_absence_it_goes_on_with_what_is_its_own() -> None:
    """Nobody declared the run lost: new workers, and the keys that were cut short are tried again."""
    world = at_work()
    world.source_down = True
    endings(world, 1010.0)
    world.source_down = False
    wait_until(world, 1060.0)
    assert any("answers again after" in text and text.endswith("work goes on") for text in world.said)
    boot_all(world)
    assert serving(world) == {3, 4}
    puppet = next(puppet for puppet in world.puppets.values() if puppet.lane)
    start(world, puppet)
    finish(world, puppet)
    assert world.finished == {1}
    assert world.attempts == {1: 1}
    assert not world.machine.degraded


def test_a_run_that_was_declared_lost_ends_its_workers_at_once_and_another_begins() -> None:
    """Its keys are not its own any more: none is given back or accounted for."""
    world = at_work()
    world.source_down = True
    world.now = 1041.0  # stopped for so long, or the machine was
    world.declare_lost()
    world.source_down = False
    for puppet in world.puppets.values():
        puppet.stubborn = True
    world.tick()
    assert all(puppet.code == -9 for puppet in world.puppets.values())
    world.reap()
    assert not world.lost
    world.tick_to_deadline()
    assert not world.run_lost
    boot_all(world)
    assert serving(world) == {3, 4}
    assert "a new run has begun: work goes on" in world.said


def test_fault_17_one_that_was_stopped_itself_asks_before_it_ends_anybody() -> None:
    """Its beat is taken: nothing has happened. Begun is nothing in between."""
    world = at_work()
    world.add_keys(3)
    world.now = 1045.0
    world.feed(e.Woken())
    assert serving(world) == {1, 2}
    assert world.lease_until == 1045.0 + LEASE_S
    assert world.machine.holding()


def test_a_suspension_counts_though_the_clock_stood_still() -> None:
    """With the source away, since the machine has just woken up."""
    world = at_work()
    world.source_down = True
    world.feed(e.Slept(9.0))
    assert serving(world) == {1, 2}
    world.feed(e.Slept(16.0))
    assert not serving(world)
    assert {member.state for member in world.machine.members.values()} == {WorkerState.ENDING}


def test_a_stop_of_one_whose_run_is_lost_says_so_by_its_exit_code() -> None:
    """It does not begin another run first."""
    world = at_work()
    world.now = 1041.0
    world.declare_lost()
    world.feed(e.StopAsked(StopReason.DRAIN))
    world.reap()
    assert (world.machine.state, world.code) == (SupervisorState.STOPPED, ExitCode.RUN_OVER)


def test_a_reload_goes_on_where_it_was_cut_short() -> None:
    """It is not the new code that ended the new worker."""
    world = at_work()
    world.feed(e.ReloadAsked())
    world.source_down = True
    endings(world, 1010.0)
    assert not world.reloads
    world.source_down = False
    for _ in range(30):
        wait_until(world, world.now + 1)
        boot_all(world)
        world.reap()
    [ended] = world.reloads
    assert ended.ok
