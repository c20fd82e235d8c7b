"""Processes die at the worst moments: no job is lost, no attempt is told wrongly, and each end is told in words.

The numbers (f1, f6 ...) are those of the list of faults; a code such as m6 names a trap.
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually, is_alive, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    fault,
    is_idle,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    wait_status,
    words,
)
from tests.testapp import nasty, tasks, troubles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database
    from tests.support import Supervisor

WAIT_S = 60
DEATH_TOLD_S = 2.0  # a death is acted on within one second; the test's own look may take another on a busy machine


def wait_died(supervisor: Supervisor, pid: int) -> None:
    """Wait until a killed process is gone and another worker has taken its place."""
    eventually(lambda: not is_alive(pid), 2, "its death", supervisor.picture)
    count = int(supervisor.args[1])
    eventually(lambda: sum(map(is_idle, supervisor.workers())) == count, 10, "a successor", supervisor.picture)


# -- workers die ------------------------------------------------------------------------------------------------------


def test_f1_m6_a_worker_killed_in_a_job_costs_that_job_one_attempt_and_nobody_else_anything(
    database: Database, tmp_path: Path
) -> None:
    """Killed by SIGKILL: the attempt fails in words, the job runs again, the job of the other worker goes on."""
    go = tmp_path / "go"
    with database.supervisor("--workers", "2") as supervisor:
        hit, other = tasks.hold.enqueue(str(go)), tasks.hold.enqueue(str(go))
        pid = wait_begun(supervisor, hit)
        wait_begun(supervisor, other)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: words(hit), DEATH_TOLD_S, "the account of its death", supervisor.picture)
        second = wait_begun(supervisor, hit, times=2)
        go.touch()
        wait_final(supervisor, [hit, other])
        supervisor.stop()
    assert pid != second
    hit.refresh()
    assert (hit.return_value, hit.status.name, hit.attempts) == (2, "SUCCESSFUL", 2)
    assert [name.rpartition(":")[2] for name in hit.worker_ids] == [str(pid), str(second)]
    assert_once(other)
    assert_nobody_owns_anything()


@ON_SQLITE
def test_f1_the_log_and_the_failed_attempt_tell_a_violent_death_in_words(database: Database) -> None:
    """Which worker, which signal, which job, which attempt of how many, after how long."""
    job = tasks.die_at.enqueue(1, signal.SIGKILL)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
        log = supervisor.log()
    pid = runs(job)[0].pid
    (sentence,) = words(job)
    assert re.fullmatch(
        rf"worker 1 \(pid {pid}\) was killed by SIGKILL while running job {job.id} tests.testapp.tasks.die_at, "
        r"attempt 1 of 5, after \d\.\d s, peak memory \d+ MB; out of memory\?",
        sentence,
    )
    assert f"WARNING {sentence}\n" in log
    attempt = FailedAttempt.objects.get(job_id=int(job.id))
    assert (attempt.attempt, attempt.exception_class_path) == (1, "jobsup.errors.WorkerLost")
    assert attempt.worker.endswith(f":worker 1:{pid}")
    assert attempt.started_at is not None
    assert attempt.started_at <= attempt.ended_at


@ON_POSTGRESQL
def test_f1_a_job_that_kills_its_worker_every_time_is_failed_at_its_last_attempt(database: Database) -> None:
    """max_attempts=2 and two deaths: FAILED, with both told; the job after it is run."""
    deadly, good = tasks.die_twice.enqueue(), tasks.add.enqueue(1, 2)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
        log = supervisor.log()
    assert (status(deadly), row(deadly).attempt, len(runs(deadly))) == (Status.FAILED, 2, 2)
    for number, (sentence, run) in enumerate(zip(words(deadly), runs(deadly), strict=True), start=1):
        assert sentence.startswith(f"worker 1 (pid {run.pid}) was killed by SIGKILL while running job {deadly.id} ")
        assert f", attempt {number} of 2, " in sentence
        assert sentence in log
    assert_once(good)
    assert_nobody_owns_anything()


def test_f2_an_idle_worker_that_is_killed_is_replaced_and_no_job_notices(database: Database) -> None:
    """Several times in a row; the jobs after it are run by the successors."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        for number in range(3):
            pid = supervisor.workers()[0]
            os.kill(pid, signal.SIGKILL)
            wait_died(supervisor, pid)
            supervisor.wait_log("was killed by SIGKILL", count=number + 1)
        jobs = [tasks.effect.enqueue() for _ in range(10)]
        wait_final(supervisor, jobs)
        supervisor.stop()
        assert supervisor.log().count("while idle") == 3
    for job in jobs:
        assert_once(job)
    assert not FailedAttempt.objects.exists()


