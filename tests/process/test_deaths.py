"""Whatever a job or an outsider does to one worker costs that worker and one attempt, and nobody else anything."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.process.listpool import Does, key
from tests.support import eventually, is_alive, processes_of, title_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool


def test_m1_kill_9_of_an_idle_worker_50_times_leaves_the_others_working(pool: Callable[..., Pool]) -> None:
    """No lock is shared that a killed reader could keep."""
    poor = pool(restarts_max=1000).ready()
    steady, *_ = poor.workers()
    for _ in range(50):
        victim = next(pid for pid in reversed(poor.workers()) if pid != steady)
        os.kill(victim, signal.SIGKILL)
        poor.wait_replaced(victim)
    jobs = [key(Does.SLEEP, 50) for _ in range(6)]
    poor.add(*jobs)
    poor.wait_done(*jobs)
    assert steady in poor.workers()
    assert len({pid for what, pid, *_ in poor.journal() if what == "done"}) == 2
    poor.stop()


def test_m3_a_result_arrives_though_the_worker_ends_right_after_reporting_it(pool: Callable[..., Pool]) -> None:
    """No feeder thread holds a report back."""
    jobs = [key(Does.EXIT_AFTER_SETTLED) for _ in range(10)]
    hasty = pool(jobs).wait_done(*jobs)
    hasty.ready().stop()
    assert not hasty.events("lost")
    assert sorted(hasty.done()) == sorted(jobs)


def test_m4_stopped_workers_under_load_do_not_hold_the_loop_up(pool: Callable[..., Pool]) -> None:
    """SIGSTOP in mid-flight: signals are answered, the others work on, the stopped one goes on later."""
    jobs = [key(Does.SLEEP, 5) for _ in range(300)]
    loaded = pool(jobs, workers=3).ready_to_work()
    for pid in loaded.workers()[:2]:
        os.kill(pid, signal.SIGSTOP)
    delays = []
    for count in range(1, 6):
        began = time.monotonic()
        loaded.signal(signal.SIGUSR2)
        loaded.wait_log("state running", count=count)
        delays.append(time.monotonic() - began)
    assert sorted(delays)[2] < 0.5, f"answers took {delays} s"
    eventually(lambda: len(loaded.done()) >= 285, what="most jobs, by one worker", picture=loaded.picture)
    for pid in loaded.workers():
        os.kill(pid, signal.SIGCONT)
    loaded.wait_done(*jobs).stop()
    assert len(loaded.done()) == 300, "each exactly once"


@pytest.mark.parametrize("noise", [0, 1, 2], ids=["noise", "half a report", "a report that cannot be"])
def test_m5_garbage_on_the_lane_costs_only_that_worker(pool: Callable[..., Pool], noise: int) -> None:
    """It is ended and replaced, its key is told as lost; the other worker and its job notice nothing."""
    bad, good = key(Does.GARBAGE, noise), key(Does.SLEEP, 500)
    noisy = pool([good, bad]).wait_started(good)
    eventually(lambda: noisy.fates(bad), what="the account of the noisy key", picture=noisy.picture)
    noisy.wait_done(good)
    assert noisy.starts(good) == 1
    assert noisy.events("lost")[0][3] == "expelled"
    assert "is ended: " in noisy.log()
    noisy.signal(signal.SIGQUIT)
    assert noisy.wait() == 0


def test_m6_kill_9_of_a_worker_in_mid_job_leaves_the_others_untouched(pool: Callable[..., Pool]) -> None:
    """Fault 1: the attempt is told in words and tried again; no other job is begun twice."""
    bad, good = key(Does.SLEEP, 600), key(Does.SLEEP, 600)
    poor = pool([bad, good], check_interval_s=60).wait_started(bad, good)
    victim = next(pid for _, pid, _, pk in poor.events_with_pid("start") if pk == bad)
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: poor.fates(bad) == ["again"], what="the account of the lost key", picture=poor.picture)
    assert time.monotonic() - began < 1
    poor.wait_done(bad, good).stop()
    assert (poor.starts(bad), poor.starts(good)) == (2, 1)
    assert f"(pid {victim}) was killed by SIGKILL" in poor.log()
    assert f"while running key {bad}, after 0." in poor.log()


def sleepers(worker: int) -> list[int]:
    """Return what a worker's job left behind: its child, or the child of a shell that has ended."""
    return processes_of(worker) or [pid for pid in processes_of(os.getpid()) if title_of(pid) == "sleep 60.0"]


@pytest.mark.parametrize("does", [Does.FORK_SLEEPER, Does.SHELL_SLEEPER])
def test_m8_a_sleeping_grandchild_does_not_delay_the_news_of_a_death(pool: Callable[..., Pool], does: Does) -> None:
    """It holds the worker's pipes open for a minute; the pidfd tells all the same."""
    job = key(does, 60_000)
    parent = pool([job], workers=1, check_interval_s=60).wait_done(job).ready(1)
    (victim,) = parent.workers()[:1]
    (grandchild,) = sleepers(victim)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len({pid for _, pid, *_ in parent.events_with_pid("boot")}) == 2, 2, "a successor's boot")
    parent.stop()
    assert is_alive(grandchild)
    os.kill(grandchild, signal.SIGKILL)


def test_m17_a_forked_child_that_comes_back_from_the_job_is_ended(pool: Callable[..., Pool]) -> None:
    """One result from one process, and the worker goes on."""
    job, after = key(Does.FORK_RETURN), key(Does.NOOP)
    forking = pool([job], workers=1).wait_done(job)
    forking.add(after)
    forking.wait_done(after).stop()
    assert (forking.done().count(job), forking.events("lost")) == (1, [])
    assert len({pid for what, pid, *_ in forking.journal() if what == "done"}) == 1


