"""A job that is cancelled ends for certain: asked, then interrupted, then ended with its worker; from anywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from jobsup.models import Status
from jobsup.store import Store
from tests.db.rows import begin
from tests.support import ROOT, environment, eventually, heeding_ctrl_c, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    wait_status,
    words,
)
from tests.testapp import limits, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

CANCELLED = "jobsup.errors.JobCancelled"
QUICK = {"CANCEL_ASK": 0.5, "CANCEL_GRACE": 1}
WAIT_S = 60


def errors(result: Any) -> list[str]:
    """Return what the failed attempts of a job raised, as its users see it; it is shown as failed."""
    result.refresh()
    assert result.status.name == "FAILED"
    return [error.exception_class_path for error in result.errors]


def test_s9_fault_16_a_running_job_that_is_cancelled_is_asked_then_interrupted_then_ended(
    database: Database, tmp_path: Path
) -> None:
    """By the command of another process, by code, by asynchronous code; each ends CANCELLED, and nobody else does."""
    asked, raised = limits.watch_out.enqueue(), limits.heed.enqueue(str(tmp_path / "tidy"))
    deaf, other = limits.swallow.enqueue(), tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "4", JOBSUP=QUICK) as supervisor:
        pids = [wait_begun(supervisor, job) for job in (asked, raised, deaf, other)]
        assert async_to_sync(raised.acancel)()
        assert deaf.cancel()
        command = run_django(database.env, "jobs", "cancel", asked.id, "--wait", "--json", "--timeout", str(WAIT_S))
        assert (command.returncode, json.loads(command.stdout)) == (0, {asked.id: "cancelled"}), command.stdout
        wait_final(supervisor, [asked, raised, deaf], WAIT_S)
        (tmp_path / "go").touch()
        after = tasks.effect.enqueue()
        wait_final(supervisor, [other, after], WAIT_S)
        supervisor.stop()
        log = supervisor.log()
    for job in (asked, raised, deaf):
        assert (status(job), row(job).attempt, errors(job)) == (Status.CANCELLED, 1, [CANCELLED])
        assert row(job).finished_at is not None
        assert job.cancel(), "it is"
    assert (tmp_path / "tidy").read_text() == "the job was cancelled while it was running"
    told, _, stack = words(deaf)[0].partition("\n\n")
    assert re.search(
        r"was killed by SIGABRT by its supervisor while running job \d+ tests.testapp.limits.swallow, attempt 1 of 5, "
        r"after \d+\.\d s, peak memory \d+ MB: it was cancelled and did not end within 1 s; "
        r"it was at \S+limits.py:\d+ in swallow$",
        told,
    ), told
    assert "in swallow" in stack
    assert log.count("is ended: ") == 1
    assert [run.pid for job in (asked, raised, deaf) for run in runs(job)] == pids[:3]
    assert_once(other)
    assert_once(after)
    assert_nobody_owns_anything()


def test_a_claimed_job_that_waits_behind_a_long_one_never_begins_when_it_is_cancelled(
    database: Database, tmp_path: Path
) -> None:
    """It had been sent to the worker, or was about to be; those beside it run."""
    for _ in range(300):
        tasks.noop.enqueue()  # teaches the pace: what comes next is sent ahead
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    behind = [tasks.effect.enqueue() for _ in range(20)]
    with database.supervisor("--workers", "1", JOBSUP=QUICK) as supervisor:
        wait_begun(supervisor, held)
        assert all(job.cancel() for job in behind[::2])
        wait_final(supervisor, behind[::2], WAIT_S)
        (tmp_path / "go").touch()
        wait_final(supervisor, [held, *behind], WAIT_S)
        supervisor.stop()
    assert_once(held)
    for job in behind[::2]:
        assert (status(job), runs(job)) == (Status.CANCELLED, [])
        assert errors(job) == [CANCELLED]
    for job in behind[1::2]:
        assert_once(job)


@pytest.mark.parametrize("database", ["postgresql", "sqlite"], indirect=True)
def test_fault_1_a_job_whose_worker_is_killed_after_it_was_cancelled_is_not_tried_again(
    database: Database, tmp_path: Path
) -> None:
    """CANCELLED, with the account of its worker's end; the wake-up by NOTIFY is not needed."""
    lost = limits.hold_deaf.enqueue(str(tmp_path / "never"))
    deaf = limits.hold_deaf.using(max_attempts=5).enqueue(str(tmp_path / "never"))
    settings = {"NOTIFY": False, "CANCEL_ASK": 600, "CRASH_ATTEMPTS": 5}
    with database.supervisor("--workers", "2", JOBSUP=settings) as supervisor:
        pid = wait_begun(supervisor, lost)
        wait_begun(supervisor, deaf)
        assert lost.cancel()
        os.kill(pid, signal.SIGKILL)
        wait_status(supervisor, lost, Status.CANCELLED, WAIT_S)
        assert status(deaf) is Status.RUNNING
        supervisor.signal(signal.SIGQUIT)
        assert supervisor.wait() == 0
    assert "was killed by SIGKILL while running" in words(lost)[0]
    assert errors(lost) == ["jobsup.errors.WorkerLost", CANCELLED]
    assert len(runs(lost)) == 1
    assert status(deaf) is Status.READY, "cut short by the stop, and not cancelled"
    assert deaf.cancel()
    assert status(deaf) is Status.CANCELLED


