"""The machine, one story at a time: running keys that take too long, need too much memory, or are cancelled."""

from __future__ import annotations

import pytest

from spawnpool import events as e
from spawnpool.bounds import Bounds, Interrupt
from spawnpool.reports import Kind, Report
from spawnpool.states import Ended, StopReason, SupervisorState, WorkerState
from tests.unit.puppet import MB, Job
from tests.unit.stories import at_work, boot, boot_all, finish, learn_short_keys, on_duty, start, wait_until
from tests.unit.world import World

TIMEOUT = Bounds(timeout_s=5, grace_s=3)
HEEDS, IGNORES = Job(TIMEOUT), Job(TIMEOUT, heeds=False)
LOUD_TIMEOUT = e.Order(1, 1, Interrupt.TIMEOUT, loudly=True)
QUIET_CANCEL, LOUD_CANCEL = (e.Order(1, 1, Interrupt.CANCEL, loudly=loudly) for loudly in (False, True))


def ended(world: World) -> list[tuple[int, Ended, str]]:
    """Return which keys were lost, by what and why."""
    return [(loss.pk, loss.ended, loss.why) for action in world.lost for loss in action.losses]


# ---- time-outs


def test_s9_a_job_that_heeds_its_time_out_ends_by_itself() -> None:
    """It is interrupted once, right at its time-out, cleans up, and its worker goes on."""
    world = at_work(HEEDS)
    wait_until(world, 1004.9)
    assert world.orders == []
    wait_until(world, 1005)
    assert world.orders == [LOUD_TIMEOUT]
    wait_until(world, 1007.9)
    world.puppets[1].heed()
    world.deliver_all()
    wait_until(world, 1020)
    assert (world.finished, world.orders, world.puppets[1].code) == ({1}, [LOUD_TIMEOUT], None)


@pytest.mark.parametrize(("stubborn", "code", "ends_at"), [(False, -6, 1008), (True, -9, 1010)])
def test_s9_fault_16_a_job_that_ignores_its_time_out_loses_its_worker(
    *, stubborn: bool, code: int, ends_at: float
) -> None:
    """Interrupt, grace, SIGABRT, 2 s, SIGKILL; the account says what for, and the next worker is there at once."""
    world = at_work(IGNORES)
    puppet = world.puppets[1]
    puppet.stubborn = stubborn
    while puppet.code is None:
        world.tick_to_deadline()
    assert (world.now, puppet.code) == (ends_at, code)
    world.reap()
    why = "its time-out of 5 s was over and it did not end within 3 s more"
    assert ended(world) == [(1, Ended.TIMED_OUT, why)]
    assert world.lost[0].losses[0].ran_s == ends_at - 1000
    assert world.spawns[-1] == (world.now, 1)


def test_a_key_without_a_time_out_runs_for_ever() -> None:
    """And the time-out of the one before it is not its own."""
    world = at_work(HEEDS)
    finish(world, world.puppets[1])
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    wait_until(world, 1100)
    assert world.orders == []
    assert world.puppets[1].running == 2


def test_the_time_out_counts_from_the_start_of_the_key_and_not_of_the_hand() -> None:
    """Keys that wait behind another one lose nothing by that."""
    world = on_duty(1)
    learn_short_keys(world)
    world.jobs |= {4: HEEDS, 5: HEEDS}
    world.add_keys(2)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    wait_until(world, 1000.9)
    finish(world, world.puppets[1])
    start(world, world.puppets[1])
    wait_until(world, 1005.8)
    assert world.orders == []
    wait_until(world, 1005.9)
    assert [(order.pk, order.why) for order in world.orders] == [(5, Interrupt.TIMEOUT)]


def test_a_worker_that_was_asked_to_leave_still_has_its_time_out() -> None:
    """A reload waits for its jobs, and they do not take for ever."""
    world = at_work(IGNORES)
    world.feed(e.ReloadAsked())
    boot_all(world)
    assert world.machine.members[1].state is WorkerState.LEAVING
    wait_until(world, 1008)
    assert world.puppets[1].code == -6
    world.reap()
    assert [end for _, end, _ in ended(world)] == [Ended.TIMED_OUT]


