"""jobsup itself, measured by the same program as its rivals."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import tasks

AT_ONCE = 100_000
"""How many rows one statement makes where there shall be very many."""

TASKS = {"noop": tasks.noop, "orm": tasks.orm, "orm_atomic": tasks.orm_atomic, "moment": tasks.moment}


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    TASKS[kind].enqueue(argument)


def enqueue_many(kind: str, numbers: Sequence[int]) -> None:
    """Enqueue jobs by its bulk call."""
    TASKS[kind].enqueue_many((number,) for number in numbers)


def check(jobs: int) -> None:
    """Fail unless so many jobs were successful at their first attempt, and nothing else is there."""
    from jobsup.models import Job

    done, all_of_them = Job.objects.filter(status=3, attempt=1).count(), Job.objects.count()
    if not done == all_of_them == jobs:
        raise AssertionError(f"{done} of {all_of_them} jobs, not {jobs}, were successful at their first attempt")


def have_ready(jobs: int) -> None:
    """Have so many jobs wait."""
    from django.db.models import Max

    from benchmarks.tables import vacuum
    from jobsup.models import Job

    first = (Job.objects.aggregate(last=Max("id"))["last"] or 0) + 1
    for begin in range(Job.objects.filter(status=0).count(), jobs, AT_ONCE):
        enqueue_many("noop", range(first + begin, first + min(begin + AT_ONCE, jobs)))
    vacuum()


def have_finished(jobs: int) -> None:
    """Have so many jobs that have ended, by bare statements."""
    from django.db import connection

    from benchmarks.tables import vacuum
    from jobsup.models import Job

    for begin in range(Job.objects.filter(status=3).count(), jobs, AT_ONCE):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO jobsup_job (task, queue, backend, priority, status, arguments, attempt, worker, enqueued_at,
                                        started_at, last_attempted_at, finished_at, result)
                SELECT 'benchmarks.tasks.noop', 'default', 'default', 0, 3, '{"args":[0],"kwargs":{}}', 1, 'somebody',
                       now(), now(), now(), now(), 'null'
                FROM generate_series(1, %s)
                """,
                [min(AT_ONCE, jobs - begin)],
            )
    vacuum()
