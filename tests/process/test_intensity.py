"""A pool whose workers die too often is degraded: slower, loud, told at its end, and still at work."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.process.listpool import Does, key
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool

WAIT_S = 60


def kill_one(pool: Pool) -> None:
    """Kill a worker that is up, as soon as there is one, and wait until its end is told."""
    told = pool.log().count("was killed by SIGKILL while idle")
    pid = eventually(pool.idle, WAIT_S, "an idle worker", pool.picture)[0]
    os.kill(pid, signal.SIGKILL)
    pool.wait_log("was killed by SIGKILL while idle", WAIT_S, count=told + 1)


def spawn_times(pool: Pool) -> list[float]:
    """Return when each worker was spawned, as the supervisor tells it."""
    seen: dict[int, float] = {}
    for _, _, at, pids in pool.events_with_pid("workers"):
        for pid in pids:
            seen.setdefault(pid, at)
    return sorted(seen.values())


def test_many_deaths_make_a_pool_slow_and_loud_until_its_workers_live_again(pool: Callable[..., Pool]) -> None:
    """Told once; restarts go on at a pace; jobs get done; when the deaths are past it is well, and exits with 0."""
    poor = pool(workers=3, restarts_max=2, restarts_window_s=4.0).ready(3)
    for pid in poor.workers():
        assert "degraded" not in poor.log()
        os.kill(pid, signal.SIGKILL)
        poor.wait_log(f"(pid {pid}) was killed by SIGKILL while idle", WAIT_S)
    poor.wait_log(
        "degraded: more than 2 workers died within 4 s, the last one was killed by SIGKILL; "
        "from now on one is started every 2 s",
        WAIT_S,
    )
    job = key(Does.NOOP)
    poor.add(job)
    poor.wait_done(job, timeout_s=WAIT_S)
    poor.wait_log("no longer degraded: the workers live long enough again", WAIT_S)
    poor.ready(3).stop()
    assert poor.log().count("degraded: more than") == 1
    *_, fifth, sixth = spawn_times(poor)
    assert sixth - fifth > 1.9, "the third successor came no later than the others"


def test_a_pool_that_is_stopped_while_it_is_degraded_says_so_by_its_exit_code(pool: Callable[..., Pool]) -> None:
    """6, however orderly the stop was."""
    poor = pool(restarts_max=3, restarts_window_s=600.0).ready()
    for _ in range(4):
        kill_one(poor)
    poor.wait_log("degraded: more than 3 workers died within 600 s, ", WAIT_S)
    job = key(Does.SLEEP, 100)
    poor.add(job)
    poor.wait_done(job, timeout_s=WAIT_S).stop(expect=6)
    assert poor.starts(job) == 1


def test_fault_19_a_poison_key_is_stopped_by_its_attempts_and_not_by_the_pool(pool: Callable[..., Pool]) -> None:
    """It kills its worker each time; the others are done meanwhile, and the pool is well."""
    poison, jobs = key(Does.KILL, signal.SIGSEGV), [key(Does.SLEEP, 20) for _ in range(50)]
    steady = pool([poison, *jobs], restarts_max=4).wait_done(*jobs, timeout_s=WAIT_S)
    eventually(lambda: steady.fates(poison) == ["again", "again", "failed"], WAIT_S, "its end", steady.picture)
    steady.ready().stop()
    assert sorted(steady.done()) == sorted(jobs)
    assert "degraded" not in steady.log()