def test_a_drain_does_not_suspend_the_time_out() -> None:
    """The grace of the stop is longer; the account still says that it was the time-out."""
    world = at_work(IGNORES)
    world.stop(StopReason.DRAIN)
    wait_until(world, 1008)
    assert world.orders == [LOUD_TIMEOUT]
    assert world.puppets[1].code == -6
    world.reap()
    assert [end for _, end, _ in ended(world)] == [Ended.TIMED_OUT]
    assert world.machine.state is SupervisorState.STOPPED


def test_the_grace_of_a_stop_is_not_lengthened_by_that_of_a_time_out() -> None:
    """Whatever the job was promised, the stop ends it; that is nobody's time-out."""
    world = at_work(Job(Bounds(timeout_s=5, grace_s=1000), heeds=False), grace_s=10)
    world.stop(StopReason.DRAIN)
    wait_until(world, 1010)
    assert world.puppets[1].code == -6
    world.reap()
    assert [end for _, end, _ in ended(world)] == [Ended.STOPPED]


def test_a_key_that_had_returned_does_not_pay_for_the_one_that_hung() -> None:
    """It is lost with the worker, but not by a limit of its own."""
    world = on_duty(1)
    learn_short_keys(world)
    world.jobs[5] = IGNORES
    world.add_keys(2)
    world.feed(e.Woken())
    puppet = world.puppets[1]
    start(world, puppet)
    puppet.act(0)  # returned, and not recorded: another one is at hand
    start(world, puppet)
    assert puppet.unsettled == [4, 5]
    wait_until(world, 1008)
    world.reap()
    assert [(pk, end) for pk, end, _ in ended(world)] == [(4, Ended.EXPELLED), (5, Ended.TIMED_OUT)]


# ---- cancelling


def test_a_cancelled_job_is_asked_then_interrupted_then_ended() -> None:
    """Each with its time: cancel_ask_s after the asking it is interrupted, cancel_grace_s later the ladder follows."""
    world = at_work(Job(heeds=False), cancel_ask_s=2, cancel_grace_s=4)
    wait_until(world, 1010)
    world.cancel(1)
    assert world.orders == [QUIET_CANCEL]
    wait_until(world, 1011.9)
    assert world.orders == [QUIET_CANCEL]
    wait_until(world, 1012)
    assert world.orders == [QUIET_CANCEL, LOUD_CANCEL]
    wait_until(world, 1015.9)
    assert world.puppets[1].code is None
    wait_until(world, 1016)
    world.reap()
    assert ended(world) == [(1, Ended.CANCELLED, "it was cancelled and did not end within 4 s")]


def test_a_cancelled_job_that_heeds_it_keeps_its_worker() -> None:
    """By looking at what it was asked, or by the exception."""
    world = at_work(Job())
    world.cancel(1)
    wait_until(world, 1001)
    world.puppets[1].heed()
    world.deliver_all()
    wait_until(world, 1020)
    assert (world.finished, world.puppets[1].code, world.lost) == ({1}, None, [])


def test_to_cancel_twice_is_to_cancel_once() -> None:
    """The second request neither repeats the order nor puts the ladder off."""
    world = at_work(Job(heeds=False), cancel_ask_s=2, cancel_grace_s=4)
    world.cancel(1)
    wait_until(world, 1001)
    world.cancel(1)
    wait_until(world, 1003)
    world.cancel(1)
    assert world.orders == [QUIET_CANCEL, LOUD_CANCEL]
    wait_until(world, 1006)
    assert world.puppets[1].code == -6


