"""What a supervisor is for: jobs run, in parallel, in order, at their time, with their results."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually, title_of
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    picture,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import tasks
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

MANY = 20_000


def test_jobs_run_in_parallel_and_their_results_and_errors_are_kept(database: Database, tmp_path: Path) -> None:
    """Two jobs hold two workers at the same time; what they return, and what another one raises, is told."""
    held = [tasks.hold.enqueue(str(tmp_path / "go")) for _ in range(2)]
    with database.supervisor("--workers", "2") as supervisor:
        pids = {wait_begun(supervisor, job) for job in held}
        (tmp_path / "go").touch()
        echo, coroutine, failing = (
            tasks.echo.enqueue({"ä": [1, None]}),
            tasks.aadd.enqueue(1, 2),
            tasks.fail.enqueue("x"),
        )
        wait_final(supervisor, [*held, echo, coroutine, failing])
        supervisor.stop()
    assert len(pids) == 2
    for job in (*held, echo, coroutine, failing):
        job.refresh()
    assert [job.return_value for job in (*held, echo, coroutine)] == [1, 1, {"ä": [1, None]}, 3]
    (error,) = failing.errors
    assert (failing.status.name, error.exception_class_path) == ("FAILED", "builtins.ValueError")
    assert error.traceback.endswith("raise ValueError(message)\nValueError: x\n")
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_twenty_thousand_jobs_are_each_run_once(database: Database) -> None:
    """Two workers; nobody is left, nobody is twice, no attempt but the first."""
    with transaction.atomic():
        for _ in range(MANY):
            tasks.noop.enqueue()
    with database.supervisor("--workers", "2", "--exit-when-empty") as supervisor:
        assert supervisor.wait(60) == 0
    counts = dict(
        Job.objects.values_list("status", "attempt").annotate(count=Count("pk")).values_list("status", "count")
    )
    assert counts == {Status.SUCCESSFUL: MANY}
    assert set(Job.objects.values_list("attempt", flat=True).distinct()) == {1}
    assert not FailedAttempt.objects.exists()
    assert_nobody_owns_anything()


def test_the_most_urgent_goes_first_then_the_oldest(database: Database) -> None:
    """Enqueued before the start, by one worker: the order of the traces is the order of the work."""
    order = [0, -100, 50, 0, 100, 50]
    jobs = [tasks.effect.using(priority=priority).enqueue() for priority in order]
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    wanted = sorted(jobs, key=lambda job: (-job.task.priority, int(job.id)))
    assert list(Effect.objects.order_by("pk").values_list("job", flat=True)) == [int(job.id) for job in wanted]


def test_only_the_chosen_queues_are_served(database: Database) -> None:
    """`--queue` twice: two queues are drained, jobs of the third stay as they are."""
    served = [tasks.effect.using(queue_name=queue).enqueue() for queue in ("default", "slow", "default")]
    left = tasks.effect.using(queue_name="other").enqueue()
    with database.supervisor(
        "--workers", "1", "--queue", "default", "--queue", "slow", "--exit-when-empty"
    ) as supervisor:
        assert supervisor.wait() == 0
    for job in served:
        assert_once(job)
    assert (status(left), row(left).attempt, runs(left)) == (Status.READY, 0, [])


def test_a_job_with_a_time_starts_then_and_not_before(database: Database) -> None:
    """run_after: 1.5 s from now; meanwhile others run. The idle supervisor wakes for it by itself, before its poll."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        due = timezone.now() + timedelta(seconds=1.5)
        later, now = tasks.effect.using(run_after=due).enqueue(), tasks.effect.enqueue()
        later.refresh()
        assert later.status.name == "READY"
        wait_final(supervisor, [now, later])
        supervisor.stop()
    assert_once(later)
    assert runs(now)[0].made_at < runs(later)[0].made_at
    assert due <= runs(later)[0].made_at < due + timedelta(seconds=4)


def test_d8_a_coroutine_reads_the_database_and_enqueues(database: Database) -> None:
    """Aget and aenqueue inside the worker; then a job that enqueues jobs in the ordinary way."""
    trace = Effect.objects.create(job=0, attempt=41, pid=0)
    coroutine, more = tasks.aget_and_enqueue.enqueue(trace.pk), tasks.enqueue_more.enqueue(3)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    coroutine.refresh()
    more.refresh()
    read, child = coroutine.return_value
    assert read == 41
    children = [child, *more.return_value]
    assert [Job.objects.get(pk=int(pk)).result for pk in children] == ["42", "1", "2", "3"]


@ON_SQLITE
def test_scenario_g_a_management_command_is_a_task_and_its_output_is_kept(database: Database) -> None:
    """call_command in a worker; one that fails is a failed job."""
    good, bad = tasks.command.enqueue("diffsettings", "--all"), tasks.command.enqueue("no_such_command")
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
    good.refresh()
    assert "SECRET_KEY" in good.return_value
    assert "CommandError: Unknown command: 'no_such_command'" in words(bad)[0]