@ON_SQLITE
def test_f2_f28_a_worker_that_dies_in_its_boot_is_tried_again_with_a_growing_delay(
    database: Database, tmp_path: Path
) -> None:
    """Killed, then ended while booting: told, backed off; once it boots, the waiting job is run untouched."""
    what = tmp_path / "boot"
    what.write_text("kill")
    database.env["JOBSUP_TEST_BOOT"] = str(what)
    job = tasks.effect.enqueue()
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("next try in 1 s")
        what.write_text("exit 9")
        supervisor.wait_log("next try in 2 s")
        what.write_text("")
        wait_final(supervisor, [job])
        supervisor.stop()
        told = [line for line in supervisor.log().splitlines() if "next try" in line]
    assert "was killed by SIGKILL" in told[0]
    assert "exited with code 9" in told[1]
    assert_once(job)


@ON_SQLITE
def test_f30_a_worker_that_hangs_in_its_boot_is_ended_and_tried_again(database: Database, tmp_path: Path) -> None:
    """Its deadline is the setting BOOT_TIMEOUT."""
    what = tmp_path / "boot"
    what.write_text("sleep 60")
    database.env["JOBSUP_TEST_BOOT"] = str(what)
    with database.supervisor("--workers", "1", JOBSUP={"BOOT_TIMEOUT": 1}) as supervisor:
        supervisor.wait_log("not ready after 1 s")
        what.write_text("")
        supervisor.wait_log("next try in 1 s")
        supervisor.wait_ready()
        supervisor.stop()


