"""Jobs that outgrow their limits: interrupted, then ended with their worker, told in words; nobody else notices.

Codes such as s9 name a trap, numbers such as fault_16 those of the list of faults.
"""

from __future__ import annotations

import os
import re
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsup.models import FailedAttempt, Job, Status
from tests.cage import MemoryCage, need_cage
from tests.support import eventually
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    is_idle,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import limits, nasty, tasks

if TYPE_CHECKING:
    from tests.databases import Database

TIMEOUT = "jobsup.errors.JobTimeout"
WAIT_S = 60


def errors(result: Any) -> list[str]:
    """Return what the failed attempts of a job raised, as its users see it."""
    result.refresh()
    return [error.exception_class_path for error in result.errors]


@ON_SQLITE
def test_s9_a_job_that_heeds_its_time_out_cleans_up_and_keeps_its_worker(database: Database, tmp_path: Path) -> None:
    """JobTimeout is raised in its own code, through `except Exception`; the same process runs what comes after."""
    tidy, best = limits.heed.using(timeout=0.8), limits.end_early.using(timeout=timedelta(seconds=0.8))
    before = tasks.effect.using(timeout=0).enqueue()
    heeded, returned = tidy.enqueue(str(tmp_path / "tidy")), best.enqueue()
    shrugged = limits.shrug.using(timeout=0.3).enqueue()
    searching = limits.backtrack.using(timeout=0.3).enqueue()
    again = limits.slow_at_first.using(timeout=0.8, max_attempts=3).enqueue()
    free, after = tasks.sleep.using(timeout=0).enqueue(1.2), tasks.effect.using(timeout=0).enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty", JOBSUP={"TIMEOUT": 1}) as supervisor:
        assert supervisor.wait(WAIT_S) == 0
        log = supervisor.log()
    assert (tmp_path / "tidy").read_text() == "the job has used up its time-out of 0.8 s; 10 s are left to clean up"
    for job, where in ((heeded, "heed"), (shrugged, "shrug"), (searching, "backtrack")):
        assert (status(job), row(job).attempt, errors(job)) == (Status.FAILED, 1, [TIMEOUT])
        assert re.search(rf'limits.py", line \d+, in {where}\n', words(job)[0]), words(job)[0]
        assert "runner.py" not in words(job)[0], "the job's own frames only"
        assert "worker.py" not in words(job)[0], "the job's own frames only"
    returned.refresh()
    assert (returned.status.name, returned.return_value) == ("SUCCESSFUL", "as far as it came")
    again.refresh()
    assert (again.return_value, again.attempts, errors(again)) == (2, 2, [TIMEOUT])
    assert_once(free)
    assert_once(after)
    assert len({run.pid for job in (before, heeded, shrugged, again, after) for run in runs(job)}) == 1
    assert "is ended" not in log


