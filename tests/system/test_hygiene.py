"""What a job leaves behind does not reach the next one, whatever the job did to its process."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import Status
from tests.support import Supervisor, environment, eventually, is_alive
from tests.system.jobs import (
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    is_idle,
    row,
    runs,
    status,
    wait_final,
    words,
)
from tests.testapp import nasty, spoilers, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database


def test_f34_d1_a_transaction_that_a_job_leaves_open_is_rolled_back_and_the_next_job_finds_a_clean_connection(
    database: Database,
) -> None:
    """Autocommit off with a write pending, and a transaction that is broken: both are gone, and both are told."""
    first = tasks.effect.enqueue()
    jobs = []
    for task in (nasty.leave_transaction_open, nasty.break_transaction):
        jobs += [task.enqueue(), tasks.transaction_state.enqueue()]
    last = tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
        log = supervisor.log()
    for job in jobs:
        job.refresh()
        assert job.status.name == "SUCCESSFUL"
    # On SQLite the second one's transaction never began.
    broken = "an open transaction" if database.vendor == "postgresql" else "autocommit off"
    for job, found in ((jobs[0], "an open transaction"), (jobs[2], broken)):
        assert row(job).left_behind == f"left behind: {found} on 'default' (restored)"
        assert f"job {job.id} {row(job).task} left behind: {found}" in log
    assert [row(job).left_behind for job in (first, jobs[1], jobs[3], last)] == [None] * 4
    assert runs(jobs[0]) == [], "its write was never committed"
    assert jobs[1].return_value == jobs[3].return_value == {"in_atomic_block": False, "autocommit": True}
    assert runs(first)[0].pid == runs(last)[0].pid
    assert_nobody_owns_anything()


def test_f22_to_f25_ends_that_are_hard_to_store_are_stored_in_words(database: Database) -> None:
    """Errors that cannot be printed, endless, huge, with NUL; results that are no JSON: all final, the worker lives."""
    first = tasks.effect.enqueue()
    cases = [
        (nasty.unpicklable_error.enqueue(), "UnpicklableError"),
        (nasty.deep_error.enqueue(), "RecursionError"),
        (nasty.huge_error.enqueue(10_000_000), "characters left out"),
        (nasty.nul_error.enqueue(), "before\\x00after \\ud800"),
        (nasty.bad_result.enqueue(), "the result cannot be stored as JSON"),
        (nasty.nan_result.enqueue(), "the result cannot be stored as JSON"),
    ]
    nul, last = nasty.nul_result.enqueue(), tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    for job, told in cases:
        assert status(job) is Status.FAILED
        assert told in words(job)[0]
        assert len(words(job)[0]) < 25_000
    nul.refresh()
    assert nul.return_value == "before\0after \ud800"
    assert runs(first)[0].pid == runs(last)[0].pid


@ON_SQLITE
def test_f35_a_thread_that_a_job_leaves_running_does_not_keep_the_supervisor(database: Database) -> None:
    """A thread that is no daemon and sleeps for a minute: the drain is over within seconds."""
    job = nasty.leave_thread.enqueue(60)
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, [job])
        supervisor.stop(timeout_s=8)
    assert_once(job)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_f34_a_job_that_spoils_its_session_is_recorded_all_the_same(database: Database) -> None:
    """What it did to the session is not taken for a refusal of its result, and does not reach the next job."""
    spoilt, after = nasty.spoil_session.enqueue(), tasks.effect.enqueue()
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    for job in (spoilt, after):
        job.refresh()
        assert (job.status.name, job.attempts) == ("SUCCESSFUL", 1)
    assert_nobody_owns_anything()


# -- each thing that a job may spoil ----------------------------------------------------------------------------------

PUT_BACK = [*(way for way in spoilers.RESTORED if way != "waiting alarm"), "handlers"]
"""An alarm that only the main thread has blocked does not wait in a worker: its other thread takes it, and it kills."""

SESSIONS = {
    "sqlite": {
        "ATTACH ':memory:' AS other": "an attached database",
        "PRAGMA cache_size = 5": "a PRAGMA",
        "CREATE TEMP TABLE scratch (id int)": "a temporary table",
    },
    "postgresql": {
        "SET search_path TO pg_catalog": "session settings",
        "SET ROLE pg_monitor": "session settings",
        "LISTEN elsewhere": "a LISTEN",
        "CREATE TEMP TABLE scratch (id int)": "a temporary table",
        "SELECT pg_advisory_lock(1)": "an advisory lock",
        "PREPARE question AS SELECT 1": "a prepared statement",
    },
}


def finish(database: Database, timeout_s: float = 60) -> str:
    """Have one worker at a time run everything that is ready; return the log."""
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(timeout_s) == 0
        return supervisor.log()


def found_by(result: Any) -> tuple[int, dict[str, Any]]:
    """Return in which process a job looked around, and what it found."""
    result.refresh()
    found = dict(result.return_value)
    return found.pop("pid"), found


@ON_SQLITE
def test_d9_s4_f32_f33_the_next_job_finds_its_worker_as_a_fresh_one_is(database: Database) -> None:
    """The worker goes on, the record and the log of the job that spoiled it say what was put back."""
    first = spoilers.look_around.enqueue()
    jobs = [
        (way, spoilers.spoil.enqueue(way), spoilers.look_around.enqueue(), spoilers.tell_stacks.enqueue())
        for way in PUT_BACK
    ]
    log = finish(database)
    pid, clean = found_by(first)
    for way, spoilt, look, stacks in jobs:
        told = row(spoilt).left_behind or ""
        assert spoilers.RESTORED.get(way, ["a handler of SIGTERM"])[0] in told, f"{way}: {told}"
        assert f"job {spoilt.id} tests.testapp.spoilers.spoil {told}" in log
        assert found_by(look) == (pid, clean), way
        stacks.refresh()
        assert (row(look).left_behind, stacks.return_value) == (None, pid), way
    assert_nobody_owns_anything()


@ON_SQLITE
def test_f33_a_worker_whose_signals_were_spoiled_leaves_when_it_is_asked_to(database: Database) -> None:
    """Jobs took SIGTERM from it, blocked it, set alarms and have returned: it hears SIGTERM as before."""
    jobs = [spoilers.spoil.enqueue(way) for way in ("handlers", "mask", "alarms", "abort")]
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, jobs, timeout_s=60)
        [worker] = supervisor.workers()
        eventually(lambda: is_idle(worker), 60, "an idle worker", supervisor.picture)
        os.kill(worker, signal.SIGTERM)
        eventually(lambda: not is_alive(worker), 60, "the end of the worker", supervisor.picture)
        supervisor.stop(timeout_s=60)
        assert "was killed" not in supervisor.log()
    for job in jobs:
        job.refresh()
    assert {job.return_value for job in jobs} == {worker}


@ON_SQLITE
def test_m18_f32_f35_a_worker_that_cannot_be_put_right_is_replaced(database: Database) -> None:
    """Its job is recorded and says why; the next job runs in another process, which is clean."""
    first = spoilers.look_around.enqueue()
    jobs = [(way, spoilers.spoil.enqueue(way), spoilers.look_around.enqueue()) for way in spoilers.SPOILED]
    log = finish(database)
    pid, clean = found_by(first)
    for way, spoilt, look in jobs:
        spoilt.refresh()
        assert (spoilt.return_value, spoilt.attempts) == (pid, 1), f"{way}\n{log}"
        told = row(spoilt).left_behind
        assert told == f"left behind: {spoilers.SPOILED[way]} (the worker is replaced)", way
        new_pid, found = found_by(look)
        assert new_pid != pid, way
        assert found == clean, way
        pid = new_pid
    assert_nobody_owns_anything()


@ON_SQLITE
def test_d9_f35_what_is_nothing_to_tell_costs_no_worker(database: Database) -> None:
    """Coroutines, executors at rest, threads of libraries, and what a job put back itself."""
    ways = [way for way in spoilers.FORGIVEN if way != "ending thread"]  # how soon it ends is up to the machine
    jobs = [spoilers.spoil.enqueue(way) for way in ways for _ in range(3)]
    assert "left behind" not in finish(database)
    for job in jobs:
        job.refresh()
    assert len({job.return_value for job in jobs}) == 1
    assert [row(job).left_behind for job in jobs] == [None] * len(jobs)


def test_d9_f34_the_next_job_finds_a_session_without_marks(database: Database) -> None:
    """The worker goes on with a new session; the job's record names the mark."""
    statements = SESSIONS[database.vendor]
    first = spoilers.look_around.enqueue()
    jobs = [(sql, spoilers.spoil_session.enqueue(sql), spoilers.look_around.enqueue()) for sql in statements]
    jobs += [
        (way, spoilers.spoil.enqueue(way), spoilers.look_around.enqueue()) for way in ("transaction", "autocommit")
    ]
    finish(database)
    pid, clean = found_by(first)
    for what, spoilt, look in jobs:
        if what in statements:
            assert row(spoilt).left_behind == f"left behind: {statements[what]} on 'default' (restored)"
        else:
            assert "on 'default' (restored)" in (row(spoilt).left_behind or ""), what
        assert found_by(look) == (pid, clean), what
    assert_nobody_owns_anything()


LATE_APP = """
import threading
import time

from django.apps import AppConfig
from jobsup.compat import task_finished


def leave_thread(task_result, **kwargs):
    if task_result.task.name == "sleep":
        threading.Thread(target=time.sleep, args=(3600,), name="goes on").start()


class Late(AppConfig):
    name = "late"

    def ready(self):
        task_finished.connect(leave_thread)
"""


@ON_SQLITE
def test_m18_f35_a_worker_that_a_receiver_spoiled_runs_no_further_job(database: Database, tmp_path: Path) -> None:
    """It is found when the end of the job is recorded, and what waits runs in another process."""
    from django.conf import settings

    (tmp_path / "late.py").write_text(LATE_APP)
    env = database.with_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "late.Late"])
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])
    spoiling, after = tasks.sleep.enqueue(0.3), [tasks.effect.enqueue() for _ in range(3)]
    with Supervisor(env, "--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(60) == 0
        assert "is replaced: a receiver of task_finished left behind: a thread that goes on" in supervisor.log()
    for job in (spoiling, *after):
        assert_once(job)
    [pid] = {run.pid for job in after for run in runs(job)}
    assert pid != runs(spoiling)[0].pid
