"""MariaDB under the real commands: the tests of other modules that show most, and what is particular to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.db import connections, transaction

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually
from tests.system.jobs import assert_nobody_owns_anything, row, runs, status, wait_final, words
from tests.system.test_bulk import test_jobs_that_were_enqueued_together_are_each_run_once
from tests.system.test_cancel import test_a_claimed_job_that_waits_behind_a_long_one_never_begins_when_it_is_cancelled
from tests.system.test_drain import test_term_finishes_what_was_begun_and_gives_the_rest_back_uncounted
from tests.system.test_faults import (
    test_f1_m6_a_worker_killed_in_a_job_costs_that_job_one_attempt_and_nobody_else_anything,
)
from tests.system.test_retries import test_every_way_to_be_tried_again
from tests.system.test_runs import (
    test_a_job_with_a_time_starts_then_and_not_before,
    test_jobs_run_in_parallel_and_their_results_and_errors_are_kept,
)
from tests.system.test_schedules import test_two_supervisors_enqueue_each_moment_once_with_the_schedules_arguments
from tests.system.test_supervisor_faults import (
    test_f6_s5_workers_end_with_their_supervisor_and_the_next_start_takes_the_jobs_at_once,
)
from tests.system.test_unique import test_fifty_enqueuers_in_several_processes_make_one_job_that_runs_once
from tests.system.test_waiting import test_h_a_job_begins_well_goes_on_and_ends
from tests.system.test_wakeups import test_p11_an_idle_supervisor_asks_about_once_a_second_at_most
from tests.testapp import tasks
from tests.vendors import wanted

if TYPE_CHECKING:
    from tests.databases import Database
    from tests.mariadb import Server

__all__ = [
    "test_a_claimed_job_that_waits_behind_a_long_one_never_begins_when_it_is_cancelled",
    "test_a_job_with_a_time_starts_then_and_not_before",
    "test_every_way_to_be_tried_again",
    "test_f1_m6_a_worker_killed_in_a_job_costs_that_job_one_attempt_and_nobody_else_anything",
    "test_f6_s5_workers_end_with_their_supervisor_and_the_next_start_takes_the_jobs_at_once",
    "test_fifty_enqueuers_in_several_processes_make_one_job_that_runs_once",
    "test_h_a_job_begins_well_goes_on_and_ends",
    "test_jobs_run_in_parallel_and_their_results_and_errors_are_kept",
    "test_jobs_that_were_enqueued_together_are_each_run_once",
    "test_p11_an_idle_supervisor_asks_about_once_a_second_at_most",
    "test_term_finishes_what_was_begun_and_gives_the_rest_back_uncounted",
    "test_two_supervisors_enqueue_each_moment_once_with_the_schedules_arguments",
]

pytestmark = pytest.mark.parametrize("database", wanted("mariadb"), indirect=True)

JOBS = 2000


def test_p9_eight_workers_of_two_supervisors_share_a_queue_without_a_deadlock_that_anybody_sees(
    database: Database,
) -> None:
    """Each job runs once; no statement of ours is the victim of a deadlock for good."""
    with transaction.atomic():
        for _ in range(JOBS):
            tasks.noop.enqueue()
    options = ("--workers", "4", "--exit-when-empty")
    with database.supervisor(*options) as one, database.supervisor("--name", "other", *options) as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
        logs = one.log() + other.log()
    assert Job.objects.filter(status=Status.SUCCESSFUL, attempt=1).count() == JOBS
    assert not FailedAttempt.objects.exists()
    assert "1213" not in logs
    assert "waiting" not in logs, logs
    assert_nobody_owns_anything()


def test_f11_the_server_is_killed_under_load_and_everything_is_counted(
    database: Database, mariadb_server: Server
) -> None:
    """As in a crash: every job ends, every attempt is told."""
    jobs = [tasks.work.enqueue(8) for _ in range(200)]
    with database.supervisor("--workers", "2") as supervisor:
        eventually(lambda: Job.objects.filter(status=Status.SUCCESSFUL).count() > 20, 30, "a beginning")
        connections.close_all()
        mariadb_server.restart("immediate")
        wait_final(supervisor, jobs, timeout_s=60)
        supervisor.stop()
    for job in jobs:
        attempt = row(job).attempt
        assert (status(job), len(words(job))) == (Status.SUCCESSFUL, attempt - 1)
        assert runs(job)[-1].attempt == attempt
    assert_nobody_owns_anything()
