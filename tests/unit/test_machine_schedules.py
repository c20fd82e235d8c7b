"""The machine under random schedules: whatever the order, every key goes out once and a stop ends.

`JOBSUP_SCHEDULES=100000` tries more of them than a usual run does; the schedules are the same in every run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.states import StopReason, SupervisorState
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.world import Puppet

SCHEDULES = int(os.environ.get("JOBSUP_SCHEDULES", "300"))
STEPS_S = (0.0, 0.001, 0.005, 0.03, 0.1, 0.6, 1.0, 6.0, 31.0)

schedules = st.binary(min_size=100, max_size=300)
many = settings(
    max_examples=SCHEDULES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def on_worker(do: Callable[[World, Puppet, int], object]) -> Callable[[World, int], None]:
    """Turn something that happens to a worker into something that happens to one of those that are there."""

    def happen(world: World, choice: int) -> None:
        if world.puppets:
            puppets = list(world.puppets.values())
            do(world, puppets[choice % len(puppets)], choice // len(puppets))

    return happen


def die(world: World, puppet: Puppet, choice: int) -> None:
    """Let a worker die from outside, unnoticed so far."""
    puppet.code = -9 if puppet.code is None else puppet.code


def babble(world: World, puppet: Puppet, choice: int) -> None:
    """Let a worker send what is no report."""
    if choice % 4 == 0:
        world.feed(e.Babbled(puppet.wid, "no report"))


def toggle(name: str) -> Callable[[World, int], None]:
    """Switch one of the world's troubles on or off."""
    return lambda world, choice: setattr(world, name, choice % 3 == 0)


def stop(world: World, choice: int) -> None:
    """Ask for a stop, which is rare: nothing of interest comes after it."""
    if choice == 7:
        world.stop(StopReason.DRAIN)
    elif choice == 11:
        world.stop(StopReason.NOW)


def add(world: World, choice: int) -> None:
    """Bring new keys, mostly with a wake-up."""
    world.add_keys(1 + choice % 9)
    if choice % 4:
        world.feed(e.Woken())


act = on_worker(lambda world, puppet, choice: world.act(puppet, choice))
deliver = on_worker(lambda world, puppet, choice: world.deliver(puppet, 1 + choice % 4))
HAPPENINGS: list[Callable[[World, int], None]] = [
    lambda world, choice: world.tick(STEPS_S[choice % len(STEPS_S)]),
    lambda world, choice: world.tick_to_deadline(),
    *[act] * 8,
    *[deliver] * 4,
    lambda world, choice: world.deliver_all(),
    lambda world, choice: world.reap(),
    lambda world, choice: world.reap(),
    lambda world, choice: world.answer_late_claim(),
    on_worker(lambda world, puppet, choice: puppet.settle_behind()),
    on_worker(die),
    on_worker(lambda world, puppet, choice: world.fail_boot(puppet)),
    on_worker(lambda world, puppet, choice: setattr(puppet, "stubborn", choice % 3 == 0)),
    on_worker(babble),
    add,
    add,
    toggle("source_down"),
    toggle("spawn_fails"),
    toggle("answers_late"),
    lambda world, choice: world.feed(e.ReloadAsked()),
    lambda world, choice: world.feed(e.ResizeAsked(1 if choice % 2 else -1)),
    lambda world, choice: world.feed(e.QuietAsked(choice % 3 == 0)),
    stop,
]  # fmt: skip


def play(schedule: bytes) -> World:
    """Live through a whole schedule."""
    limits = Limits(workers=1 + schedule[0] % 3, window_max=6, exit_when_empty=schedule[1] % 5 == 0)
    world = World(limits, keys=schedule[1] % 20)
    world.tick()
    for byte, choice in zip(schedule[2::2], schedule[3::2], strict=False):
        HAPPENINGS[byte % len(HAPPENINGS)](world, choice)
    return world


def heal(world: World) -> None:
    """End every trouble: from now on workers work, spawns succeed and the source answers."""
    world.source_down = world.spawn_fails = world.answers_late = False
    for puppet in world.puppets.values():
        puppet.stubborn = False
    world.answer_late_claim()


def turn(world: World) -> None:
    """Let a healthy world go on for one turn of the loop, with as little waiting as possible."""
    for puppet in list(world.puppets.values()):
        for choice in (1, 3, 5, 7, 9, 11):
            world.act(puppet, choice)
    world.deliver_all()
    world.reap()
    world.tick()


@given(schedule=schedules)
@many
def test_a_healthy_world_finishes_every_key_from_wherever_it_was(schedule: bytes) -> None:
    """No key starves or is forgotten: once the troubles end, all are done within a bounded time, and it drains."""
    world = play(schedule)
    heal(world)
    world.feed(e.QuietAsked(quiet=False))
    began = world.now
    for _ in range(400):
        if world.machine.reason is not StopReason.NONE or len(world.finished) == world.last_key:
            break
        done = len(world.finished)
        turn(world)
        if len(world.finished) == done:
            world.tick_to_deadline()
    if world.machine.reason is StopReason.NONE:
        assert len(world.finished) == world.last_key, f"{world.waiting} still wait, {world.claimed} are held"
        assert world.now - began < 200, f"it took {world.now - began} s"
    world.stop(StopReason.DRAIN)
    for _ in range(40):
        turn(world)
        world.tick_to_deadline()
    assert world.machine.state is SupervisorState.STOPPED
    assert world.code == 0
    assert not world.claimed
    assert len(world.finished) + len(world.waiting) == world.last_key


@given(schedule=schedules)
@many
def test_a_stop_ends_in_time_though_every_worker_hangs(schedule: bytes) -> None:
    """DRAINING lasts its grace, KILLING lasts the time of the ladder, and every key is accounted for."""
    world = play(schedule)
    reason = (StopReason.DRAIN, StopReason.NOW)[schedule[2] % 2]
    world.answer_late_claim()
    for puppet in world.puppets.values():
        puppet.stubborn = True
    began = world.now
    world.stop(reason)
    for _ in range(30):
        world.reap()
        world.tick_to_deadline()
    limits = world.machine.limits
    assert world.machine.state is SupervisorState.STOPPED
    assert not world.claimed
    assert world.machine.next_deadline() is None
    assert world.now - began <= limits.grace_s * (reason is StopReason.DRAIN) + limits.abort_grace_s + 0.001
    for event in (e.Tick(), e.Woken(), e.ReloadAsked(), e.ResizeAsked(1), e.StopAsked(StopReason.NOW)):
        world.feed(event)  # fails if anything is done after the end


@given(schedule=schedules)
@many
def test_the_machine_never_spins_and_never_oversleeps(schedule: bytes) -> None:
    """With all facts read, the next deadline lies ahead; with work to claim and a free worker, it is near."""
    world = play(schedule)
    world.answers_late = False
    world.answer_late_claim()
    world.reap()
    world.deliver_all()
    for _ in range(3):
        world.tick()
        world.reap()
        world.deliver_all()
    machine = world.machine
    deadline = machine.next_deadline()
    if deadline is None:
        assert machine.state is SupervisorState.STOPPED
        return
    assert deadline > world.now, "the loop would spin"
    assert deadline <= world.now + machine.limits.beat_interval_s
    working = machine.reason is StopReason.NONE and not machine.quiet
    if working and world.waiting and any(member.free for member in machine.members.values()):
        assert deadline <= world.now + machine.limits.poll_interval_s, "a free worker starves"
