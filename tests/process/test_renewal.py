"""Workers that have served their time are replaced one at a time, in the middle of the work, and nobody notices."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from tests.process.listpool import Does, key
from tests.support import eventually, title_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool

WAIT_S = 60
TITLE_LAG_S = 0.05
"""How long the title of a worker may follow its report that it is ready; a boot takes longer."""


def watch(pool: Pool, until: Callable[[], bool]) -> tuple[int, int]:
    """Look at the workers until something is so; return the fewest that were up and the most that were booting."""
    fewest, most = 99, 0
    deadline = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < deadline, pool.picture()
        workers = pool.workers()
        titles = [title_of(pid) for pid in workers]
        if all(titles):  # else one ended while we looked
            booting = [pid for pid, title in zip(workers, titles, strict=True) if title.endswith("booting")]
            most = max(most, len(booting))
            if len(titles) - len(booting) < fewest:
                time.sleep(TITLE_LAG_S)
                booting = [pid for pid in booting if title_of(pid).endswith("booting")]
                fewest = min(fewest, len(titles) - len(booting))
        time.sleep(0.005)
    return fewest, most


def test_workers_are_replaced_after_their_jobs_while_they_work(pool: Callable[..., Pool]) -> None:
    """Three of them under load: never fewer than three are up, one boots at a time, each key is done exactly once."""
    jobs = [key(Does.SLEEP, 20) for _ in range(400)]
    worn = pool(workers=3, max_jobs=40).ready(3)
    first = worn.workers()
    worn.add(*jobs)
    fewest, most = watch(worn, lambda: len(worn.done()) == len(jobs) and not {*first} & {*worn.workers()})
    worn.stop()
    assert fewest == 3
    assert most <= 1
    assert sorted(worn.done()) == sorted(jobs)
    assert (worn.events("lost"), worn.log().count("was killed")) == ([], 0)
    replaced = [int(count) for count in re.findall(r"is going to be replaced: it has run (\d+) jobs", worn.log())]
    assert all(count >= 36 for count in replaced), "a tenth of their lifetime is left to chance, no more"
    for pid in first:
        assert f"(pid {pid}) is going to be replaced: " in worn.log()


def test_a_worker_that_grew_is_replaced_after_its_key_and_never_in_it(pool: Callable[..., Pool]) -> None:
    """The key that made it grow and the one that is running when this is noticed are finished."""
    big, slow = key(Does.GROW, 300), key(Does.SLEEP, 1500)
    grown = pool([big, slow], workers=1, max_rss_bytes=200 << 20).wait_started(slow)
    (old,) = grown.workers()
    grown.wait_log("is going to be replaced: it uses ", WAIT_S)
    grown.wait_done(big, slow, timeout_s=WAIT_S).wait_replaced(old, workers=1, timeout_s=WAIT_S).stop()
    assert (grown.starts(slow), grown.events("lost")) == (1, [])
    assert re.search(rf"\(pid {old}\) is going to be replaced: it uses \d+ MB of memory\n", grown.log())
    assert len(grown.events("boot")) == 2, "the successor is small, and stays"


def test_old_workers_are_replaced_one_after_the_other(pool: Callable[..., Pool]) -> None:
    """Both of one age, by their age; the capacity stays."""
    aged = pool(max_age_s=2.0).ready()
    first = aged.workers()
    fewest, most = watch(aged, lambda: not {*first} & {*aged.workers()})
    aged.stop()
    assert fewest == 2
    assert most <= 1
    assert re.search(r"is going to be replaced: it is 2 s old\n", aged.log())


def test_fault_28_a_renewal_brings_no_code_to_work_that_a_reload_would_refuse(pool: Callable[..., Pool]) -> None:
    """A module of tasks cannot be imported any more: the old worker has it and stays until it is repaired."""
    jobs, more = [key(Does.NOOP) for _ in range(5)], [key(Does.NOOP) for _ in range(5)]
    flawed = pool(workers=1, max_jobs=2).ready(1)
    (old,) = flawed.workers()
    flawed.code(flaws=["the module cake.tasks cannot be imported"])
    flawed.add(*jobs)
    flawed.wait_log("could not boot: the module cake.tasks cannot be imported; the old one stays", WAIT_S)
    flawed.add(*more)
    flawed.wait_done(*jobs, *more)
    assert {pid for _, pid, *_ in flawed.events_with_pid("done")} == {old}
    assert "goes to work" not in flawed.log()
    flawed.code()
    flawed.wait_replaced(old, workers=1, timeout_s=WAIT_S).stop()


def test_fault_28_a_successor_that_cannot_boot_leaves_the_old_one_in_place(pool: Callable[..., Pool]) -> None:
    """Its jobs are done by the old one all the while; once the code is repaired it is replaced."""
    jobs = [key(Does.NOOP) for _ in range(5)]
    broken = pool(workers=1, max_jobs=2).ready(1)
    (old,) = broken.workers()
    broken.code(fail="no module named gone")
    broken.add(*jobs)
    broken.wait_log("could not boot: ImportError: no module named gone; the old one stays", WAIT_S)
    more = [key(Does.NOOP) for _ in range(5)]
    broken.add(*more)
    broken.wait_done(*jobs, *more)
    assert {pid for _, pid, *_ in broken.events_with_pid("done")} == {old}
    broken.code()
    broken.wait_replaced(old, workers=1, timeout_s=WAIT_S)
    eventually(lambda: "degraded" not in broken.log(), what="a pool that is well")
    broken.stop()