@ON_SQLITE
def test_s9_fault_16_fault_37_a_job_that_does_not_heed_its_time_out_is_ended_with_its_worker(
    database: Database,
) -> None:
    """It swallows everything, stays in C, is stopped: the error names the time-out, and the line where it hung."""
    swallowing, in_c, stopped = limits.swallow.enqueue(), limits.hold_the_gil.enqueue(), limits.stop_self.enqueue()
    patient = tasks.sleep.using(timeout=0).enqueue(3)
    with database.supervisor("--workers", "4", JOBSUP={"TIMEOUT": 0.5, "TIMEOUT_GRACE": 0.5}) as supervisor:
        supervisor.wait_ready(WAIT_S)
        wait_final(supervisor, [swallowing, in_c, stopped], WAIT_S)
        after = [tasks.effect.using(timeout=0).enqueue() for _ in range(20)]
        wait_final(supervisor, [patient, *after], WAIT_S)
        supervisor.stop()
        log = supervisor.log()
    for job, name in ((swallowing, "swallow"), (in_c, "hold_the_gil"), (stopped, "stop_self")):
        assert (status(job), row(job).attempt, errors(job)) == (Status.FAILED, 1, [TIMEOUT])
        told, _, stack = words(job)[0].partition("\n\n")
        ending = "SIGKILL" if job is stopped else "SIGABRT"
        where = "" if job is stopped else rf"; it was at \S+limits.py:\d+ in {name}"
        assert re.fullmatch(
            rf"worker \d \(pid {runs(job)[0].pid}\) was killed by {ending} by its supervisor while running job "
            rf"{job.id} tests.testapp.limits.{name}, attempt 1 of 5, after \d+\.\d s, peak memory \d+ MB: "
            rf"its time-out of 0.5 s was over and it did not end within 0.5 s more{where}",
            told,
        ), told
        assert told in log
        assert bool(stack) == (job is not stopped)
    for job in (patient, *after):
        assert_once(job)
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_s9_fault_37_a_job_that_waits_for_its_database_is_ended_at_its_time_out(database: Database) -> None:
    """The driver does not come back from a slow statement for a signal, the ladder does not need it to."""
    job, after = limits.ask_slowly.using(timeout=0.3, timeout_grace=0.3).enqueue(), tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
    assert (status(job), errors(job)) == (Status.FAILED, [TIMEOUT])
    assert "in ask_slowly" in words(job)[0]
    assert_once(after)


def test_a_coroutine_cleans_up_at_its_time_out_and_does_not_go_on(database: Database, tmp_path: Path) -> None:
    """It gets its chance as other jobs do, and nothing of it runs on beside the next one."""
    place = tmp_path / "cleaned up"
    job, after = limits.await_for_ever.using(timeout=0.3).enqueue(str(place)), tasks.aadd.enqueue(1, 2)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
        log = supervisor.log()
    assert (status(job), errors(job)) == (Status.FAILED, [TIMEOUT])
    assert place.exists()
    assert row(job).left_behind is None, row(job).left_behind
    assert "is replaced" not in log
    assert_once(after)


def test_an_interruption_never_hits_another_job_nor_our_own_code(database: Database) -> None:
    """Thousands of short jobs that end at about their time-out: each ends once, as itself or as JobTimeout."""
    jobs, calm = [], []
    for number in range(600):
        jobs.append(limits.about.using(timeout=0.004 + number % 5 / 1000).enqueue(2 + number % 7))
        calm.append(limits.about.enqueue(2))
    with database.supervisor("--workers", "2", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S * 2) == 0
        log = supervisor.log()
    rows = Job.objects.filter(pk__in=[int(job.id) for job in jobs])
    assert set(rows.values_list("attempt", flat=True)) == {1}, "none was tried twice"
    failed = set(rows.filter(status=Status.FAILED).values_list("pk", flat=True))
    assert set(FailedAttempt.objects.values_list("job_id", flat=True)) == failed
    assert set(FailedAttempt.objects.values_list("exception_class_path", flat=True)) == {TIMEOUT}
    assert rows.filter(status=Status.SUCCESSFUL).count() + len(failed) == len(jobs)
    assert 0 < len(failed) < len(jobs), "the times are too far from the time-outs to show anything"
    for told in FailedAttempt.objects.values_list("traceback", flat=True):
        for ours in ("recorder.py", "store.py", "worker.py", "hygiene/__init__.py"):
            assert ours not in told
    for job in calm:
        assert_once(job)
    for trouble in ("is ended", "was killed", "exited", "refused", "telling so failed"):
        assert trouble not in log