@ON_POSTGRESQL
def test_a_cancellation_arrives_within_seconds_though_nobody_is_told(database: Database) -> None:
    """NOTIFY is switched off: the supervisor looks while something runs; so it does on SQLite."""
    job = limits.swallow.enqueue()
    with database.supervisor("--workers", "1", JOBSUP={"NOTIFY": False, **QUICK}) as supervisor:
        wait_begun(supervisor, job)
        command = run_django(
            database.with_settings(JOBSUP={"NOTIFY": False}), "jobs", "cancel", job.id, "--wait", "--timeout", "30"
        )
        assert (command.returncode, command.stdout) == (0, f"job {job.id}: cancelled\n")
        supervisor.stop()


@ON_SQLITE
def test_a_job_is_cancelled_while_its_supervisor_drains(database: Database, tmp_path: Path) -> None:
    """However long the grace of the drain is, the times of the cancellation hold; what is not cancelled may go on."""
    deaf, other = limits.swallow.enqueue(), tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "2", "--grace", "600", JOBSUP=QUICK) as supervisor:
        wait_begun(supervisor, deaf)
        wait_begun(supervisor, other)
        supervisor.signal(signal.SIGTERM)
        supervisor.wait_log("drains")
        assert deaf.cancel()
        wait_status(supervisor, deaf, Status.CANCELLED, WAIT_S)
        (tmp_path / "go").touch()
        assert supervisor.wait(WAIT_S) == 0
    assert "it was cancelled and did not end within 1 s" in words(deaf)[0]
    assert_once(other)


@ON_SQLITE
def test_a_job_that_is_tried_again_is_cancelled_between_its_attempts(database: Database) -> None:
    """It waits for its next attempt: CANCELLED at once, and what went wrong before is still told."""
    job = tasks.fail_once.using(max_attempts=3).enqueue()
    with database.supervisor("--workers", "1") as supervisor:
        eventually(lambda: words(job), WAIT_S, "its first failure", supervisor.picture)
        assert job.cancel()
        assert status(job) is Status.CANCELLED
        after = tasks.sleep.enqueue(1.5)  # past the time of the second attempt
        wait_final(supervisor, [after], WAIT_S)
        supervisor.stop()
    assert (len(runs(job)), errors(job)) == (1, ["builtins.ValueError", CANCELLED])


@ON_SQLITE
def test_a_coroutine_that_is_cancelled_cleans_up(database: Database, tmp_path: Path) -> None:
    """It is cancelled as asyncio does it."""
    place = tmp_path / "cleaned up"
    job = limits.await_for_ever.enqueue(str(place))
    with database.supervisor("--workers", "1", JOBSUP={"CANCEL_ASK": 0.1, "CANCEL_GRACE": 600}) as supervisor:
        wait_status(supervisor, job, Status.RUNNING)
        eventually(lambda: row(job).worker, WAIT_S, "its start", supervisor.picture)
        assert job.cancel()
        wait_final(supervisor, [job], WAIT_S)
        supervisor.stop()
    assert (status(job), errors(job), place.exists()) == (Status.CANCELLED, [CANCELLED], True)