def test_a_key_that_is_cancelled_before_it_starts_is_loaded_anew_and_asked_as_soon_as_it_starts() -> None:
    """It is taken back, so that who loads it next may see it; and if it starts all the same, only it is asked."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(3)
    world.feed(e.Woken())
    puppet = world.puppets[1]
    start(world, puppet)
    assert list(world.machine.members[1].window) == [4, 5, 6]
    world.cancel(5, 77)
    assert world.orders == []
    assert list(world.machine.members[1].window) == [4]
    assert list(world.machine.spare) == [5, 6]
    while list(world.machine.members[1].window) != [5, 6]:
        puppet.act(1)
        world.deliver_all()
    world.cancel(5)
    assert list(world.machine.members[1].window) == [5, 6], "what is known already is no reason to take it back"
    start(world, puppet)
    assert world.orders == [e.Order(1, 5, Interrupt.CANCEL, loudly=False)]
    finish(world, puppet)
    start(world, puppet)
    assert puppet.running == 6
    wait_until(world, 1060)
    assert len(world.orders) == 1, "the next key was interrupted, too"


def test_a_key_that_is_tried_again_on_its_worker_finds_a_clean_card() -> None:
    """What the card says was meant for the time before."""
    world = at_work(HEEDS)
    wait_until(world, 1005)
    world.puppets[1].heed()
    world.deliver_all()
    world.finished.clear()
    world.waiting.append(1)  # its attempt failed, and it may be tried again
    world.feed(e.Woken())
    start(world, world.puppets[1])
    assert world.orders == [LOUD_TIMEOUT, e.Order(1, 1, Interrupt.NONE, loudly=False)]
    assert world.puppets[1].card == (1, Interrupt.NONE)


def test_the_account_of_a_job_that_began_after_the_one_that_hung_does_not_blame_it() -> None:
    """The permit was taken, its start was not told: by then the worker was being ended for the job before."""
    world = at_work(IGNORES)
    world.add_keys(1)
    world.machine.members[1].sent([2], world.now)
    world.claimed[2] = None
    wait_until(world, 1008)
    world.claimed[2] = 1
    world.reap()
    assert [(pk, end) for pk, end, _ in ended(world)] == [(1, Ended.EXPELLED), (2, Ended.EXPELLED)]
    assert ended(world)[1][2].startswith("for the job before this one: its time-out of 5 s was over")


def test_a_key_that_was_cancelled_elsewhere_is_none_of_our_business() -> None:
    """A number that nobody knows, or that comes only later, leads to nothing."""
    world = on_duty(1)
    world.cancel(1, 99)
    world.add_keys(1)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    wait_until(world, 1060)
    assert world.orders == []


def test_a_cancelled_key_that_goes_to_another_worker_is_asked_there() -> None:
    """Its worker died before it began; the request is not forgotten with that."""
    world = on_duty(1)
    learn_short_keys(world)
    world.add_keys(2)
    world.feed(e.Woken())
    start(world, world.puppets[1])
    world.cancel(5)
    world.puppets[1].code = -9
    world.reap()
    boot_all(world)
    world.tick()
    start(world, world.puppets[2])
    assert world.orders == [e.Order(2, 5, Interrupt.CANCEL, loudly=False)]


def test_a_cancelled_key_that_ended_and_comes_again_is_a_new_one() -> None:
    """Whether that is still cancelled is for the source to say."""
    world = at_work(Job())
    world.cancel(1)
    world.puppets[1].code = -9
    world.reap()
    boot_all(world)
    world.tick()
    start(world, world.puppets[2])
    assert world.puppets[2].running == 1
    assert world.orders == [QUIET_CANCEL]


def test_the_times_of_a_cancellation_are_those_of_the_latest_settings() -> None:
    """A reload changes them for the jobs that run as well."""
    world = at_work(Job(heeds=False), workers=1)
    world.feed(e.ReloadAsked())
    boot(world, world.puppets[2], cancel_ask_s=7, cancel_grace_s=9)
    world.cancel(1)
    wait_until(world, 1006.9)
    assert world.orders == [QUIET_CANCEL]
    wait_until(world, 1015.9)
    assert world.orders == [QUIET_CANCEL, LOUD_CANCEL]
    assert world.puppets[1].code is None
    wait_until(world, 1016)
    assert world.puppets[1].code == -6


def test_a_cancelled_job_gets_no_longer_than_its_time_out() -> None:
    """Were the asking to last longer, the time-out interrupts it all the same."""
    world = at_work(HEEDS, cancel_ask_s=600)
    wait_until(world, 1004)
    world.cancel(1)
    wait_until(world, 1005)
    assert world.orders == [QUIET_CANCEL, LOUD_CANCEL]


def test_a_job_that_is_cancelled_after_its_time_out_keeps_the_grace_of_that() -> None:
    """It was interrupted already; nothing is more urgent than that."""
    world = at_work(IGNORES)
    wait_until(world, 1006)
    world.cancel(1)
    assert world.orders == [LOUD_TIMEOUT]
    wait_until(world, 1008)
    assert world.puppets[1].code == -6


def test_the_source_is_asked_who_is_cancelled_while_something_runs() -> None:
    """About once a second, not for keys that come and go in an instant, and not while nothing runs."""
    world = at_work(Job())
    world.cancel_wanted = {1}
    wait_until(world, 1000.6)
    assert world.machine.next_deadline() == 1001
    world.tick_to_deadline()
    assert world.orders == [QUIET_CANCEL]
    finish(world, world.puppets[1])
    world.cancel_wanted = {5}
    wait_until(world, 1030)
    assert world.cancel_wanted == {5}


# ---- memory


def test_a_job_that_outgrows_its_memory_loses_its_worker_and_nobody_else_does() -> None:
    """It is measured while it runs, in short intervals, and the account gives both figures."""
    world = at_work(Job(Bounds(memory_bytes=512 * MB)), workers=2)
    world.puppets[1].rss_bytes = 512 * MB
    wait_until(world, 1001)
    assert world.puppets[1].code is None
    world.puppets[1].rss_bytes = 612 * MB
    wait_until(world, 1001.06)
    world.reap()
    assert ended(world) == [(1, Ended.OVER_MEMORY, "used 612 MB, limit 512 MB")]
    assert world.puppets[2].code is None


def test_the_memory_of_an_idle_worker_is_no_jobs_fault() -> None:
    """What the last job had as its limit says nothing about a worker that runs nothing."""
    world = at_work(Job(Bounds(memory_bytes=512 * MB)))
    finish(world, world.puppets[1])
    world.puppets[1].rss_bytes = 900 * MB
    wait_until(world, 1006)
    assert world.puppets[1].code is None


def test_jobs_without_a_limit_are_not_measured_in_short_intervals() -> None:
    """Only with the look at the children every 5 s."""
    world = at_work(Job())
    actions = [action for n in range(1, 40) for action in world.machine.step(e.Tick(), 1000 + n / 10)]
    assert not [action for action in actions if isinstance(action, e.Measure)]


@pytest.mark.parametrize("state", ["booting", "ending"])
def test_orders_and_measurements_come_too_late_for_a_worker_that_is_ending(state: str) -> None:
    """Its fate is decided; nothing is added to it."""
    world = at_work(Job(Bounds(5, 3, 512 * MB), heeds=False)) if state == "ending" else on_duty(1)
    world.feed(e.Babbled(1, "it sent rubbish") if state == "ending" else e.ReloadAsked())
    world.cancel(1)
    world.feed(e.Measured(1, 900 * MB))
    world.feed(e.Measured(99, 900 * MB))
    assert world.orders == []
    assert all(member.ended in (Ended.DIED, Ended.EXPELLED) for member in world.machine.members.values())


def test_the_limits_of_the_next_key_are_not_those_of_the_one_that_runs() -> None:
    """The worker tells them before it tells that the key starts; both need not be read at once."""
    world = at_work(IGNORES)
    wait_until(world, 1005)
    world.feed(e.Reported(1, [Report(Kind.BOUNDS, text=Bounds(None, 100, 1).encode())]))
    world.feed(e.Measured(1, 900 * MB))
    assert world.puppets[1].code is None
    wait_until(world, 1008)
    world.reap()
    assert ended(world) == [(1, Ended.TIMED_OUT, "its time-out of 5 s was over and it did not end within 3 s more")]
