"""The machine under random schedules: whatever the order, every key goes out once and a stop ends.

Each schedule is lived through under the laws of `laws.py` and then ends in one of `ENDINGS`. hypothesis tries some
hundreds, and shrinks what fails; a plain generator, several times as fast, tries more of them, the same in every run.
`JOBSUP_SCHEDULES=100000` says how many; they are spread over `CHUNKS` tests, so that several processes can share them
(`-k "chunk0 or chunk1"`):

    JOBSUP_SCHEDULES=100000 python -m pytest tests/unit/test_machine_schedules.py --timeout=0
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spawnpool import events as e
from spawnpool.states import ExitCode, StopReason, SupervisorState
from tests.unit.happenings import HEAD_BYTES, play
from tests.unit.laws import DEGRADED
from tests.unit.puppet import MB, PLAIN
from tests.unit.world import World

if TYPE_CHECKING:
    from spawnpool.member import Member

SCHEDULES = int(os.environ.get("JOBSUP_SCHEDULES", "1200"))
CHUNKS = 8
LENGTHS = 100, 400  # bytes
TURNS = 400
KILLING_TURNS_MAX = 12
GRACE_S = 200.0

many = settings(
    max_examples=120,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def heal(world: World) -> None:
    """End every trouble: from now on workers work, spawns succeed, the source answers and jobs are plain."""
    world.source_down = world.spawn_fails = world.answers_late = False
    world.kinds, world.settings = (PLAIN,), {}
    world.paused.clear()
    world.pause_wanted = False
    for puppet in world.puppets.values():
        puppet.stubborn, puppet.rss_bytes = False, 50 * MB
    world.answer_late_claim()
    world.feed(e.SourceBack())


def turn(world: World) -> None:
    """Let a healthy world go on for one turn of the loop, with as little waiting as possible."""
    for puppet in list(world.puppets.values()):
        for choice in (1, 3, 5, 7, 9, 12):
            puppet.act(choice)
    world.deliver_all()
    world.reap()
    world.tick()


def finishes_every_key(world: World) -> None:
    """No key starves or is forgotten: once the troubles end, all are done within a bounded time, and it drains."""
    heal(world)
    world.feed(e.QuietAsked(quiet=False))
    began = world.now
    for _ in range(TURNS):
        if world.machine.reason is not StopReason.NONE or len(world.finished) == world.last_key:
            break
        done = len(world.finished)
        turn(world)
        if len(world.finished) == done:
            world.tick_to_deadline()
    if world.machine.reason is StopReason.NONE:
        assert len(world.finished) == world.last_key, f"{world.waiting} still wait, {world.claimed} are held"
        assert world.now - began < GRACE_S, f"it took {world.now - began} s"
    world.stop(StopReason.DRAIN)
    for _ in range(60):
        turn(world)
        world.tick_to_deadline()
    assert world.machine.state is SupervisorState.STOPPED
    assert world.code in (ExitCode.OK, ExitCode.BOOT_FAILED, ExitCode.DEGRADED, ExitCode.RUN_OVER)
    assert (world.code == ExitCode.OK) or world.machine.degraded
    assert (world.code == ExitCode.DEGRADED) <= (DEGRADED in world.machine.degraded)
    assert not world.claimed
    assert len(world.finished) + len(world.waiting) == world.last_key


def recovers(world: World) -> None:
    """Once the troubles end, the pool is full, on one code and well again, whatever it went through."""
    heal(world)
    began, machine = world.now, world.machine
    while machine.reason is StopReason.NONE:
        if machine.manned and machine.state is SupervisorState.RUNNING and not machine.degraded:
            return
        assert world.now < began + 3 * GRACE_S, f"{machine.wanted} are wanted, {machine.state}, {machine.degraded!r}"
        turn(world)
        world.tick_to_deadline()


def stops_in_time(world: World, reason: StopReason) -> None:
    """DRAINING lasts its grace, KILLING lasts the time of the ladder, and every key is accounted for."""
    world.answer_late_claim()
    for puppet in world.puppets.values():
        puppet.stubborn = True
    began = world.now
    grace_s = world.machine.limits.grace_s if world.machine.reason is StopReason.NONE else 30.0
    world.stop(reason)
    killing = 0
    for _ in range(2000):
        if world.machine.state is SupervisorState.STOPPED:
            break
        killing += world.machine.state is SupervisorState.KILLING
        world.reap()
        world.tick_to_deadline()
    assert killing <= KILLING_TURNS_MAX
    limits = world.machine.limits
    assert world.machine.state is SupervisorState.STOPPED
    assert not world.claimed
    assert world.machine.next_deadline() is None
    assert world.now - began <= grace_s * (reason is StopReason.DRAIN) + limits.abort_grace_s + 0.001
    for event in (e.Tick(), e.Woken(), e.ReloadAsked(), e.ResizeAsked(1), e.StopAsked(StopReason.NOW)):
        world.feed(event)  # fails if anything is done after the end


def neither_spins_nor_oversleeps(world: World) -> None:
    """With all facts read, the next deadline lies ahead; with work to claim and a free worker, it is near."""
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
    if working and any(can_begin_more(world, member) for member in machine.members.values()):
        assert deadline <= world.now + machine.limits.poll_interval_s, "a free worker starves"
    for _ in range(40):  # and from now on nobody says or does anything: time must go on
        before = world.now
        for _ in range(4):
            world.tick_to_deadline()
        assert world.now > before or machine.state is SupervisorState.STOPPED, "the loop spins"


def can_begin_more(world: World, member: Member) -> bool:
    """Tell whether a worker is free while a key waits that it might get."""
    pool = world.served.get(member.pool)
    if not member.free or pool is None:
        return False
    return any(
        world.held()[pool.name, world.feed_of(pk)] < pool.at_once.get(world.feed_of(pk), 10**6)
        for pk in world.waiting
        if world.may_take(pool, pk)
    )


def is_dead_before_its_lease_is_over(world: World) -> None:
    """With the source away for good, and workers that only SIGKILL ends: the last one goes before anybody may know."""
    heal(world)
    for _ in range(30):
        turn(world)
        world.tick_to_deadline()
    world.source_down = True
    for puppet in world.puppets.values():
        puppet.stubborn = True
    while world.machine.limits.lease_s and any(puppet.code is None for puppet in world.puppets.values()):
        assert world.now < world.lease_until, "a worker outlives the lease"
        world.tick_to_deadline()
        world.reap()


ENDINGS = (
    finishes_every_key,
    recovers,
    neither_spins_nor_oversleeps,
    lambda world: stops_in_time(world, StopReason.DRAIN),
    lambda world: stops_in_time(world, StopReason.NOW),
    is_dead_before_its_lease_is_over,
)


@pytest.mark.parametrize("ending", range(len(ENDINGS)))
@given(schedule=st.binary(min_size=LENGTHS[0], max_size=LENGTHS[1]))
@many
def test_the_laws_hold_and_it_ends_well(ending: int, schedule: bytes) -> None:
    """With hypothesis, for the sake of its shrinking."""
    ENDINGS[ending](play(schedule))


@pytest.mark.parametrize("chunk", range(CHUNKS), ids=lambda chunk: f"chunk{chunk}")
def test_the_laws_hold_under_many_more_schedules(chunk: int) -> None:
    """Schedule n is made from n; the message of a failure says which it was."""
    for number in range(chunk, SCHEDULES, CHUNKS):
        dice = random.Random(number)
        schedule = dice.randbytes(HEAD_BYTES + dice.randint(*LENGTHS))
        try:
            ENDINGS[number % len(ENDINGS)](play(schedule))
        except AssertionError as error:
            error.add_note(f"schedule {number}, ending {number % len(ENDINGS)}: {schedule.hex()}")
            raise
