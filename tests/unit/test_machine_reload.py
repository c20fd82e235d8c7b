"""The machine, one story at a time: more and fewer workers, and reloads."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.reports import Kind
from spawnpool.states import StopReason, SupervisorState, WorkerState
from tests.unit.stories import boot, boot_all, finish, on_duty, serving, start, wait_until
from tests.unit.world import World

# ---- more and fewer


def test_workers_are_added_and_retired_on_request() -> None:
    """TTIN spawns one more, TTOU lets the last one leave, and one always stays."""
    world = on_duty(2)
    world.feed(e.ResizeAsked(+1))
    boot_all(world)
    assert serving(world) == {1, 2, 3}
    for _ in range(5):
        world.feed(e.ResizeAsked(-1))
    assert serving(world) == {1}
    assert world.machine.wanted == 1


def test_a_worker_that_boots_for_a_place_that_is_gone_leaves() -> None:
    """TTIN and TTOU in quick succession end with as many workers as before."""
    world = on_duty(1)
    world.feed(e.ResizeAsked(+1))
    world.feed(e.ResizeAsked(-1))
    boot_all(world)
    world.act(world.puppets[2], 0)
    world.reap()
    assert set(world.machine.members) == {1}


# ---- reload


def test_a_reload_has_one_new_worker_beside_the_old_and_never_fewer() -> None:
    """Each old worker leaves only when its successor is READY."""
    world = on_duty(2)
    world.feed(e.ReloadAsked())
    assert (set(world.puppets), serving(world)) == ({1, 2, 3}, {1, 2})
    boot_all(world)
    assert serving(world) == {2, 3}
    assert world.machine.members[1].state is WorkerState.LEAVING
    for _ in range(3):
        for puppet in list(world.puppets.values()):
            world.act(puppet, 0)
            assert len(serving(world)) >= 2
            world.deliver(puppet)
        world.reap()
    assert (serving(world), world.machine.state) == ({3, 4}, SupervisorState.RUNNING)


def test_a_reload_is_refused_when_the_new_code_cannot_boot() -> None:
    """The old workers stay and nothing is tried again by itself."""
    world = on_duty(2)
    world.feed(e.ReloadAsked())
    world.puppets[3].fail_boot()
    world.reap()
    world.tick(100)
    assert (serving(world), world.machine.state) == ({1, 2}, SupervisorState.RUNNING)
    assert len(world.spawns) == 3
    assert any("reload refused" in text and "no module" in text for text in world.said)


def test_a_reload_asked_for_during_one_that_is_refused_is_tried() -> None:
    """Somebody repaired the code meanwhile and sent HUP again."""
    world = on_duty(1)
    world.feed(e.ReloadAsked())
    world.feed(e.ReloadAsked())
    world.puppets[2].fail_boot()
    world.reap()
    boot_all(world)
    assert serving(world) == {3}


def test_the_new_settings_hold_after_a_reload_but_for_fixed_ones() -> None:
    """The command line wins over the settings; the limits come from the workers that read them."""
    world = on_duty(1, fixed=frozenset({"grace_s"}))
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2], workers=3, grace_s=5, boot_timeout_s=9)
    world.tick()
    assert (world.machine.wanted, world.machine.limits.grace_s, world.machine.limits.boot_timeout_s) == (3, 30, 9)


@pytest.mark.parametrize(("by", "wanted"), [(+1, 4), (-1, 2)])
def test_more_or_fewer_workers_survive_a_reload(by: int, wanted: int) -> None:
    """TTIN and TTOU count on top of what the new settings say."""
    world = on_duty(2)
    world.feed(e.ResizeAsked(by))
    boot_all(world)
    world.feed(e.ReloadAsked())
    for _ in range(6):
        for puppet in list(world.puppets.values()):
            boot(world, puppet, workers=3) if not puppet.ready else world.act(puppet, 0)
        world.reap()
    assert world.machine.wanted == wanted


def test_new_settings_that_cannot_work_are_left_out_in_words() -> None:
    """The reload is done, with the old limits."""
    world = on_duty(1)
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2], workers=0)
    assert world.machine.wanted == 1
    assert any("left out" in text and "workers is 0" in text for text in world.said)


def test_an_old_worker_that_still_boots_does_not_stay_beside_its_successor() -> None:
    """A reload right after the start: whoever is ready first, one serves in each place."""
    world = World(Limits(workers=1))
    world.tick()
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2])
    boot(world, world.puppets[1])
    assert serving(world) == {2}


def test_a_retired_worker_that_hangs_after_its_last_job_is_ended() -> None:
    """However long the job takes, it may; what comes after it has a time of its own."""
    world = on_duty(1, keys=1, grace_s=0, leave_s=5)
    start(world, world.puppets[1])
    world.feed(e.ReloadAsked())
    boot_all(world)
    world.tick(1000)
    assert world.puppets[1].code is None
    finish(world, world.puppets[1])
    world.puppets[1].stubborn = True
    world.tick(4.9)
    assert world.machine.members[1].state is WorkerState.LEAVING
    for _ in range(9):
        world.tick_to_deadline()
    assert world.puppets[1].code == -9


def test_a_grace_of_nothing_is_one_for_stops_and_lets_old_workers_leave_in_peace() -> None:
    """An idle one has only to read that it is to leave: nobody aborts it for that it has not yet."""
    world = on_duty(1, grace_s=0)
    world.feed(e.ReloadAsked())
    boot_all(world)
    world.tick(29)
    assert (world.machine.members[1].state, world.puppets[1].code) == (WorkerState.LEAVING, None)
    world.act(world.puppets[1], 0)
    assert world.puppets[1].code == 0


def test_a_reload_to_code_of_which_a_part_is_broken_is_refused_without_any_ladder() -> None:
    """It has said all there is to say: it is killed at once, and the reload says what it said."""
    world = on_duty(1)
    world.feed(e.ReloadAsked())
    world.puppets[2].say(Kind.FLAW, text="shop.tasks cannot be imported")
    world.puppets[2].say(Kind.FLAW, text="nor can shop.mail")
    boot_all(world)
    assert (world.puppets[2].code, serving(world)) == (-9, {1})
    world.reap()
    assert [(end.ok, end.words.partition(": ")[2]) for end in world.reloads] == [
        (False, "the new worker could not boot: shop.tasks cannot be imported")
    ]
    wait_until(world, 1020)
    assert (len(world.spawns), world.machine.degraded) == (2, "")


def test_a_flaw_keeps_no_worker_from_its_place_where_there_is_none_to_stay() -> None:
    """At a start, and after a death: the jobs that do not need the broken part can be run."""
    world = World(Limits(workers=1))
    world.tick()
    for wid in (1, 2):
        world.puppets[wid].say(Kind.FLAW, text="shop.tasks cannot be imported")
        boot_all(world)
        assert serving(world) == {wid}
        world.puppets[wid].code = -9
        world.reap()
    assert world.said.count("goes to work, but shop.tasks cannot be imported") == 2


def test_a_reload_is_left_out_while_stopping() -> None:
    """HUP during a drain must not resurrect anything."""
    world = on_duty(1, keys=1)
    world.feed(e.StopAsked(StopReason.DRAIN))
    world.feed(e.ReloadAsked())
    assert len(world.spawns) == 1


def test_a_reload_tells_how_it_ended_whatever_its_end() -> None:
    """Whoever waits for it learns that it is done, refused and why, or given up for a stop."""
    world = on_duty(1)
    world.feed(e.ReloadAsked())
    boot_all(world)
    world.feed(e.ReloadAsked())
    world.puppets[3].fail_boot()
    world.reap()
    world.feed(e.ReloadAsked())
    world.stop(StopReason.DRAIN)
    assert [(end.ok, end.words) for end in world.reloads] == [
        (True, "reload done: 1 worker on the new code"),
        (False, "reload refused, the old workers stay: the new worker could not boot: ImportError: no module"),
        (False, "the reload was given up: the supervisor is stopping"),
    ]


def test_a_reload_that_is_refused_in_its_middle_says_how_far_it_came() -> None:
    """Some run the new code by then; all serve."""
    world = on_duty(2)
    world.feed(e.ReloadAsked())
    boot_all(world)
    world.puppets[4].fail_boot()
    world.reap()
    assert serving(world) == {2, 3}
    assert "reload refused after 1 of 2 workers, the old workers stay" in world.reloads[0].words


def test_a_reload_whose_worker_hangs_in_its_boot_is_refused_at_the_deadline() -> None:
    """By the ladder, which says where it hung; the old one serves all the time."""
    world = on_duty(1, keys=1, boot_timeout_s=9)
    start(world, world.puppets[1])
    world.feed(e.ReloadAsked())
    world.puppets[2].stubborn = True
    while not world.reloads:
        world.tick_to_deadline()
        world.reap()
    assert world.now == 1011
    assert "could not boot: not ready after 9 s" in world.reloads[0].words
    assert serving(world) == {1}
