"""Everything that can happen to a pool, in any order: a string of bytes is a schedule that `play` lives through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spawnpool import events as e
from spawnpool.bounds import Bounds
from spawnpool.limits import Limits
from spawnpool.pools import Pool
from spawnpool.states import StopReason
from tests.unit.puppet import MB, PLAIN, Job
from tests.unit.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.puppet import Puppet

HEAD_BYTES = 9
STEPS_S = (0.0, 0.001, 0.005, 0.03, 0.1, 0.6, 1.0, 6.0, 31.0)
KINDS = (
    PLAIN,
    Job(Bounds(0.5, 2.0)),
    PLAIN,
    Job(Bounds(0.5, 2.0), heeds=False),
    PLAIN,
    Job(Bounds(None, 10.0, 100 * MB), grows_by=30 * MB),
    Job(heeds=False),
)
POOLS: tuple[tuple[Pool, ...], ...] = (
    (),
    (),
    (Pool(name="one", workers=2, feeds=("b", "a", "c"), ordered=True, at_once={"b": 1}),),
    (Pool(name="one", workers=1, feeds=("a",), at_once={"a": 1}), Pool(name="two", workers=2, at_once={"b": 1})),
    (
        Pool(name="one", workers=1, feeds=("a", "b"), ordered=True),
        Pool(name="two", workers=1, feeds=("b", "a"), ordered=True, at_once={"a": 1, "b": 2}),
        Pool(name="three", workers=1, feeds=("c", "b"), at_once={"b": 1}),
    ),
    (Pool(name="three", workers=2, feeds=("a",), at_once={"a": 2}), Pool(name="default", workers=1, at_once={"a": 1})),
)
"""In each there is a pool for every feed."""
SETTINGS: tuple[dict[str, float], ...] = (
    {},
    {"workers": 2},
    {"workers": 3, "restarts_max": 4},
    {"restarts_max": 2, "restarts_window_s": 10},
    {"max_jobs": 2},
    {"max_age_s": 20, "cancel_ask_s": 0},
    {"grace_s": 3, "cancel_grace_s": 0},
    {"workers": 0},  # cannot work
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


def grow(world: World, puppet: Puppet, choice: int) -> None:
    """Let a worker need more memory."""
    puppet.rss_bytes += choice * MB


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


def cancel(world: World, choice: int) -> None:
    """Cancel a key, wherever it is; mostly one of ours."""
    held = sorted(world.machine.holding())
    pk = held[choice % len(held)] if held and choice % 5 else choice
    if choice % 2:
        world.cancel(pk, pk + 1)
    else:
        world.cancel_wanted.add(pk)


def new_settings(world: World, choice: int) -> None:
    """Change what workers read when they boot."""
    world.settings = SETTINGS[choice % len(SETTINGS)]
    if choice % 3 == 0:
        world.pools = POOLS[choice // 3 % len(POOLS)]


def sleep(world: World, choice: int) -> None:
    """Suspend the machine for a while; its own clock stands still."""
    if choice % 4 == 0:
        world.lease_until -= choice
        world.feed(e.Slept(choice))


def declare_lost(world: World, choice: int) -> None:
    """Let somebody else look for runs whose lease is over."""
    if choice % 2:
        world.declare_lost()


def pause(world: World, choice: int) -> None:
    """Pause feeds, which is told at once or when the source is asked, or let them go on."""
    if choice % 3 == 0:
        world.paused.clear()
        world.feed(e.Woken())
    elif choice % 3 == 1:
        world.pause("abc"[choice // 3 % 3])
    else:
        world.paused.add("abc"[choice // 3 % 3])
        world.pause_wanted = True


act = on_worker(lambda world, puppet, choice: puppet.act(choice))
deliver = on_worker(lambda world, puppet, choice: world.deliver(puppet, 1 + choice % 4))
HAPPENINGS: list[Callable[[World, int], object]] = [
    lambda world, choice: world.tick(STEPS_S[choice % len(STEPS_S)]),
    lambda world, choice: world.tick_to_deadline(),
    lambda world, choice: world.tick_to_deadline(),
    *[act] * 9,
    *[deliver] * 4,
    lambda world, choice: world.deliver_all(),
    lambda world, choice: world.reap(),
    lambda world, choice: world.reap(),
    lambda world, choice: world.answer_late_claim(),
    on_worker(lambda world, puppet, choice: puppet.settle_behind()),
    on_worker(lambda world, puppet, choice: puppet.heed()),
    on_worker(lambda world, puppet, choice: puppet.heed()),
    on_worker(lambda world, puppet, choice: puppet.spoil()),
    on_worker(die),
    on_worker(lambda world, puppet, choice: puppet.fail_boot()),
    on_worker(lambda world, puppet, choice: puppet.find_no_room()),
    lambda world, choice: world.feed(e.Crowded("no room")),
    on_worker(lambda world, puppet, choice: setattr(puppet, "stubborn", choice % 3 == 0)),
    on_worker(babble),
    on_worker(grow),
    add,
    add,
    cancel,
    pause,
    sleep,
    declare_lost,
    new_settings,
    toggle("source_down"),
    toggle("spawn_fails"),
    toggle("answers_late"),
    toggle("works_meanwhile"),
    lambda world, choice: world.feed(e.SourceBack()),
    lambda world, choice: world.feed(e.ReloadAsked()),
    lambda world, choice: world.feed(e.ResizeAsked(1 if choice % 2 else -1)),
    lambda world, choice: world.feed(e.QuietAsked(choice % 3 == 0)),
    stop,
]


def limits_of(head: bytes) -> Limits:
    """Return the limits that the first bytes of a schedule choose."""
    lease_s = (0.0, 30.0, 6.0)[head[2] // 3 % 3]
    return Limits(
        workers=1 + head[0] % 3,
        lease_s=lease_s,
        beat_interval_s=lease_s / 3 or 10.0,
        window_max=6,
        exit_when_empty=head[1] % 5 == 0,
        max_jobs=(0, 3, 0)[head[2] % 3],
        max_rss_bytes=(0, 0, 80 * MB)[head[3] % 3],
        max_age_s=(0.0, 0.0, 15.0)[head[4] % 3],
        restarts_max=(20, 2, 1)[head[5] % 3],
        cancel_ask_s=(1.0, 0.0)[head[6] % 2],
    )


def play(schedule: bytes) -> World:
    """Live through a whole schedule: its head chooses the limits, each two bytes after that what happens and how."""
    pools = POOLS[schedule[8] % len(POOLS)]
    world = World(limits_of(schedule[:HEAD_BYTES]), keys=schedule[7] % 20, pools=pools)
    world.kinds = KINDS
    world.tick()
    for byte, choice in zip(schedule[HEAD_BYTES::2], schedule[HEAD_BYTES + 1 :: 2], strict=False):
        HAPPENINGS[byte % len(HAPPENINGS)](world, choice)
    return world
