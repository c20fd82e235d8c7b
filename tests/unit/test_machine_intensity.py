"""The machine, one story at a time: workers that die too often, what is said about it, and the exit codes."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.bounds import Bounds
from spawnpool.limits import Limits
from spawnpool.reports import Kind
from spawnpool.states import ExitCode, StopReason
from tests.unit.puppet import Job
from tests.unit.stories import at_work, boot, boot_all, on_duty, serving, start, wait_until
from tests.unit.world import World


def kill(world: World, wid: int) -> None:
    """Let a worker die from outside, and be seen to."""
    world.puppets[wid].code = -11
    world.reap()


def die_often(world: World, deaths: int) -> None:
    """Let the youngest worker die so many times, each time as soon as it is ready."""
    for _ in range(deaths):
        kill(world, max(world.puppets))
        while not any(not puppet.ready for puppet in world.puppets.values()):
            world.tick_to_deadline()
        boot_all(world)


def drain(world: World) -> None:
    """Let everybody leave."""
    world.stop(StopReason.DRAIN)
    for puppet in list(world.puppets.values()):
        for _ in range(4):
            puppet.act(1)
    world.reap()


# ---- the pool


def test_deaths_within_the_intensity_are_repaired_at_once() -> None:
    """And leave no trace: the pool is well."""
    world = on_duty(1, restarts_max=5)
    die_often(world, 5)
    assert (world.now, len(world.spawns), world.machine.degraded) == (1000, 6, "")


def test_more_deaths_make_the_pool_degraded_and_its_restarts_slow() -> None:
    """Not given up, not in a loop: one restart every window / max seconds, and one loud line."""
    world = on_duty(1, restarts_max=4, restarts_window_s=60)
    die_often(world, 10)
    assert [at - 1000 for at, _ in world.spawns] == [0, 0, 0, 0, 0, 15, 30, 45, 60, 75, 90]
    [line] = [text for text in world.said if "degraded" in text]
    assert line == (
        "degraded: more than 4 workers died within 60 s, the last one ended with -11; "
        "from now on one is started every 15 s"
    )
    assert world.machine.degraded == "more than 4 workers died within 60 s, the last one ended with -11"


def test_a_pool_of_many_is_slowed_down_as_one() -> None:
    """The intensity is of the pool: its places are filled again one after the other."""
    world = on_duty(4, restarts_max=3, restarts_window_s=30)
    for puppet in world.puppets.values():
        puppet.code = -11
    world.reap()
    wait_until(world, 1040)
    assert [at - 1000 for at, _ in world.spawns[4:]] == [0, 0, 0, 10]


def test_a_pool_recovers_when_its_workers_live_long_enough_again() -> None:
    """Half as many deaths in the window: it says so once, the next death is repaired at once, the exit code is 0."""
    world = on_duty(1, restarts_max=4, restarts_window_s=60)
    die_often(world, 6)
    assert world.machine.degraded
    now = world.now
    while world.machine.degraded:
        world.tick_to_deadline()
    assert now < world.now <= now + 60
    assert sum("no longer degraded" in text for text in world.said) == 1
    boot_all(world)
    kill(world, max(world.puppets))
    assert world.spawns[-1][0] == world.now
    drain(world)
    assert world.code == ExitCode.OK


def test_a_degraded_pool_ends_with_an_exit_code_of_its_own() -> None:
    """Whoever reads the exit code learns that it was not well; the stop itself was."""
    world = on_duty(1, restarts_max=4)
    die_often(world, 6)
    drain(world)
    assert world.code == ExitCode.DEGRADED


def test_a_job_with_limits_does_not_tell_on_the_pool() -> None:
    """It is stopped by its attempts: however many end by their time-out, memory or cancellation, the pool is well."""
    world = at_work(Job(Bounds(1, 0), heeds=False), restarts_max=1)
    world.kinds = (Job(Bounds(1, 0), heeds=False),)
    world.add_keys(4)
    for _ in range(9):
        puppet = world.puppets[max(world.puppets)]
        if puppet.running is None:
            start(world, puppet)
        while puppet.code is None:
            world.tick_to_deadline()
        world.reap()
        boot_all(world)
        world.tick()
    assert len(world.spawns) == 10
    assert world.machine.degraded == ""


def test_deaths_that_were_asked_for_do_not_count() -> None:
    """Workers that were asked to leave, and those that still boot when their successor is ready."""
    world = World(Limits(workers=3, restarts_max=1))
    world.tick()
    world.feed(e.ReloadAsked())
    for wid in (4, 5, 6):  # the old ones still boot
        boot(world, world.puppets[wid])
        world.reap()
    world.feed(e.ReloadAsked())
    for wid in (7, 8, 9):  # the old ones are on duty
        boot(world, world.puppets[wid])
        world.puppets[wid - 3].act(1)
        world.reap()
    world.feed(e.ResizeAsked(-1))
    world.puppets[9].act(1)
    world.reap()
    assert world.machine.degraded == ""
    assert serving(world) == {7, 8}


@pytest.mark.parametrize("renewal", [False, True])
def test_the_death_of_a_worker_on_trial_takes_nothing_from_the_pool(*, renewal: bool) -> None:
    """As many are on duty as before: the pool is well, and what then dies is replaced at once."""
    world = on_duty(1, restarts_max=1, max_age_s=20.0 * renewal)
    for wid in (2, 3, 4, 5):
        if not renewal:
            world.feed(e.ReloadAsked())
        while wid not in world.puppets:
            world.puppets[1].say(Kind.ALIVE)
            world.deliver_all()
            world.tick_to_deadline()
        kill(world, wid)
        assert (serving(world), world.machine.degraded) == ({1}, "")
    kill(world, 1)
    assert world.spawns[-1] == (world.now, 1)
    assert world.machine.degraded == ""


def test_a_poison_job_is_stopped_by_its_attempts_before_the_pool_is_degraded() -> None:
    """Three deaths, and the key is done for."""
    world = on_duty(1, keys=1, restarts_max=5)
    for wid in (1, 2, 3):
        start(world, world.puppets[wid])
        kill(world, wid)
        boot_all(world)
        world.tick()
    assert (world.finished, world.machine.degraded) == ({1}, "")


def test_a_reload_does_not_outrun_the_pace_of_a_degraded_pool() -> None:
    """The new code dies as soon as it is ready, over and over: the reload goes on no faster than restarts do."""
    world = on_duty(2, restarts_max=2, restarts_window_s=60)
    world.feed(e.ReloadAsked())
    for wid in (3, 4, 5, 6):
        boot(world, world.puppets[wid])
        kill(world, wid)
    assert world.machine.reloading
    assert "workers died within" in world.machine.degraded
    count = len(world.spawns)
    wait_until(world, 1029.9)
    assert len(world.spawns) == count
    wait_until(world, 1030)
    assert len(world.spawns) == count + 1


def test_a_reload_tries_at_once_what_could_not_boot() -> None:
    """The code was repaired: nobody waits for the end of a back-off."""
    world = World(Limits(workers=1))
    world.tick()
    for _ in range(6):
        world.puppets[max(world.puppets)].fail_boot()
        world.reap()
        while not world.puppets:
            world.tick_to_deadline()
    world.puppets[max(world.puppets)].fail_boot()
    world.reap()
    assert not world.puppets
    now = world.now
    world.feed(e.ReloadAsked())
    boot_all(world)
    assert (world.now, len(serving(world))) == (now, 1)
    assert [end.ok for end in world.reloads] == [True]


@pytest.mark.parametrize("quiet", [True, False])
def test_the_intensity_of_the_new_settings_holds_after_a_reload(*, quiet: bool) -> None:
    """Also in a pool that takes no work."""
    world = on_duty(1)
    world.feed(e.QuietAsked(quiet=quiet))
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2], restarts_max=1, restarts_window_s=10)
    world.puppets[1].act(1)
    world.reap()
    die_often(world, 1)
    kill(world, max(world.puppets))
    assert "more than 1 workers died within 10 s" in world.machine.degraded


# ---- boots that fail, and the exit code


def test_a_supervisor_whose_workers_never_booted_says_so_at_its_end() -> None:
    """Its exit code is that of a worker that cannot boot."""
    world = World(Limits(workers=2))
    world.tick()
    for puppet in list(world.puppets.values()):
        puppet.fail_boot()
    world.reap()
    assert world.machine.degraded == "worker 1 could not boot: ImportError: no module"
    drain(world)
    assert world.code == ExitCode.BOOT_FAILED


def test_the_exit_codes_are_what_the_documents_say() -> None:
    """Scripts and units know them as numbers."""
    assert [int(code) for code in (ExitCode.OK, ExitCode.BOOT_FAILED, ExitCode.DEGRADED)] == [0, 3, 6]


def test_a_supervisor_that_is_stopped_while_it_starts_is_well() -> None:
    """Nobody had the time to fail."""
    world = World(Limits(workers=2))
    world.tick()
    drain(world)
    assert world.code == ExitCode.OK


def test_the_trouble_of_one_place_is_over_when_its_worker_is_ready() -> None:
    """Not when that of another place is."""
    world = World(Limits(workers=2))
    world.tick()
    world.puppets[2].fail_boot()
    world.reap()
    boot(world, world.puppets[1])
    assert world.machine.degraded == "worker 2 could not boot: ImportError: no module"
    world.tick(1)
    boot_all(world)
    assert world.machine.degraded == ""


def test_the_trouble_of_a_place_that_nobody_wants_any_more_is_none() -> None:
    """One worker more could not be had; it was given up, and all is well."""
    world = on_duty(1)
    world.spawn_fails = True
    world.feed(e.ResizeAsked(+1))
    assert world.machine.degraded == "worker 2 no descriptors"
    world.feed(e.ResizeAsked(-1))
    assert world.machine.degraded == ""
    drain(world)
    assert world.code == ExitCode.OK


def test_the_words_of_a_boot_that_failed_are_those_of_the_worker() -> None:
    """What it said before it left, else how it ended."""
    world = World(Limits(workers=1))
    world.tick()
    world.puppets[1].say(Kind.FAILED, text="ImproperlyConfigured: no SECRET_KEY")
    kill(world, 1)
    assert world.machine.degraded == "worker 1 could not boot: ImproperlyConfigured: no SECRET_KEY"


def test_fault_37_a_process_that_does_not_die_of_sigkill_is_told_and_awaited() -> None:
    """State D: nothing more can be done about it than to say so; its place is filled once it is gone."""
    world = World(Limits(workers=1, boot_timeout_s=7))
    world.tick()
    [puppet] = world.puppets.values()
    world.performers[e.Abort] = world.performers[e.Kill] = lambda action: None  # the kernel lets nothing through
    until = world.now + 60
    while world.now < until:
        world.tick_to_deadline()
    told = [text for text in world.said if "was sent SIGKILL and is not dead" in text]
    assert 1 <= len(told) <= 12, world.said
    assert list(world.puppets.values()) == [puppet]
    puppet.code = -9
    world.reap()
    world.tick_to_deadline()
    assert [each for each in world.puppets.values() if each is not puppet]