@ON_SQLITE
def test_the_command_tells_what_became_of_each_job(database: Database) -> None:
    """Cancelled, ended before, not ended in time, not there; the exit code says whether all went well."""
    ended, waiting = tasks.noop.enqueue(), limits.swallow.enqueue()
    with database.supervisor("--workers", "1", JOBSUP={"CANCEL_ASK": 600}) as supervisor:
        wait_final(supervisor, [ended], WAIT_S)
        wait_begun(supervisor, waiting)
        pending = tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
        command = run_django(
            database.env, "jobs", "cancel", ended.id, pending.id, waiting.id, "12345678", "--wait", "--timeout", "0.5"
        )
        assert command.returncode == 1
        assert command.stdout.splitlines() == [
            f"job {ended.id}: had ended before: successful",
            f"job {pending.id}: cancelled",
            f"job {waiting.id}: is running and will be ended",
            "job 12345678: there is no such job",
            "CommandError: there is no job 12345678",
        ]
        late = run_django(database.env, "jobs", "cancel", waiting.id, "--wait", "--timeout", "0.2")
        assert (late.returncode, late.stdout.splitlines()[-1]) == (
            1, f"CommandError: not ended after 0.2 s: job {waiting.id}",
        )  # fmt: skip
        supervisor.signal(signal.SIGQUIT)
        assert supervisor.wait() == 0
    assert status(waiting) is Status.CANCELLED, "its worker was ended by the stop after it had been asked"


@ON_SQLITE
@pytest.mark.parametrize(
    ("file", "why"),
    [("empty", "no such table: jobsup_job"), ("nowhere/x", "unable to open database file")],
    ids=["no tables", "database away"],
)
def test_the_command_tells_why_it_cannot_cancel_in_one_sentence(
    database: Database, tmp_path: Path, file: str, why: str
) -> None:
    """With what can be done about it."""
    command = run_django({**database.env, "JOBSUP_TEST_SQLITE": str(tmp_path / file)}, "jobs", "cancel", "1")
    assert (command.returncode, command.stdout) == (
        1, f"CommandError: the database refuses: {why}; can it be reached, and was `migrate` run?\n",
    )  # fmt: skip


@ON_SQLITE
@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--wait", "--timeout", "nan"], "error: argument --timeout: invalid seconds value: 'nan'"),
        (["--wait", "--timeout", "-1"], "error: argument --timeout: invalid seconds value: '-1'"),
        (["--timeout", "1"], "CommandError: --timeout is for --wait: leave it out, or add --wait"),
    ],
    ids=["nan", "negative", "without --wait"],
)
def test_a_wrong_timeout_is_refused(database: Database, args: list[str], why: str) -> None:
    """Exit code 2, as for all wrong usage, and nothing is cancelled."""
    job = tasks.noop.enqueue()
    command = run_django(database.env, "jobs", "cancel", job.id, *args)
    assert command.returncode == 2
    assert command.stdout.splitlines()[-1].endswith(why)
    assert status(job) is Status.READY


@ON_SQLITE
def test_options_of_django_may_come_last(database: Database) -> None:
    """As for every command."""
    job = tasks.noop.enqueue()
    command = run_django(database.env, "jobs", "cancel", job.id, "--settings", "tests.settings", "-v", "2")
    assert (command.returncode, command.stdout) == (0, f"job {job.id}: cancelled\n")


@ON_SQLITE
def test_ctrl_c_ends_the_waiting_and_not_the_cancellation(database: Database) -> None:
    """Exit code 130, as a shell says it, and one sentence."""
    job, store = tasks.noop.enqueue(), Store()
    assert store.claim(begin(store), None, 1) == [int(job.id)]
    with heeding_ctrl_c():
        started = subprocess.Popen(
            [sys.executable, "-m", "django", "jobs", "cancel", job.id, "--wait"],
            cwd=ROOT, env=environment(database.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    with started as waiting:
        try:
            eventually(lambda: row(job).cancel_asked_at is not None, WAIT_S, "the cancellation")
            waiting.send_signal(signal.SIGINT)
            printed, _ = waiting.communicate(timeout=WAIT_S)
        finally:
            waiting.kill()
    assert (waiting.returncode, printed) == (130, "CommandError: no longer waiting; what was asked for goes on\n")
    assert status(job) is Status.RUNNING