def test_f3_a_key_that_was_sent_and_not_started_goes_to_another_worker_as_if_never_claimed(
    database: Database,
) -> None:
    """The worker sleeps (SIGSTOP) when the key is put on its lane, and is killed: attempt 1 is still to come."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        (pid,) = supervisor.workers()
        os.kill(pid, signal.SIGSTOP)
        job = tasks.effect.enqueue()
        wait_status(supervisor, job, Status.RUNNING)
        os.kill(pid, signal.SIGKILL)
        wait_final(supervisor, [job])
        supervisor.stop()
    assert_once(job)
    assert runs(job)[0].pid != pid


@ON_POSTGRESQL
def test_f4_a_worker_killed_between_its_record_and_its_report_leaves_one_run_of_the_job(
    database: Database, tmp_path: Path
) -> None:
    """The commit is the truth: successful once, attempt 1, no second run, although the supervisor never heard."""
    job = tasks.effect.enqueue()
    fault(database, tmp_path, "worker", "after", "finished_at =")
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
        assert "was killed by SIGKILL" in supervisor.log()
    assert_once(job)
    assert len(runs(job)) == 1
    assert_nobody_owns_anything()


def test_f4_a_worker_killed_between_the_return_of_a_job_and_its_record_has_it_run_again(
    database: Database, tmp_path: Path
) -> None:
    """At least once: the attempt is told as what it was, and the second one is recorded."""
    job = tasks.effect.enqueue()
    fault(database, tmp_path, "worker", "before", "finished_at =")
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    assert (status(job), row(job).attempt, len(runs(job))) == (Status.SUCCESSFUL, 2, 2)
    (sentence,) = words(job)
    assert (
        f"was killed by SIGKILL after it had run job {job.id} tests.testapp.tasks.effect, attempt 1 of 5, " in sentence
    )
    assert "before that was recorded" in sentence


@ON_POSTGRESQL
def test_f42_p8_an_answer_to_the_commit_that_is_lost_does_not_run_the_job_again(
    database: Database, tmp_path: Path
) -> None:
    """The record is committed and the connection breaks: the repeated record changes nothing."""
    job = tasks.effect.enqueue()
    fault(database, tmp_path, "worker", "after", "finished_at =", "OperationalError")
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    assert_once(job)
    assert len(runs(job)) == 1


def test_p13_a_record_that_the_database_refuses_is_told_as_the_failure_of_that_job(
    database: Database, tmp_path: Path
) -> None:
    """The outcome cannot be stored: the job is FAILED in words, and the next one is run."""
    job = tasks.effect.enqueue()
    fault(database, tmp_path, "worker", "before", "finished_at =", "DataError")
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, [job])
        after = tasks.effect.enqueue()
        wait_final(supervisor, [after])
        supervisor.stop()
    assert (status(job), words(job)) == (Status.FAILED, ["the outcome could not be stored: DataError"])
    assert_once(after)
    assert_nobody_owns_anything()


@ON_SQLITE
def test_f19_f20_f32_an_end_of_the_worker_is_never_taken_for_a_success(database: Database) -> None:
    """Whatever a job does to its process: FAILED with what happened, and the other jobs are run."""
    cases = [
        (nasty.segfault.enqueue(), "was killed by SIGSEGV"),
        (tasks.die_at.enqueue(9, int(signal.SIGABRT)), "was killed by SIGABRT"),
        (nasty.exit_with.enqueue(0), "exited with code 0"),
        (nasty.exit_with.enqueue(9), "exited with code 9"),
        (nasty.close_all_fds.enqueue(), "a job closed or replaced the worker's own descriptors"),
    ]
    good = tasks.effect.enqueue()
    with database.supervisor("--workers", "2", "--exit-when-empty", JOBSUP={"CRASH_ATTEMPTS": 1}) as supervisor:
        assert supervisor.wait() == 0
        log = supervisor.log()
    for job, told in cases:
        assert status(job) is Status.FAILED
        assert told in words(job)[0]
        assert told in log
    assert re.search(r"nasty.py\", line \d+ in segfault", words(cases[0][0])[0]), "where it was in Python"
    assert re.search(r"was killed by SIGSEGV .*; it was at \S+:\d+ in ", log), log
    assert_once(good)


@ON_SQLITE
def test_f20_f21_what_no_except_clause_sees_fails_the_job_and_spares_the_worker(database: Database) -> None:
    """sys.exit(), KeyboardInterrupt, BaseException: recorded, and the same process runs the next job."""
    before = tasks.effect.enqueue()
    cases = [
        (nasty.sys_exit.enqueue(), "builtins.SystemExit"),
        (nasty.sys_exit.enqueue(3), "builtins.SystemExit"),
        (nasty.interrupt.enqueue(), "builtins.KeyboardInterrupt"),
        (nasty.raise_base_exception.enqueue(), "tests.testapp.nasty.NotAnExceptionError"),
    ]
    after = tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    for job, kind in cases:
        job.refresh()
        assert (job.status.name, [error.exception_class_path for error in job.errors]) == ("FAILED", [kind])
    assert runs(before)[0].pid == runs(after)[0].pid


@ON_SQLITE
def test_f27_a_task_that_is_not_there_fails_its_job_in_words_and_no_other(database: Database) -> None:
    """A function that was renamed, a module that is gone, and something that is no task."""
    jobs = [tasks.noop.enqueue() for _ in range(4)]
    paths = ["tests.testapp.tasks.renamed", "tests.gone.task", "tests.testapp.tasks.leave_trace", "nonsense"]
    for job, path in zip(jobs, paths, strict=True):
        Job.objects.filter(pk=int(job.id)).update(task=path)
    good = tasks.add.enqueue(1, 2)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    for job, path in zip(jobs, paths, strict=True):
        assert status(job) is Status.FAILED
        assert f"no task {path}: " in words(job)[0]
    assert_once(good)


def test_f31_m17_a_job_that_forks_and_returns_twice_has_one_result(database: Database) -> None:
    """The child that walks out of the job is ended; the parent's result counts, and the worker goes on."""
    job, after = nasty.fork_and_return.enqueue(), tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    job.refresh()
    assert job.return_value == runs(job)[0].pid == runs(after)[0].pid
    assert_once(job)
    assert_once(after)


