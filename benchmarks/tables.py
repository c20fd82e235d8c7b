"""jobsup's tables, as benchmarks need them that look at rows themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

INSERT = """
    INSERT INTO jobsup_job (task, queue, backend, priority, status, arguments, attempt, worker, enqueued_at)
    VALUES ('benchmarks.tasks.nothing', 'default', 'default', 0, 0, '{"args":[],"kwargs":{}}', 0, '', now())
"""
"""A job as somebody would write it who does nothing else."""


def insert() -> None:
    """Insert a job by a bare statement."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(INSERT)


def clear() -> None:
    """Have no jobs."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobsup_job, jobsup_failedattempt")


def vacuum() -> None:
    """Have the server learn of the rows that there are."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE jobsup_job")


def until(fact: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for a fact."""
    give_up_at = time.monotonic() + timeout_s
    while not fact():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the jobs did not end")
        time.sleep(0.01)
