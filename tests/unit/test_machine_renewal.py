"""The machine, one story at a time: workers that have served their time, are spoiled, or have fallen silent."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.reports import Kind
from spawnpool.states import Ended, ExitCode, StopReason, SupervisorState, WorkerState
from tests.unit.puppet import MB
from tests.unit.stories import boot, boot_all, finish, learn_short_keys, on_duty, serving, start, wait_until
from tests.unit.world import World


def run_keys(world: World, wid: int, count: int) -> None:
    """Let a worker run so many keys."""
    for _ in range(count):
        world.add_keys(1)
        world.feed(e.Woken())
        start(world, world.puppets[wid])
        finish(world, world.puppets[wid])


def let_leave(world: World, wid: int) -> None:
    """Let a worker read that it is to leave."""
    world.puppets[wid].act(1)
    world.reap()


def keep_talking(world: World, until: float) -> None:
    """Let time pass while every worker that can says every 5 s that it is well."""
    while world.now < until:
        wait_until(world, min(world.now + 5, until))
        for puppet in world.puppets.values():
            if puppet.able and puppet.ready:
                puppet.say(Kind.ALIVE)
        world.deliver_all()


# ---- renewal


def test_a_worker_is_replaced_after_its_jobs_and_stays_until_its_successor_is_ready() -> None:
    """The number on duty never falls, and the old one finishes what it is at."""
    world = on_duty(1, max_jobs=3)
    run_keys(world, 1, 2)
    assert len(world.spawns) == 1
    run_keys(world, 1, 1)
    assert len(world.spawns) == 2
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    boot_all(world)
    assert serving(world) == {2}
    assert world.machine.members[1].state is WorkerState.LEAVING
    wait_until(world, 1020)
    finish(world, world.puppets[1])
    let_leave(world, 1)
    assert (set(world.puppets), len(world.finished), world.lost) == ({2}, 4, [])
    assert any("is going to be replaced: it has run 3 jobs" in text for text in world.said)
    assert world.machine.degraded == ""


def test_workers_of_one_age_are_replaced_one_at_a_time() -> None:
    """While one successor boots nobody else is touched, and all are replaced in the end."""
    world = on_duty(3, max_age_s=100)
    assert len(world.spawns) == 3
    keep_talking(world, 1101)
    for count in (4, 5, 6):
        assert len(world.spawns) == count
        boot_all(world)
        assert len(serving(world)) == 3
        for wid in [wid for wid, member in world.machine.members.items() if member.state is WorkerState.LEAVING]:
            let_leave(world, wid)
        world.tick()
    assert serving(world) == {4, 5, 6}
    assert len(world.spawns) == 6


def test_lifetimes_are_spread_so_that_workers_of_one_age_do_not_end_together() -> None:
    """Each gets 0.9 to 1 of the age, always the same for the same worker."""
    ages = []
    for wid in range(1, 9):
        world = on_duty(8, max_age_s=1000)
        for other in set(world.puppets) - {wid}:
            world.puppets[other].code = -9
        world.reap()
        old = world.machine.members[wid]
        while not any("is going to be replaced" in text for text in world.said):
            world.now = min(at for at in [world.machine.next_deadline()] if at is not None)
            old.heard_at = world.now
            world.tick()
        ages.append(world.now - 1000)
    assert all(900 <= age <= 1000 for age in ages)
    assert len({round(age) for age in ages}) == 8, ages


def test_a_worker_that_grew_too_large_is_replaced() -> None:
    """It is measured with every look at the children; the key that runs is not hurt."""
    world = on_duty(1, max_rss_bytes=400 * MB)
    run_keys(world, 1, 1)
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    world.puppets[1].rss_bytes = 500 * MB
    wait_until(world, 1004)
    assert len(world.spawns) == 1
    wait_until(world, 1005)
    assert len(world.spawns) == 2
    boot_all(world)
    finish(world, world.puppets[1])
    let_leave(world, 1)
    assert (serving(world), world.finished) == ({2}, {1, 2})
    assert any("it uses 500 MB of memory" in text for text in world.said)


def test_a_worker_that_is_too_large_from_its_boot_is_replaced_only_after_it_was_of_use() -> None:
    """Its successors would be as large, and be replaced for ever; so each runs one key at least."""
    world = on_duty(1, keys=1, max_rss_bytes=400 * MB)
    world.puppets[1].rss_bytes = 500 * MB
    start(world, world.puppets[1])
    wait_until(world, 1030)
    assert len(world.spawns) == 1
    finish(world, world.puppets[1])
    assert len(world.spawns) == 2
    boot_all(world)
    world.puppets[2].rss_bytes = 500 * MB
    let_leave(world, 1)
    keep_talking(world, 1100)
    assert (serving(world), len(world.spawns)) == ({2}, 2)


def test_a_renewal_does_not_bring_in_what_a_reload_would_refuse() -> None:
    """The code on disk is broken since: the old worker stays, and it is tried again after 1, 2, 4 s."""
    world = on_duty(1, max_jobs=1, restarts_max=1)
    run_keys(world, 1, 1)
    for wid in (2, 3, 4):
        world.puppets[wid].say(Kind.FLAW, text="shop.tasks cannot be imported")
        boot_all(world)
        assert (world.puppets[wid].code, serving(world)) == (-9, {1})
        world.reap()
        wait_until(world, world.now + 2 ** (wid - 2))
    assert [at - 1000 for at, _ in world.spawns] == [0, 0, 1, 3, 7]
    words = "could not boot: shop.tasks cannot be imported; the old one stays"
    assert sum(words in text for text in world.said) == 3
    assert world.machine.degraded == ""
    boot_all(world)
    assert serving(world) == {5}


def test_a_successor_that_cannot_boot_leaves_the_old_one_on_duty_and_backs_off() -> None:
    """1, 2, 4 s between the tries; the pool is as large as ever, so this is no degradation and no exit code."""
    world = on_duty(1, max_jobs=1)
    run_keys(world, 1, 1)
    for wid in (2, 3, 4):
        world.puppets[wid].fail_boot()
        world.reap()
        assert serving(world) == {1}
        wait_until(world, world.now + 2 ** (wid - 2))
    assert [at - 1000 for at, _ in world.spawns] == [0, 0, 1, 3, 7]
    assert any("could not boot: ImportError: no module; the old one stays" in text for text in world.said)
    assert world.machine.degraded == ""
    boot_all(world)
    let_leave(world, 1)
    world.stop(StopReason.DRAIN)
    let_leave(world, 5)
    assert world.code == ExitCode.OK


def test_a_stop_ends_a_successor_that_boots_without_a_word() -> None:
    """Neither is it an error that it did not become ready, nor does the stop wait for it."""
    world = on_duty(1, max_jobs=1)
    run_keys(world, 1, 1)
    world.stop(StopReason.DRAIN)
    assert world.puppets[2].code == -9
    world.said.clear()
    let_leave(world, 1)
    assert world.machine.state is SupervisorState.STOPPED
    assert not any("stays" in text for text in world.said)


def test_a_reload_during_a_renewal_waits_for_it_and_is_not_refused_by_its_failure() -> None:
    """The one on trial boots the old code's generation; only a worker of the reload speaks for the reload."""
    world = on_duty(1, max_jobs=1)
    run_keys(world, 1, 1)
    world.feed(e.ReloadAsked())
    assert len(world.spawns) == 2
    world.puppets[2].fail_boot()
    world.reap()
    assert world.reloads == []
    assert len(world.spawns) == 3
    world.puppets[3].fail_boot()
    world.reap()
    assert [(end.ok, "reload refused, the old workers stay" in end.words) for end in world.reloads] == [(False, True)]
    assert serving(world) == {1}