@ON_SQLITE
def test_f31_m8_a_grandchild_that_holds_every_descriptor_does_not_hide_the_death_of_its_worker(
    database: Database, tmp_path: Path
) -> None:
    """Death is seen by pidfd, not by the end of a pipe."""
    sleeper = nasty.fork_grandchild_sleeper.enqueue(30)
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, [sleeper])
        sleeper.refresh()
        job = tasks.hold.enqueue(str(tmp_path / "go"))
        os.kill(wait_begun(supervisor, job), signal.SIGKILL)
        try:
            eventually(lambda: words(job), DEATH_TOLD_S, "the account of its death", supervisor.picture)
            assert is_alive(sleeper.return_value)
        finally:
            os.kill(sleeper.return_value, signal.SIGKILL)
        (tmp_path / "go").touch()
        wait_final(supervisor, [job])
        supervisor.stop()


@ON_POSTGRESQL
def test_f49_statements_that_fail_now_and_then_lose_nothing(database: Database) -> None:
    """Every seventh statement on jobsup's tables fails in every worker: all jobs run, each at its first attempt."""
    jobs = [tasks.effect.enqueue() for _ in range(100)]
    database.env["JOBSUP_TEST_FAULT"] = (
        '{"in": "worker", "when": "before", "sql": "jobsup_job", "action": "OperationalError", "each": 7}'
    )
    with database.supervisor("--workers", "2", "--exit-when-empty") as supervisor:
        assert supervisor.wait(60) == 0
    for job in jobs:
        assert_once(job)


# -- hostile text and supervisors within jobs -------------------------------------------------------------------------


@ON_SQLITE
def test_p12_an_error_that_would_steer_a_terminal_stands_in_log_and_command_as_text(database: Database) -> None:
    """Nothing but printable characters, and no line that the job wrote passes for one of the log."""
    hostile = troubles.raise_hostile.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(WAIT_S) == 0
        log = supervisor.log()
    shown = run_django(database.env, "jobs", "show", hostile.id).stdout
    listed = run_django(database.env, "jobs", "list").stdout
    for text in (log, shown, listed):
        assert [char for char in text if not char.isprintable() and char not in "\n\t"] == []
        assert troubles.LINE not in text.splitlines()
    assert "Hostile" in log
    assert r"\x1b[2J" in shown


@ON_SQLITE
def test_f36_a_job_may_use_multiprocessing_and_no_supervisor_begins_within_another(database: Database) -> None:
    """A process of the job's own works; a second supervisor of the name is refused in words, the worker goes on."""
    doubled, started = troubles.use_multiprocessing.enqueue(21), troubles.start_supervisor.enqueue()
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, [doubled, started], WAIT_S)
        after = tasks.add.enqueue(1, 2)
        wait_final(supervisor, [after], WAIT_S)
        supervisor.stop(timeout_s=WAIT_S)
    for job in (doubled, started, after):
        job.refresh()
    assert words(started) == []
    assert (doubled.return_value, after.return_value) == (42, 3)
    told = started.return_value
    assert told["code"] == 4
    assert str(supervisor.pid) in told["stderr"], "whose the name is"
    assert told["said"].startswith("a worker cannot become a supervisor")