@ON_SQLITE
def test_scenario_a_jobs_of_a_transaction_that_is_rolled_back_never_were(database: Database) -> None:
    """An enqueue joins the caller's transaction."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012 - the enqueue is part of the story
            tasks.effect.enqueue()
            raise RuntimeError
        with transaction.atomic():
            kept = tasks.effect.enqueue()
        wait_final(supervisor, [kept])
        supervisor.stop()
    assert Job.objects.count() == Effect.objects.count() == 1


def test_exit_when_empty_waits_for_what_is_to_be_tried_again(database: Database) -> None:
    """A job that dies at its first attempt is due a second later; the supervisor stays for it."""
    job = tasks.die_at.enqueue(1, 9)
    with database.supervisor("--workers", "2", "--exit-when-empty") as supervisor:
        assert supervisor.wait() == 0
        assert "nothing is left to do" in supervisor.log()
    assert (status(job), row(job).attempt) == (Status.SUCCESSFUL, 2)


def test_tiny_jobs_behind_a_slow_one_are_taken_by_the_free_worker(database: Database, tmp_path: Path) -> None:
    """They were sent ahead to the worker that is busy now; none of them waits for it."""
    for _ in range(400):
        tasks.noop.enqueue()
    slow = tasks.hold.enqueue(str(tmp_path / "go"))
    tiny = [tasks.effect.enqueue() for _ in range(100)]
    with database.supervisor("--workers", "2") as supervisor:
        wait_begun(supervisor, slow)
        wait_final(supervisor, tiny)
        assert status(slow) is Status.RUNNING
        (tmp_path / "go").touch()
        wait_final(supervisor, [slow])
        supervisor.stop()
    for job in (slow, *tiny):
        assert_once(job)


def test_results_of_short_jobs_are_recorded_while_a_later_one_of_their_hand_runs_on(
    database: Database, tmp_path: Path
) -> None:
    """One worker: what returned before the slow job began is in the database long before that ends."""
    short = [tasks.effect.enqueue() for _ in range(20)]
    for _ in range(300):
        tasks.noop.enqueue()
    last = tasks.add.enqueue(1, 2)
    slow = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, slow)
        wait_final(supervisor, [*short, last], timeout_s=2)
        assert status(slow) is Status.RUNNING
        (tmp_path / "go").touch()
        wait_final(supervisor, [slow])
        supervisor.stop()
    assert_once(slow)


def test_a_job_of_more_than_half_a_second_is_shown_as_running_and_by_whom(database: Database, tmp_path: Path) -> None:
    """Within a second of its start, with its worker and its time; django.tasks says RUNNING."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        pid = wait_begun(supervisor, job)
        begun_at = runs(job)[0].made_at

        def shown() -> bool:
            job.refresh()
            return bool(job.status.name == "RUNNING")

        eventually(shown, 2, "RUNNING", lambda: picture(supervisor))
        assert job.started_at is not None
        assert abs(job.started_at - begun_at) < timedelta(seconds=0.3)
        assert len(job.worker_ids) == 1
        assert "worker 1" in job.worker_ids[0]
        (tmp_path / "go").touch()
        wait_final(supervisor, [job])
        supervisor.stop()
    job.refresh()
    assert job.worker_ids == [f"{row(job).worker.partition(':')[0]}:worker 1:{pid}"]
    assert abs(job.started_at - begun_at) < timedelta(seconds=0.3)


@ON_POSTGRESQL
def test_f39_two_supervisors_share_a_queue_and_no_job_runs_twice(database: Database) -> None:
    """Two names; both work, each job runs once, and worker_ids names the process that ran it."""
    jobs = [tasks.work.enqueue(5) for _ in range(300)]
    with (
        database.supervisor("--workers", "1", "--name", "one") as one,
        database.supervisor("--workers", "1", "--name", "two") as two,
    ):
        wait_final(one, jobs)
        (first,), (second,) = one.workers(), two.workers()
        one.stop()
        two.stop()
    assert {runs(job)[0].pid for job in jobs} == {first, second}
    for job in jobs:
        assert_once(job)
        job.refresh()
        assert [name.rpartition(":")[2] for name in job.worker_ids] == [str(runs(job)[0].pid)]
    assert_nobody_owns_anything()


def test_an_idle_supervisor_begins_a_job_at_once(database: Database) -> None:
    """Woken by NOTIFY, or by the change of the file; well before the next check or poll could find it."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        delays = []
        for _ in range(10):
            job = tasks.effect.enqueue()
            wait_final(supervisor, [job])
            delays.append(runs(job)[0].made_at - row(job).enqueued_at)
            eventually(lambda: all("idle" in title_of(pid) for pid in supervisor.workers()), what="an idle worker")
        supervisor.stop()
    assert sorted(delays)[5] < timedelta(seconds=0.5)
