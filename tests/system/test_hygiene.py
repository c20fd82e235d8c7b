"""What a job leaves behind does not reach the next one, whatever the job did to its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobsup.models import Status
from tests.system.jobs import ON_SQLITE, assert_nobody_owns_anything, assert_once, runs, status, wait_final, words
from tests.testapp import nasty, tasks

if TYPE_CHECKING:
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
        assert supervisor.log().count("the connection 'default' was dropped: the job left it unusable") == 2
    for job in jobs:
        job.refresh()
        assert job.status.name == "SUCCESSFUL"
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
