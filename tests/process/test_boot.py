"""Workers that cannot boot, hang in boot or cannot be made: back-off, a sentence, and nobody else is hurt."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from spawnpool.states import ExitCode
from tests.process.listpool import Does, key
from tests.support import eventually, fds_of, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool


def boots(pool: Pool) -> list[float]:
    """Return when workers began to boot."""
    return [at for what, _, at, *_ in pool.journal() if what == "boot"]


def test_a_boot_that_fails_is_told_in_its_own_words_and_backs_off(pool: Callable[..., Pool]) -> None:
    """Fault 29: the next tries come after 1 s and 2 s; repaired code is taken up by itself."""
    broken = pool([job := key(Does.NOOP)], workers=1, boot={"fail": "no module named cake"})
    broken.wait_log("could not boot: ImportError: no module named cake; next try in 1 s")
    broken.wait_log("next try in 2 s")
    broken.code()
    broken.wait_done(job).stop()
    first, second = (later - at for at, later in pairwise(boots(broken)))
    assert 1 <= first < 2 <= second < 4


def test_a_boot_that_hangs_is_killed_at_its_deadline(pool: Callable[..., Pool]) -> None:
    """Fault 30: readiness is a message with a deadline, not the existence of a process."""
    hanging = pool(workers=1, boot={"sleep_s": 60}, boot_timeout_s=0.6)
    hanging.wait_log("is ended: not ready after 0.6 s").wait_log("next try in 1 s")
    hanging.code()
    hanging.ready(1).stop()


@pytest.mark.parametrize("code", [0, 3, 7])
def test_a_boot_that_ends_the_process_is_told_with_its_code(pool: Callable[..., Pool], code: int) -> None:
    """Also code 0: a worker that leaves before it was ready could not boot."""
    ending = pool(workers=1, boot={"exit": code})
    ending.wait_log(f"exited with code {code}").wait_log("before it was ready; next try in 1 s")
    ending.stop(expect=ExitCode.BOOT_FAILED)


def test_m7_an_interpreter_that_ends_at_once_does_not_hang_the_spawn(pool: Callable[..., Pool]) -> None:
    """What is pickled into the pipe that nobody reads is small: the spawn returns and backs off."""
    lame = pool(workers=1, twists={"lame_interpreter": True})
    lame.wait_log("exited with code 0", 5).wait_log("next try in 2 s", 5)
    lame.stop(expect=ExitCode.BOOT_FAILED, timeout_s=5)


def test_fault_50_every_single_spawn_may_fail_and_nothing_is_lost(pool: Callable[..., Pool]) -> None:
    """For every n: the n-th spawn fails, and every job of a short run with deaths is done all the same."""
    for n in (1, 2, 3):
        jobs = [key(Does.NOOP), key(Does.KILL_BEFORE_RECORD), key(Does.NOOP), key(Does.NOOP)]
        unlucky = pool(jobs, twists={"fail_spawns": [n, n]}).wait_done(*jobs)
        unlucky.wait_log(
            "a worker could not be spawned: Resource temporarily unavailable (the limit on open files or on processes)"
        )
        unlucky.stop()
        assert sorted(unlucky.done()) == sorted(jobs)


def test_fault_44_spawns_that_fail_leave_running_jobs_unharmed(pool: Callable[..., Pool]) -> None:
    """The message names the limit, the back-off grows, and the worker that is there works on."""
    job, later = key(Does.SLEEP, 1500), key(Does.NOOP)
    poor = pool([job], twists={"fail_spawns": [2, 3]}).wait_started(job)
    poor.wait_log("next try in 1 s").wait_log("next try in 2 s")
    poor.add(later)
    poor.wait_done(job, later).ready(2)
    poor.stop()
    assert (poor.starts(job), poor.events("lost")) == (1, [])


@pytest.mark.parametrize("free", [2, 4, 6, 7, 8, 9, 10, 11, 12, 14])
def test_fault_44_at_any_limit_on_descriptors_a_spawn_works_or_backs_off(pool: Callable[..., Pool], free: int) -> None:
    """Wherever in the spawn the descriptors run out, it is told in words, and no process is left without an owner."""
    poor = pool(workers=1, twists={"limit_descriptors": free})
    eventually(lambda: poor.idle() or "Too many open files" in poor.log(), 20, "an end", poor.picture)
    if not poor.idle():
        poor.wait_log("Too many open files (the limit on open files or on processes); next try in 1 s")
        eventually(lambda: not poor.idle() and len(processes_of(poor.pid)) <= 1, 5, "at most a tracker", poor.picture)
    poor.stop(expect=ExitCode.OK if poor.events("boot") else ExitCode.BOOT_FAILED)


def test_failed_spawns_leak_no_descriptors(pool: Callable[..., Pool]) -> None:
    """A supervisor that cannot spawn for hours must still be able to when the limit is lifted."""
    poor = pool(workers=1, twists={"fail_spawns": [1, 3]}).wait_log("next try in 1 s")
    before = len(fds_of(poor.pid))
    poor.wait_log("next try in 4 s")
    eventually(lambda: len(fds_of(poor.pid)) <= before, what="no more descriptors than after the first failure")
    poor.stop(expect=ExitCode.BOOT_FAILED)


def test_a_term_during_back_off_ends_it_at_once(pool: Callable[..., Pool]) -> None:
    """Nobody waits for the next try."""
    broken = pool(workers=1, boot={"fail": "broken"}).wait_log("next try in 2 s")
    began = time.monotonic()
    broken.stop(expect=ExitCode.BOOT_FAILED)
    assert time.monotonic() - began < 1.5
