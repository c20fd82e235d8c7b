"""Every key is accounted for, wherever its worker is killed and whatever happens to the source."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from spawnpool.states import ExitCode
from tests.process.listpool import Does, key
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.play import Pool


@pytest.mark.parametrize(
    ("does", "fates", "starts", "dones"),
    [
        (Does.KILL_BEFORE_START, [], 1, 1),
        (Does.KILL_BEFORE_RECORD, ["again"], 2, 1),
        (Does.KILL_AFTER_RECORD, ["done"], 1, 1),
    ],
    ids=["fault 3: before it began", "fault 5: after it ran", "fault 4: after it was recorded"],
)
def test_a_worker_killed_at_any_point_of_a_job_loses_nothing(
    pool: Callable[..., Pool], does: Does, fates: list[str], starts: int, dones: int
) -> None:
    """An attempt is counted exactly when the job had begun, and a recorded outcome stands."""
    job, behind = key(does), key(Does.NOOP)
    poor = pool([job, behind], workers=1).wait_done(job, behind)
    eventually(lambda: poor.fates(job) == fates, what="the fate", picture=poor.picture)
    poor.ready(1).stop()
    assert (poor.starts(job), poor.done().count(job)) == (starts, dones)
    assert poor.done().count(behind) == 1
    if fates:
        assert all(loss[2] is None for loss in poor.events("lost")), "it had returned: nobody blames the job"


def test_fault_1_a_job_that_kills_every_worker_fails_after_its_attempts(pool: Callable[..., Pool]) -> None:
    """A poison pill costs three workers and no more; the short jobs behind it are done once each."""
    pill, jobs = key(Does.KILL, signal.SIGKILL), [key(Does.NOOP) for _ in range(20)]
    poisoned = pool([*jobs[:10], pill, *jobs[10:]]).wait_done(*jobs)
    eventually(lambda: poisoned.fates(pill) == ["again", "again", "failed"], 20, "three attempts", poisoned.picture)
    poisoned.ready().stop()
    assert {loss[0] for loss in poisoned.events("lost")} >= {pill}
    assert all(loss[2] is not None for loss in poisoned.events("lost") if loss[0] == pill)


def test_fault_2_workers_killed_while_idle_or_booting_touch_no_job(pool: Callable[..., Pool]) -> None:
    """Nothing is told to the source; a boot that was killed backs off."""
    plain = pool().ready()
    for pid in plain.workers():
        os.kill(pid, signal.SIGKILL)
    plain.wait_replaced()
    plain.code(sleep_s=1)
    plain.signal(signal.SIGTTIN)
    eventually(lambda: len(plain.workers()) == 3, what="a third worker that boots")
    os.kill(plain.workers()[-1], signal.SIGKILL)
    plain.wait_log("was killed by SIGKILL").wait_log("before it was ready; next try in 1 s")
    plain.stop()
    assert not plain.events("lost")
    assert "while idle" in plain.log()


def test_a_recalled_key_runs_once_on_the_free_worker(pool: Callable[..., Pool]) -> None:
    """Short jobs wait behind a slow one in a wide window; the free worker gets them at once."""
    short = [key(Does.NOOP) for _ in range(200)]
    wide = pool(short).wait_done(*short)
    slow, behind = key(Does.SLEEP, 3000), [key(Does.NOOP) for _ in range(9)]
    wide.add(slow, *behind)
    wide.wait_done(*behind, timeout_s=2)
    assert slow not in wide.done()
    wide.signal(signal.SIGQUIT)
    assert wide.wait() == 0
    assert all(wide.starts(pk) == 1 for pk in [slow, *behind])


def test_facts_wait_for_a_source_that_is_away(pool: Callable[..., Pool]) -> None:
    """A death while the source is unavailable is told when it is back; the loop answers meanwhile."""
    job = key(Does.KILL_BEFORE_RECORD)
    cut_off = pool(workers=1).ready(1)
    cut_off.signal(signal.SIGTSTP)
    cut_off.add(job)
    cut_off.wait_log("quiet")
    cut_off.signal(signal.SIGCONT)
    cut_off.wait_started(job)
    cut_off.take_source_away()
    cut_off.signal(signal.SIGUSR2)
    cut_off.wait_log("state running")
    cut_off.bring_source_back()
    cut_off.wait_done(job).stop()
    assert cut_off.fates(job) == ["again"]


def test_a_source_that_is_away_at_the_end_still_gets_its_accounts(pool: Callable[..., Pool]) -> None:
    """A stopping supervisor keeps trying for a while before it gives up on a fact."""
    job = key(Does.SLEEP, 60_000)
    leaving = pool([job], workers=1).wait_started(job)
    leaving.take_source_away()
    leaving.signal(signal.SIGQUIT)
    eventually(lambda: not leaving.workers(), what="the end of the workers", picture=leaving.picture)
    leaving.bring_source_back()
    assert leaving.wait(15) == 0
    assert leaving.fates(job) == ["again"]
    assert leaving.events("close") == [[True]]


def test_fault_12_a_source_that_is_away_at_the_start_is_waited_for(pool: Callable[..., Pool]) -> None:
    """In words, with the number of the try; workers come when there is something to work for."""
    job = key(Does.NOOP)
    early = pool([job], down=True).wait_log("the list is away (try 1, next in 1 s)")
    assert not early.workers()
    early.bring_source_back()
    early.wait_done(job).wait_log("it answers again after").stop()


def test_it_ends_by_itself_when_the_list_is_empty(pool: Callable[..., Pool]) -> None:
    """exit_when_empty: also after deaths and retries, with exit code 0; a code of our own means nothing from a job."""
    jobs = [key(Does.NOOP), key(Does.KILL_BEFORE_RECORD), key(Does.EXIT, ExitCode.CROWDED)]
    once = pool(jobs, exit_when_empty=True)
    assert once.wait(20) == 0
    assert sorted(once.done()) == sorted(jobs[:2])
    assert once.fates(jobs[2])[-1] == "failed"


def test_long_jobs_are_written_down_and_short_ones_are_not(pool: Callable[..., Pool]) -> None:
    """Half a second of running is worth a statement."""
    long, short = key(Does.SLEEP, 800), key(Does.SLEEP, 50)
    watched = pool([long, short]).wait_done(long, short)
    watched.stop()
    assert [pk for pk, *_ in watched.events("running")] == [long]


def test_connections_are_closed_before_every_look_at_children_and_every_spawn(pool: Callable[..., Pool]) -> None:
    """`before_check` stands right before each change of the workers, with no claim between."""
    jobs = [key(Does.NOOP), key(Does.EXIT, 9), *[key(Does.NOOP) for _ in range(5)]]
    plain = pool(jobs, exit_when_empty=True)
    assert plain.wait(20) == 0
    source_uses = {"claim", "release", "lost", "beat", "running"}
    mine = [what for what, pid, *_ in plain.journal() if pid == plain.pid]
    changes = [n for n, what in enumerate(mine) if what == "workers" and n]
    spawned_or_died = [mine[max(0, n - 3) : n] for n in changes]
    assert all("before_check" in before for before in spawned_or_died), spawned_or_died
    spawns = [n for n in changes if mine[n - 1] == "before_check"]
    assert len(spawns) >= 5, "two first workers, three successors"
    assert source_uses & set(mine)


def test_hooks_run_before_each_check_and_one_that_fails_harms_nobody(pool: Callable[..., Pool]) -> None:
    """Registered once however often, in order, logged when it fails, gone when unregistered."""
    hooked = pool(twists={"use_hooks": True}).ready()
    eventually(lambda: len(hooked.events("hook")) >= 4, what="hooks of two spawns and two checks")
    hooked.stop()
    assert len(hooked.events("hook")) == len(hooked.events("before_check"))
    assert not hooked.events("a hook that is gone")
    assert "RuntimeError: the engine is broken" in hooked.log()


def test_workers_stay_while_connections_are_closed_for_checks(pool: Callable[..., Pool]) -> None:
    """A check every few milliseconds disturbs neither claims nor wake-ups."""
    jobs = [key(Does.NOOP) for _ in range(500)]
    nervous = pool(check_interval_s=0.005, poll_interval_s=30).ready()
    for pk in jobs:
        nervous.add(pk)
    nervous.wait_done(*jobs).stop()
    assert sorted(nervous.done()) == sorted(jobs)


def test_a_source_that_goes_on_hearing_is_not_asked_at_each_check(pool: Callable[..., Pool]) -> None:
    """Nothing can have been missed while its connections were closed; what it calls for is claimed."""
    job = key(Does.NOOP)
    idle = pool(poll_interval_s=600, check_interval_s=0.02, beat_interval_s=600).ready_to_work()
    checks, claims = len(idle.events("before_check")), len(idle.events("claim"))
    eventually(lambda: len(idle.events("before_check")) > checks + 10, what="checks", picture=idle.picture)
    assert len(idle.events("claim")) <= claims + 1, "one may have been under way"
    idle.add(job)
    idle.wait_done(job).stop()


def test_f49_a_claim_whose_answer_was_lost_is_asked_for(pool: Callable[..., Pool]) -> None:
    """Keys that are ours by the source's books, and that never arrived, are run all the same, and once."""
    jobs = [key(Does.SLEEP, 10) for _ in range(4)]
    deaf = pool().ready()
    (deaf.directory / "lose_the_answer").touch()
    deaf.add(*jobs)
    deaf.wait_done(*jobs)
    assert [pks for pks in (entry[-1] for entry in deaf.events("strays")) if pks], deaf.picture()
    assert sorted(deaf.done()) == sorted(jobs)
    deaf.stop()