def test_a_degraded_pool_replaces_nobody_and_does_not_turn_for_that() -> None:
    """Worn workers are better than none; that one of them is old is no deadline meanwhile."""
    world = on_duty(2, max_age_s=20, restarts_max=2, restarts_window_s=600)
    for wid in (2, 3, 4):
        world.puppets[wid].code = -9
        world.reap()
        boot_all(world)
    assert "workers died within" in world.machine.degraded
    keep_talking(world, 1060)
    assert len(world.spawns) == 4
    deadline = world.machine.next_deadline()
    assert deadline is not None
    assert deadline > world.now


def test_an_old_worker_is_no_deadline_while_a_reload_waits_for_another_one() -> None:
    """Renewals wait for the end of the reload."""
    world = on_duty(2, max_age_s=20)
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[3])
    world.puppets[3].code = -9
    world.reap()  # its place is filled again, beside the one on trial
    boot(world, world.puppets[4])
    keep_talking(world, 1030)
    assert world.machine.reloading
    deadline = world.machine.next_deadline()
    assert deadline is not None
    assert deadline > world.now


# ---- spoiled


def test_m3_a_spoiled_worker_is_replaced_and_its_unstarted_keys_go_elsewhere_at_once() -> None:
    """They do not wait for its death, and none of them counts as begun."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(3)
    world.feed(e.Woken())
    world.feed(e.ResizeAsked(+1))
    start(world, world.puppets[1])
    world.puppets[1].spoil()
    world.deliver(world.puppets[1], 3)  # all but its BYE
    assert world.machine.members[1].state is WorkerState.LEAVING
    assert list(world.machine.members[1].window) == []
    boot_all(world)
    assert sorted(world.machine.members[2].window) == [5, 6]
    world.reap()
    boot_all(world)
    assert (serving(world), world.lost) == ({2, 3}, [])
    assert any("is replaced: the job left the signal mask changed" in text for text in world.said)


def test_a_spoiled_worker_that_does_not_leave_is_ended() -> None:
    """It has the time of one that was asked to leave, whatever the grace of a stop."""
    world = on_duty(1, keys=1, grace_s=0, leave_s=5)
    start(world, world.puppets[1])
    world.puppets[1].spoil()
    world.puppets[1].code, world.puppets[1].stubborn = None, True
    world.deliver(world.puppets[1], 3)
    wait_until(world, 1006.9)
    assert world.puppets[1].code is None
    wait_until(world, 1007)
    assert world.puppets[1].code == -9


def test_spoiled_workers_are_no_deaths() -> None:
    """What leaves by itself in good order is recycled, however often."""
    world = on_duty(1, restarts_max=1)
    for wid in range(1, 9):
        world.add_keys(1)
        world.feed(e.Woken())
        start(world, world.puppets[wid])
        world.puppets[wid].spoil()
        world.reap()
        boot_all(world)
    assert world.machine.degraded == ""
    assert world.now == 1000


# ---- silence


def test_s9_fault_16_an_idle_worker_that_falls_silent_is_replaced_within_30_s() -> None:
    """Stopped or deadlocked: the ladder ends it, and a successor is there."""
    world = on_duty(2, poll_interval_s=600)
    world.puppets[1].stubborn = True
    keep_talking(world, 1025)
    assert world.machine.members[1].state is WorkerState.SERVING
    keep_talking(world, 1030)
    world.reap()
    assert 1 not in world.puppets
    assert world.puppets[2].code is None
    assert len(world.spawns) == 3
    assert any("it said nothing for" in text and "runs no job" in text for text in world.said)


def test_s9_a_silent_worker_that_was_given_keys_is_replaced_too() -> None:
    """They are taken back, and nothing ever says that it dropped them: that is no excuse to live for ever."""
    world = on_duty(2)
    world.puppets[1].stubborn = True
    world.add_keys(2)
    world.feed(e.Woken())
    for _ in range(4):
        for _ in range(6):
            world.puppets[2].act(1)
        world.deliver_all()
        world.tick(0.5)
    assert world.finished == {1, 2}
    assert world.machine.members[1].recalled
    keep_talking(world, 1060)
    world.reap()
    assert 1 not in world.puppets


def test_a_worker_that_waits_for_its_source_to_record_is_given_more_time() -> None:
    """It may take half a minute until it gives up by itself; until then it can say nothing."""
    world = on_duty(1, keys=1)
    start(world, world.puppets[1])
    world.puppets[1].say(Kind.RETURNED)
    world.puppets[1].stubborn = True
    world.deliver_all()
    wait_until(world, 1049)
    assert world.machine.members[1].state is WorkerState.SERVING
    wait_until(world, 1060)
    world.reap()
    assert 1 not in world.puppets
    assert [loss.pk for action in world.lost for loss in action.losses] == [1]


def test_s9_a_worker_that_falls_silent_while_it_loads_is_ended_as_soon_as_an_idle_one() -> None:
    """It says now and then that it is well, and nothing is lost that it has not begun."""
    world = on_duty(1, keys=1)
    world.puppets[1].act(1)  # it has received its hand, and loads it
    world.puppets[1].stubborn = True
    wait_until(world, 1024.9)
    assert world.machine.members[1].state is WorkerState.SERVING
    wait_until(world, 1030)
    world.reap()
    assert 1 not in world.puppets
    assert world.lost == []


def test_fault_17_a_supervisor_that_was_stopped_blames_nobody_for_its_own_absence() -> None:
    """What the workers said meanwhile is still to be read; one of them is read first."""
    world = on_duty(3)
    world.now += 600
    for puppet in world.puppets.values():
        puppet.say(Kind.ALIVE)
    for puppet in list(world.puppets.values()):
        world.deliver(puppet)
    world.tick()
    assert serving(world) == {1, 2, 3}
    assert all(member.ended is Ended.DIED for member in world.machine.members.values())
    keep_talking(world, world.now + 60)
    assert serving(world) == {1, 2, 3}


def test_a_busy_worker_need_not_say_anything() -> None:
    """A job that is asked nothing may take as long as it likes."""
    world = on_duty(1, keys=1)
    start(world, world.puppets[1])
    wait_until(world, 5000)
    assert world.puppets[1].code is None


@pytest.mark.parametrize("limits", [{"max_jobs": 5}, {"max_rss_bytes": 400 * MB}, {"max_age_s": 50}], ids=str)
def test_the_new_settings_say_when_workers_have_served_their_time(limits: dict[str, float]) -> None:
    """A reload changes these limits; what the old workers had used up does not count for the new ones."""
    world = World(Limits(workers=1))
    world.tick()
    boot_all(world)
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2], **limits)
    world.tick()
    assert {name: getattr(world.machine.limits, name) for name in limits} == limits
