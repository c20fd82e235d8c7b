"""SIGHUP with real workers: new code takes over without a gap, or is refused and the old stays."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.process.listpool import Does, key
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool


def test_a_reload_replaces_every_worker_and_loses_no_job(pool: Callable[..., Pool]) -> None:
    """Under load: new pids, each job once, and never fewer workers than wanted."""
    jobs = [key(Does.SLEEP, 20) for _ in range(80)]
    loaded = pool(jobs).ready_to_work()
    old = loaded.workers()
    seen = len(loaded.events("workers"))
    loaded.signal(signal.SIGHUP)
    loaded.wait_log("reload done: 2 workers on the new code").wait_done(*jobs)
    loaded.wait_replaced(*old)
    counts = [len(pids) for (pids,) in loaded.events("workers")[seen:]]
    assert (min(counts), max(counts) <= 4) == (2, True)
    loaded.stop()
    assert sorted(loaded.done()) == sorted(jobs)
    assert not loaded.events("lost")


def test_a_job_that_runs_during_a_reload_is_finished_by_the_old_worker(pool: Callable[..., Pool]) -> None:
    """It leaves when it is done, not before."""
    job = key(Does.SLEEP, 1200)
    busy = pool([job], workers=1).wait_started(job)
    (old,) = busy.workers()
    busy.signal(signal.SIGHUP)
    busy.wait_log("reload done")
    assert old in busy.workers()
    busy.wait_done(job).wait_replaced(old, workers=1).stop()
    assert (busy.starts(job), busy.events("lost")) == (1, [])


def test_new_limits_hold_after_a_reload(pool: Callable[..., Pool]) -> None:
    """The workers read them from the new settings and report them."""
    growing = pool(workers=1).ready(1)
    growing.code(limits={"workers": 3, "grace_s": 0.2})
    growing.signal(signal.SIGHUP)
    growing.ready(3)
    deaf = key(Does.DEAF)
    growing.add(deaf)
    growing.wait_started(deaf).stop(timeout_s=4)
    assert "the grace of 0.2 s is over" in growing.log()


def test_fault_28_a_reload_of_broken_code_is_refused_and_the_old_workers_stay(pool: Callable[..., Pool]) -> None:
    """One new worker tries, tells why it cannot, and that is all."""
    steady = pool().ready()
    old = steady.workers()
    steady.code(fail="no module named cake")
    steady.signal(signal.SIGHUP)
    steady.wait_log("reload refused, the old workers stay: the new worker could not boot: ImportError: no module named")
    job = key(Does.NOOP)
    steady.add(job)
    steady.wait_done(job)
    assert (steady.workers(), len(steady.events("boot"))) == (old, 3)
    steady.code()
    steady.signal(signal.SIGHUP)
    steady.wait_replaced(*old).stop()


def test_a_reload_of_code_that_hangs_is_refused_at_the_boot_deadline(pool: Callable[..., Pool]) -> None:
    """The old workers work on meanwhile, and a HUP that came meanwhile is tried after it."""
    steady = pool(boot_timeout_s=1.0).ready()
    old = steady.workers()
    steady.code(sleep_s=60)
    steady.signal(signal.SIGHUP)
    eventually(lambda: len(steady.events("boot")) == 3, what="the boot that hangs")
    job = key(Does.NOOP)
    steady.add(job)
    steady.wait_done(job)
    steady.code()
    steady.signal(signal.SIGHUP)
    steady.wait_log("reload refused").wait_replaced(*old).stop()


def test_fault_2_a_worker_that_dies_during_a_reload_is_replaced_by_new_code(pool: Callable[..., Pool]) -> None:
    """Old and new die in turn; in the end there are as many as are wanted."""
    poor = pool(boot={}).ready()
    old = poor.workers()
    poor.code(sleep_s=0.4)
    poor.signal(signal.SIGHUP)
    eventually(lambda: len(poor.workers()) == 3, what="a new worker beside the old ones")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    poor.wait_replaced(*old)
    poor.stop()


def test_fault_7_a_supervisor_killed_during_a_reload_leaves_nobody(pool: Callable[..., Pool]) -> None:
    """Old, new and booting workers die with it; the fixture looks."""
    poor = pool().ready()
    poor.code(sleep_s=30)
    poor.signal(signal.SIGHUP)
    eventually(lambda: len(poor.workers()) == 3, what="a new worker beside the old ones")
    poor.process.kill()
    assert poor.wait() == -9


def test_term_during_a_reload_ends_old_and_new_workers(pool: Callable[..., Pool]) -> None:
    """The one that boots holds nothing and is ended at once."""
    poor = pool().ready()
    poor.code(sleep_s=30)
    poor.signal(signal.SIGHUP)
    eventually(lambda: len(poor.workers()) == 3, what="a new worker beside the old ones")
    poor.stop(timeout_s=5)


def test_f28_a_reload_is_refused_for_code_that_a_start_would_go_to_work_with(pool: Callable[..., Pool]) -> None:
    """A module of tasks that cannot be imported: the old workers have it, and other jobs can be run without it."""
    flawed = pool(boot={"flaws": ["the module cake.tasks cannot be imported"]}).ready()
    flawed.wait_log("goes to work, but the module cake.tasks cannot be imported")
    before = flawed.workers()
    flawed.signal(signal.SIGHUP)
    flawed.wait_log("reload refused, the old workers stay: the new worker could not boot: the module cake.tasks cannot")
    assert flawed.workers() == before
    flawed.code()
    flawed.signal(signal.SIGHUP)
    flawed.wait_log("reload done")
    flawed.stop()


def test_a_reload_without_any_grace_ends_no_idle_worker_by_force(pool: Callable[..., Pool]) -> None:
    """The grace is for jobs; a worker that has none is given the time to leave."""
    hurried = pool(grace_s=0.0).ready()
    old = hurried.workers()
    hurried.signal(signal.SIGHUP)
    hurried.wait_log("reload done").wait_replaced(*old).stop()
    assert "is ended" not in hurried.log()
    assert "was killed" not in hurried.log()