@ON_SQLITE
def test_fault_18_a_job_that_outgrows_its_memory_is_told_how_much_it_used(database: Database, tmp_path: Path) -> None:
    """Its worker is ended; the job beside it and those after it notice nothing."""
    go = tmp_path / "go"
    hog = limits.hog.using(memory_limit="200M").enqueue(str(go), 1000)
    neighbour = tasks.hold.enqueue(str(tmp_path / "end"))
    with database.supervisor("--workers", "2") as supervisor:
        wait_begun(supervisor, hog)
        wait_begun(supervisor, neighbour)
        go.touch()
        wait_final(supervisor, [hog], WAIT_S)
        (tmp_path / "end").touch()
        after = tasks.effect.enqueue()
        wait_final(supervisor, [neighbour, after], WAIT_S)
        supervisor.stop()
        log = supervisor.log()
    assert (status(hog), errors(hog)) == (Status.FAILED, ["jobsup.errors.MemoryLimitExceeded"])
    (used,) = re.findall(r"peak memory \d+ MB: used (\d+) MB, limit 200 MB; it was at ", words(hog)[0])
    assert 200 < int(used) < 1000
    assert f"used {used} MB, limit 200 MB" in log
    assert_once(neighbour)
    assert_once(after)


@ON_SQLITE
def test_fault_18_y7_a_job_that_the_kernel_ends_for_want_of_memory_is_told_so(
    database: Database, tmp_path: Path
) -> None:
    """A real kill by the kernel, in a memory cgroup of the supervisor's own; the supervisor lives and works on."""
    need_cage()
    go = tmp_path / "go"
    go.touch()
    with (
        MemoryCage(300 << 20) as cage,
        database.supervisor("--workers", "1", JOBSUP={"CRASH_ATTEMPTS": 1}) as supervisor,
    ):
        cage.add(supervisor.pid)  # long before it has workers
        job, after = limits.hog.enqueue(str(go), 1200), tasks.effect.enqueue()
        wait_final(supervisor, [job, after], WAIT_S)
        supervisor.stop()
    assert (status(job), errors(job)) == (Status.FAILED, ["jobsup.errors.WorkerLost"])
    assert "was killed by SIGKILL while running" in words(job)[0]
    assert words(job)[0].endswith(": out of memory: the kernel's OOM killer, limit 300 MB of its cgroup")
    assert_once(after)


@ON_POSTGRESQL
def test_workers_are_replaced_after_their_jobs_as_the_settings_say(database: Database) -> None:
    """While the work goes on: every job is run once."""
    jobs = [tasks.work.enqueue(15) for _ in range(250)]
    with database.supervisor("--workers", "2", "--exit-when-empty", JOBSUP={"MAX_JOBS": 30}) as supervisor:
        assert supervisor.wait(WAIT_S) == 0
        log = supervisor.log()
    for job in jobs:
        assert_once(job)
    assert "is going to be replaced: it has run " in log
    assert len({run.pid for job in jobs for run in runs(job)}) > 2
    assert "was killed" not in log
    assert_nobody_owns_anything()


@ON_SQLITE
def test_fault_19_a_poison_job_ends_by_its_attempts_and_many_deaths_by_the_exit_code(database: Database) -> None:
    """A job that kills its worker each time leaves the pool well; workers that die all the time do not."""
    poison, others = nasty.segfault.using(max_attempts=2).enqueue(), [tasks.effect.enqueue() for _ in range(20)]
    with database.supervisor("--workers", "2", JOBSUP={"RESTARTS": 3, "RESTARTS_WINDOW": 600}) as supervisor:
        wait_final(supervisor, [poison, *others], WAIT_S)
        assert (status(poison), row(poison).attempt) == (Status.FAILED, 2)
        assert "degraded" not in supervisor.log()
        eventually(lambda: not row(poison).untold, WAIT_S, "a worker that tells of its end")
        for number in range(1, 3):
            pid = eventually(lambda: [pid for pid in supervisor.workers() if is_idle(pid)], WAIT_S, "a worker")[0]
            os.kill(pid, signal.SIGKILL)
            supervisor.wait_log("was killed by SIGKILL while idle", WAIT_S, count=number)
        supervisor.wait_log("ERROR degraded: more than 3 workers died within 600 s, ", WAIT_S)
        after = tasks.effect.enqueue()
        wait_final(supervisor, [after], WAIT_S)
        supervisor.stop(expect=6)
    for job in (*others, after):
        assert_once(job)
