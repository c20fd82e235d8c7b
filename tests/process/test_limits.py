"""Keys that outgrow their limits and workers that fall silent: each is ended by one ladder, and told in words."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.process.listpool import Does, key
from tests.support import eventually, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool

WAIT_S = 60


def test_s9_a_key_that_heeds_its_time_out_leaves_its_worker_alone(pool: Callable[..., Pool]) -> None:
    """It is interrupted once, ends, and the same process goes on."""
    late, after = key(Does.SLEEP, 60_000), key(Does.NOOP)
    timed = pool([late], workers=1, bounds={"timeout_s": 0.3, "grace_s": 600}).wait_done(late, timeout_s=WAIT_S)
    timed.add(after)
    timed.wait_done(after).stop()
    assert timed.events("interrupted") == [[late, "TIMEOUT"]]
    assert len(timed.events("boot")) == 1


def test_s9_fault_33_fault_37_a_key_that_nothing_polite_reaches_is_ended(pool: Callable[..., Pool]) -> None:
    """In C with the GIL, every signal blocked, SIGABRT ignored: told with the line where that can be known."""
    in_c, blocked, deaf = key(Does.HOLD_GIL), key(Does.BLOCK), key(Does.DEAF)
    after = key(Does.NOOP)
    hard = pool([in_c, blocked, deaf], workers=3, bounds={"timeout_s": 0.5, "grace_s": 0.5})
    accounts = {pk: hard.account(pk) for pk in (in_c, blocked, deaf)}
    hard.add(after)
    hard.wait_done(after, timeout_s=WAIT_S).ready(3).stop()
    why = "its time-out of 0.5 s was over and it did not end within 0.5 s more"
    for pk, ending in ((in_c, "SIGABRT"), (blocked, "SIGKILL"), (deaf, "SIGKILL")):
        assert f"was killed by {ending} by its supervisor while running key {pk}, after " in accounts[pk]
        assert f": {why}" in accounts[pk]
        assert hard.fates(pk) == ["failed"]
    assert re.search(r"; it was at \S+listpool.py:\d+ in <lambda>$", accounts[in_c])
    assert hard.fates(after) == []


def test_fault_16_a_worker_that_is_stopped_in_mid_job_is_ended_at_its_time_out(pool: Callable[..., Pool]) -> None:
    """The other one, with a key of the same limits, is not."""
    halted, other = key(Does.SLEEP, 60_000), key(Does.SLEEP, 400)
    paused = pool([halted, other], bounds={"timeout_s": 2.0, "grace_s": 0.2}).wait_started(halted, other)
    victim = next(pid for _, pid, _, pk in paused.events_with_pid("start") if pk == halted)
    os.kill(victim, signal.SIGSTOP)
    assert "was killed by SIGKILL by its supervisor" in paused.account(halted)
    paused.wait_done(other).wait_replaced(victim).stop()
    assert (paused.starts(other), paused.events("interrupted")) == (1, [])


def test_s9_fault_16_a_worker_that_is_stopped_while_idle_is_replaced(pool: Callable[..., Pool]) -> None:
    """It says nothing any more; the other one says that it is well, and stays."""
    quiet = pool(boot={"rest_interval_s": 0.1}, silence_max_s=2.0).ready()
    halted, well = quiet.workers()
    os.kill(halted, signal.SIGSTOP)
    quiet.wait_replaced(halted, timeout_s=WAIT_S)
    assert re.search(
        rf"\(pid {halted}\) is ended: it said nothing for \d s, and it runs no job\n"
        rf"(.*\n)*worker \d \(pid {halted}\) was killed by SIGKILL while idle: it said nothing",
        quiet.log(),
    )
    assert is_alive(well)
    assert len(quiet.events("boot")) == 3, "nobody else was replaced"
    quiet.stop()


def test_s9_fault_30_a_boot_that_hangs_is_told_with_the_line_where_it_did(pool: Callable[..., Pool]) -> None:
    """At the boot deadline it is asked for its Python stack; the next one, on repaired code, comes up."""
    stuck = pool(boot={"sleep_s": 600}, workers=1, boot_timeout_s=3.0)
    stuck.wait_log("could not boot: not ready after 3 s; it was at ", WAIT_S)
    stuck.code()
    stuck.wait_log("on duty", WAIT_S).stop()
    assert re.search(r"not ready after 3 s; it was at \S+listpool.py:\d+ in _hang; next try in 1 s\n", stuck.log())


def test_fault_18_a_key_that_outgrows_its_memory_is_ended_and_no_other(pool: Callable[..., Pool]) -> None:
    """Told how much it used; a key without much of its own in the other worker, under the same limit, goes on."""
    big, small = key(Does.GROW, 400), key(Does.SLEEP, 500)
    watched = pool([small, big], bounds={"memory_bytes": 200 << 20})
    account = watched.account(big)
    watched.wait_done(small).ready().stop()
    (used,) = re.findall(r": used (\d+) MB, limit 200 MB", account)
    assert 200 <= int(used) < 600
    assert (watched.starts(small), watched.fates(big)) == (1, ["failed"])


def test_fault_18_a_key_is_not_blamed_for_what_an_earlier_one_left(pool: Callable[..., Pool]) -> None:
    """The worker has more already than the next one may have: that one runs, uncounted, in a fresh worker."""
    big, small = key(Does.GROW, 300), key(Does.SLEEP, 300)
    grown = pool([big], workers=1).wait_done(big).ready(1)
    (old,) = grown.workers()
    (grown.directory / "bounds.json").write_text(f'{{"memory_bytes": {200 << 20}}}')
    grown.add(small)
    grown.wait_done(small, timeout_s=WAIT_S).wait_replaced(old, workers=1, timeout_s=WAIT_S).stop()
    assert f"is replaced: it has more memory already than key {small} may have" in grown.log()
    assert (grown.starts(small), grown.events("lost")) == (1, [])
    assert len(grown.events("boot")) == 2, "the fresh one is small, and stays"


def test_s9_fault_35_a_key_that_undid_the_handler_of_usr1_is_not_killed_by_it(pool: Callable[..., Pool]) -> None:
    """Neither when the log is opened anew nor at its time-out, which ends it as any that heeds nothing."""
    forgetful = key(Does.FORGET_USR1)
    bounds = {"timeout_s": 3.0, "grace_s": 0.5}
    timed = pool([forgetful], bounds=bounds, twists={"own_log": True}).wait_started(forgetful)
    eventually((timed.directory / "forgot").exists, WAIT_S, "a worker without the handler", timed.picture)
    timed.ready(1).signal(signal.SIGUSR1)
    eventually(lambda: timed.events("log reopened"), WAIT_S, "what the other worker says of it", timed.picture)
    account = timed.account(forgetful)
    assert "was killed by SIGABRT by its supervisor" in account
    assert "its time-out of 3 s was over and it did not end within 0.5 s more" in account
    timed.ready().stop()
    assert timed.fates(forgetful) == ["failed"]


@pytest.mark.parametrize("does", [Does.SLEEP, Does.DEAF], ids=["heeds it", "does not"])
def test_a_cancelled_key_is_interrupted_and_then_ended(pool: Callable[..., Pool], does: Does) -> None:
    """After the time in which it may end by itself, and the time to clean up."""
    job, other = key(does, 60_000), key(Does.SLEEP, 60_000)
    grace_s = 600 if does is Does.SLEEP else 0.3
    unwanted = pool([job, other], cancel_ask_s=0.2, cancel_grace_s=grace_s).wait_started(job, other)
    unwanted.cancel(job)
    if does is Does.SLEEP:
        unwanted.wait_done(job, timeout_s=WAIT_S)
        assert unwanted.events("interrupted") == [[job, "CANCEL"]]
    else:
        assert "it was cancelled and did not end within 0.3 s" in unwanted.account(job)
    eventually(lambda: len(unwanted.workers()) == 2, WAIT_S, "two workers", unwanted.picture)
    assert unwanted.starts(other) == 1
    assert unwanted.fates(other) == []
    unwanted.signal(signal.SIGQUIT)
    assert unwanted.wait() == 0


def test_m9_a_key_that_is_deaf_does_not_keep_the_supervisor_whatever_time_it_has(pool: Callable[..., Pool]) -> None:
    """Its time-out is over, its time to clean up is long; the supervisor ends soon after the grace of the stop."""
    deaf, behind = key(Does.DEAF), key(Does.NOOP)
    stopping = pool([deaf], workers=1, grace_s=0.5, bounds={"timeout_s": 0.3, "grace_s": 600}).wait_started(deaf)
    (pid,) = stopping.workers()
    stopping.add(behind)
    stopping.stop(timeout_s=3.5)
    assert "was killed by SIGKILL by the stop of its supervisor" in stopping.account(deaf)
    assert not is_alive(pid)
    assert stopping.starts(behind) == 0
