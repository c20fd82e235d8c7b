"""What each signal does to a supervisor with real workers: drain, hurry, quiet, resize, tell."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.process.listpool import Does, key
from tests.support import eventually, processes_of, title_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool

TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP
STOPS = (TERM, INT, QUIT)
OTHERS = (
    HUP, signal.SIGTSTP, signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip


def test_s1_term_ends_an_idle_supervisor_at_once(pool: Callable[..., Pool]) -> None:
    """No wait of the loop delays a signal."""
    idle = pool().ready()
    began = time.monotonic()
    idle.stop()
    assert time.monotonic() - began < 3
    assert idle.events("close") == [[True]]


def test_s1_term_ends_a_supervisor_whose_workers_boot(pool: Callable[..., Pool]) -> None:
    """A booting worker holds nothing that is worth a wait."""
    booting = pool(boot={"sleep_s": 60})
    eventually(lambda: len(booting.events("boot")) == 2, what="two booting workers", picture=booting.picture)
    booting.stop(timeout_s=5)


def test_s1_term_ends_a_supervisor_that_waits_for_its_source(pool: Callable[..., Pool]) -> None:
    """It has not even begun: nothing is opened, nothing is spawned."""
    waiting = pool(down=True).wait_log("the list is away (try 1, next in 1 s)")
    waiting.stop(timeout_s=5)
    assert not waiting.events("boot")
    assert "stopped while waiting" in waiting.log()


def test_s1_term_ends_a_supervisor_whose_source_went_away(pool: Callable[..., Pool]) -> None:
    """Nothing is owed, so nothing needs the source any more."""
    lonely = pool().ready()
    lonely.take_source_away()
    lonely.wait_log("the list is away")
    lonely.stop(timeout_s=5)


def test_s1_term_waits_for_the_running_job_and_gives_the_others_back(pool: Callable[..., Pool]) -> None:
    """A drain: what runs is finished and recorded, what waits returns to the source."""
    running, waiting = key(Does.SLEEP, 700), [key(Does.SLEEP, 700) for _ in range(3)]
    busy = pool([running, *waiting], workers=1).wait_started(running)
    busy.stop()
    assert busy.done() == [running]
    claimed = {pk for (pks,) in busy.events("claim") for pk in pks} - {running}
    assert claimed <= {pk for (pks,) in busy.events("release") for pk in pks}
    assert not busy.events("lost")


def test_m9_a_job_that_ignores_term_and_abort_is_killed_after_the_grace(pool: Callable[..., Pool]) -> None:
    """The ladder ends in SIGKILL, and the job is told as cut short by the stop."""
    deaf = key(Does.DEAF)
    stubborn = pool([deaf], grace_s=0.5).wait_started(deaf)
    began = time.monotonic()
    stubborn.stop()
    assert time.monotonic() - began < 0.5 + 3
    assert [loss[3] for loss in stubborn.events("lost")] == ["stopped"]
    assert "the grace of 0.5 s is over" in stubborn.log()


def test_s3_ctrl_c_in_the_terminal_lets_running_jobs_finish(pool: Callable[..., Pool]) -> None:
    """SIGINT reaches the whole group; only the supervisor decides."""
    job = key(Does.SLEEP, 600)
    busy = pool([job]).wait_started(job)
    os.killpg(busy.pid, INT)
    assert busy.wait() == 0
    assert busy.done() == [job]
    assert "KeyboardInterrupt" not in busy.log()


def test_s3_a_second_ctrl_c_ends_it_now(pool: Callable[..., Pool]) -> None:
    """The ladder at once; the job goes back to the queue, uncounted."""
    job = key(Does.SLEEP, 60_000)
    busy = pool([job]).wait_started(job)
    os.killpg(busy.pid, INT)
    busy.wait_log("SIGINT received: the supervisor drains")
    os.killpg(busy.pid, INT)
    assert busy.wait(5) == 0
    assert (busy.fates(job), [loss[3] for loss in busy.events("lost")]) == (["again"], ["stopped"])


def test_s3_ctrl_c_does_not_touch_a_worker_that_boots(pool: Callable[..., Pool]) -> None:
    """From its first instant: no death by SIGINT, no traceback of an import that was interrupted."""
    booting = pool()
    while len(booting.idle()) < 2:
        for pid in processes_of(booting.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, INT)
        assert booting.process.poll() is None, booting.picture()
    booting.stop()
    assert len(booting.events("boot")) == 2
    assert "KeyboardInterrupt" not in booting.log()
    assert "SIGINT" not in booting.log()


def test_quit_ends_it_now(pool: Callable[..., Pool]) -> None:
    """No grace: the ladder at once, with the place in the code where each job was."""
    job = key(Does.SLEEP, 60_000)
    busy = pool([job]).wait_started(job)
    busy.signal(QUIT)
    assert busy.wait(5) == 0
    assert busy.fates(job) == ["again"]
    assert re.search(
        r"was killed by SIGABRT by the stop of its supervisor .*; it was at .*listpool.py:\d+ in ", busy.log()
    )


@pytest.mark.parametrize(("first", "second"), list(product((TERM, INT, QUIT, HUP), repeat=2)))
def test_s10_two_signals_in_any_order_end_it_once(
    pool: Callable[..., Pool], first: signal.Signals, second: signal.Signals
) -> None:
    """Urgency only rises; HUP never resurrects; the exit code is 0 and the run is closed once."""
    job = key(Does.SLEEP, 400)
    busy = pool([job], workers=1).wait_started(job)
    busy.signal(first)
    busy.wait_log("reload: starting" if first is HUP else f"{first.name} received")
    busy.signal(second)
    if {first, second} == {HUP}:
        busy.wait_log("reload done", count=1)
        busy.wait_done(job)
        busy.signal(TERM)
    assert busy.wait(10) == 0
    assert busy.events("close") == [[True]]
    hurried = QUIT in (first, second) or (first, second) in ((INT, INT), (TERM, INT), (INT, TERM))
    assert (job in busy.done()) != (hurried and busy.fates(job) == ["again"])


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("order", ["first", "last"])
def test_s10_a_stop_and_any_other_signal_in_any_order_end_it_once(
    pool: Callable[..., Pool], stop: signal.Signals, order: str
) -> None:
    """A pool for each pair, all at a time: nothing that is asked for beside a stop undoes it or adds to it."""
    jobs = {other: key(Does.SLEEP, 400) for other in OTHERS}
    pools = {other: pool([job], workers=1).wait_started(job) for other, job in jobs.items()}
    for other, busy in pools.items():
        busy.signal(*((other, stop) if order == "last" else (stop, other)))
    for other, busy in pools.items():
        assert busy.wait(60) == 0, other
        assert busy.events("close") == [[True]], other
        assert (jobs[other] in busy.done()) != (stop is QUIT and busy.fates(jobs[other]) == ["again"]), other


@pytest.mark.parametrize("first", OTHERS)
def test_s10_two_signals_that_stop_nothing_leave_it_at_work(pool: Callable[..., Pool], first: signal.Signals) -> None:
    """After each pair, and CONT, a job is run; at the end TERM ends it, with 0."""
    steady = pool(workers=2).ready(2)

    def goes_on(job: int) -> bool:
        steady.signal(signal.SIGCONT)  # again and again: signals sent at one instant may be handled in another order
        return job in steady.done()

    for second in OTHERS:
        steady.signal(first, second)
        job = key(Does.NOOP)
        steady.add(job)
        eventually(partial(goes_on, job), 60, "the end of a job", steady.picture)
    steady.stop()
    assert steady.events("lost") == []


def test_fault_43_a_hundred_hups_and_five_terms_end_it_once(pool: Callable[..., Pool]) -> None:
    """Nothing piles up, nothing is spawned after the first TERM."""
    busy = pool(workers=1).ready(1)
    busy.signal(*[HUP] * 100, *[TERM] * 5)
    assert busy.wait(10) == 0
    assert busy.events("close") == [[True]]


def test_ttin_and_ttou_change_the_number_of_workers(pool: Callable[..., Pool]) -> None:
    """One more, one fewer, and never none."""
    elastic = pool(workers=1).ready(1)
    elastic.signal(signal.SIGTTIN)
    elastic.ready(2)
    for _ in range(2):
        elastic.signal(signal.SIGTTOU)
        elastic.ready(1)
    assert "1 worker wanted from now on" in elastic.log()
    elastic.stop()


def test_tstp_takes_no_new_work_until_cont(pool: Callable[..., Pool]) -> None:
    """Quiet: the running job finishes, the next one waits in the source."""
    first, second = key(Does.SLEEP, 300), key(Does.NOOP)
    calm = pool([first], workers=1).wait_started(first)
    calm.signal(signal.SIGTSTP)
    calm.wait_log("quiet: takes no new work")
    calm.add(second)
    calm.wait_done(first).ready(1)
    assert not calm.starts(second)
    calm.signal(signal.SIGCONT)
    calm.wait_done(second).stop()


def test_usr2_writes_the_state_and_every_workers_stack_to_the_log(pool: Callable[..., Pool]) -> None:
    """What runs, for how long, and in which Python line."""
    job = key(Does.SLEEP, 20_000)
    busy = pool([job]).wait_started(job)
    busy.wait_log("2 workers on duty")
    eventually(lambda: busy.events("running"), what="the long job written down")
    busy.signal(signal.SIGUSR2)
    busy.wait_log("state running, quiet False, 2 workers wanted").wait_log(f"runs {job} for ")
    busy.wait_log("listpool.py", count=1).wait_log("most recent call first", count=2)
    busy.signal(QUIT)
    assert busy.wait() == 0


def test_titles_tell_supervisor_and_workers_apart(pool: Callable[..., Pool]) -> None:
    """What ps shows: who it is and what it does."""
    job = key(Does.SLEEP, 400)
    shown = pool([job]).wait_started(job)
    shown.wait_log("on duty")
    titles = {title_of(pid) for pid in shown.workers()}
    assert title_of(shown.pid) == "listpool: supervisor default 2 workers"
    assert {f"listpool: worker 1 key {job}", f"listpool: worker 2 key {job}"} & titles
    shown.wait_done(job).ready()
    assert {title_of(pid) for pid in shown.workers()} == {"listpool: worker 1 idle", "listpool: worker 2 idle"}
    shown.stop()