def test_m18_no_report_goes_into_a_file_of_the_job(pool: Callable[..., Pool]) -> None:
    """The job closed the lanes and its files took their numbers: the worker leaves, the job is accounted for."""
    job = key(Does.CLOSE_ALL)
    broken = pool([job], workers=1)
    eventually(lambda: broken.fates(job) == ["again", "again", "failed"], 20, "three attempts", broken.picture)
    broken.ready(1).stop()
    assert all("exited with code 5 (a job closed or replaced" in loss[1] for loss in broken.events("lost"))
    files = [path.read_bytes() for path in broken.directory.glob("precious-*")]
    assert set(files) == {b"precious"}


@pytest.mark.parametrize(
    ("does", "arg", "words"),
    [
        (Does.KILL, signal.SIGSEGV, "was killed by SIGSEGV"),
        (Does.KILL, 40, "was killed by signal 40"),
        (Does.EXIT, 0, "exited with code 0"),
        (Does.EXIT, 7, "exited with code 7"),
        (Does.EXIT, 70, "exited with code 70"),
    ],
)
def test_fault_20_an_end_in_mid_job_is_never_a_success(
    pool: Callable[..., Pool], does: Does, arg: int, words: str
) -> None:
    """Three attempts, then it has failed, each with the exit in words."""
    job = key(does, arg)
    violent = pool([job], workers=1)
    eventually(lambda: violent.fates(job) == ["again", "again", "failed"], 20, "three attempts", violent.picture)
    violent.ready(1).stop()
    assert all(words in loss[1] for loss in violent.events("lost"))
    assert not violent.done()


def test_s5_no_worker_outlives_a_killed_supervisor(pool: Callable[..., Pool]) -> None:
    """Fault 6: running, idle or booting, they are gone within a second."""
    job = key(Does.DEAF)
    orphaned = pool([job]).wait_started(job)
    orphaned.signal(signal.SIGTTIN)
    eventually(lambda: len(orphaned.workers()) == 3, what="a third worker that boots")
    workers = orphaned.workers()
    orphaned.process.kill()
    eventually(lambda: not any(map(is_alive, workers)), 1, "the end of every worker")
    assert orphaned.wait() == -9


def test_s9_a_stopped_worker_cannot_stop_the_end(pool: Callable[..., Pool]) -> None:
    """SIGABRT waits for it to go on, SIGKILL does not."""
    job = key(Does.SLEEP, 60_000)
    stopped = pool([job], grace_s=0.3).wait_started(job).wait_log("on duty")
    for pid in stopped.workers():
        os.kill(pid, signal.SIGSTOP)
    stopped.stop(timeout_s=5)
    assert stopped.fates(job) == ["again"]


def test_s9_keys_before_a_stopped_idle_worker_go_to_another(pool: Callable[..., Pool]) -> None:
    """They were sent and not begun: taken back by their permits, without the worker's help."""
    halted = pool().ready()
    os.kill(halted.workers()[0], signal.SIGSTOP)
    jobs = [key(Does.NOOP) for _ in range(10)]
    halted.add(*jobs)
    halted.wait_done(*jobs)
    assert sorted(halted.done()) == sorted(jobs)
    os.kill(halted.workers()[0], signal.SIGCONT)
    halted.stop()


def test_fault_17_both_workers_die_while_the_supervisor_is_stopped(pool: Callable[..., Pool]) -> None:
    """It wakes up with a check overdue and two deaths to account for."""
    jobs = [key(Does.SLEEP, 300) for _ in range(2)]
    late = pool(jobs, check_interval_s=0.1).wait_started(*jobs)
    late.signal(signal.SIGSTOP)
    for pid in late.workers():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)  # the check becomes overdue
    late.signal(signal.SIGCONT)
    late.wait_done(*jobs)
    late.ready().stop()
    assert [late.fates(pk) for pk in jobs] == [["again"], ["again"]]


def test_a_worker_that_got_term_finishes_its_job_and_is_replaced(pool: Callable[..., Pool]) -> None:
    """As systemd's KillMode=control-group would do it: no job is lost, nobody is blamed."""
    job, behind = key(Does.SLEEP, 400), key(Does.NOOP)
    asked = pool([job], workers=1).wait_started(job)
    (pid,) = asked.workers()
    os.kill(pid, signal.SIGTERM)
    asked.add(behind)
    asked.wait_done(job, behind).wait_replaced(pid, workers=1).stop()
    assert not asked.events("lost")


def test_the_stack_of_a_child_that_crashed_is_not_taken_for_its_workers(pool: Callable[..., Pool]) -> None:
    """A killed worker was nowhere that anybody knows; one that crashes was where it says itself."""
    first, crashed = key(Does.ABORT_CHILD), key(Does.KILL, signal.SIGABRT)
    second, killed = key(Does.ABORT_CHILD), key(Does.SLEEP, 60_000)
    poor = pool([first, crashed], workers=1)
    assert re.search(r"; it was at \S+listpool.py:\d+ in <lambda>$", poor.account(crashed))
    eventually(lambda: "failed" in poor.fates(crashed), 60, "its last attempt", poor.picture)
    poor.add(second)
    poor.wait_done(second, timeout_s=60).add(killed)
    poor.wait_started(killed)
    (pid,) = {pid for _, pid, _, pk in poor.events_with_pid("start") if pk in (second, killed)}
    os.kill(pid, signal.SIGKILL)
    account = poor.account(killed)
    assert "was killed by SIGKILL while running" in account
    assert "it was at" not in account