def test_f49_a_claim_in_doubt_at_the_stop_is_given_back(pool: Callable[..., Pool]) -> None:
    """What was claimed without our knowing does not stay behind when we leave."""
    jobs = [key(Does.SLEEP, 10) for _ in range(2)]
    deaf = pool().ready()
    (deaf.directory / "lose_the_answer").touch()
    deaf.add(*jobs)
    deaf.wait_log("its answer was lost")
    deaf.stop()
    strays, released = deaf.events("strays"), deaf.events("release")
    assert (strays and released) or sorted(deaf.done()) == sorted(jobs), deaf.picture()
    assert deaf.events("close")[-1][-1] is True


def test_p11_what_the_source_tells_while_it_is_asked_is_heeded_at_once(pool: Callable[..., Pool]) -> None:
    """A wake-up that arrives within the answer to a claim is not to be seen on the descriptor any more."""
    job = key(Does.NOOP)
    idle = pool(poll_interval_s=600, check_interval_s=600, beat_interval_s=600).ready_to_work()
    marker = idle.directory / "news_while_asked"
    marker.touch()
    with (idle.directory / "inbox").open("wb", buffering=0) as inbox:
        inbox.write(b"\n")  # there is nothing yet: the claim that follows waits for the next line, and is empty
        eventually(lambda: not marker.exists(), what="a claim under way", picture=idle.picture)
        inbox.write(f"{job}\n".encode())
    idle.wait_done(job, timeout_s=4)  # the workers wake it every 5 s by saying that they are well
    idle.stop()
