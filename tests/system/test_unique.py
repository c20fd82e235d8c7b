"""Unique jobs while a real supervisor runs them and many processes enqueue."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from jobsup.errors import AlreadyEnqueued
from jobsup.models import Job, Status
from tests.support import run_django
from tests.system.jobs import assert_nobody_owns_anything, row, runs, status, wait_begun, wait_final, wait_status
from tests.testapp import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

PROCESSES = 4
THREADS = 13
ENQUEUERS = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from django.db import connections
from tests.testapp.tasks import hold

alone = hold.using(unique=True, unique_while="running")

def enqueue(number):
    try:
        return alone.enqueue({{place!r}}).id
    finally:
        connections.close_all()

with ThreadPoolExecutor({THREADS}) as threads:
    print("ids", *set(threads.map(enqueue, range({THREADS}))))
"""


def test_fifty_enqueuers_in_several_processes_make_one_job_that_runs_once(database: Database, tmp_path: Path) -> None:
    """While it waits or runs nobody makes a second one; when it has ended, the next enqueue makes one."""
    place = str(tmp_path / "go")
    alone = tasks.hold.using(unique=True, unique_while="running")

    def enqueue(_number: int) -> set[str]:
        done = run_django(database.env, "shell", "--no-imports", "-c", ENQUEUERS.format(place=place))
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split()[1:])

    with database.supervisor("--workers", "2") as supervisor, ThreadPoolExecutor(PROCESSES) as processes:
        ids: set[str] = set().union(*processes.map(enqueue, range(PROCESSES)))
        assert len(ids) == Job.objects.count() == 1
        job = alone.enqueue(place)
        assert job.id in ids
        wait_begun(supervisor, job)
        assert alone.enqueue(place).id == job.id
        with pytest.raises(AlreadyEnqueued):
            alone.using(on_conflict="raise").enqueue(place)
        (tmp_path / "go").touch()
        wait_final(supervisor, [job])
        another = alone.enqueue(place)
        assert another.id != job.id
        wait_final(supervisor, [another])
        supervisor.stop()
    assert len(runs(job)) == len(runs(another)) == 1
    assert_nobody_owns_anything()


def test_fault_1_a_job_whose_worker_was_killed_gives_way_to_the_next_one(database: Database, tmp_path: Path) -> None:
    """Its account is kept although the one that waits has its key; both run to their ends."""
    place = str(tmp_path / "go")
    by_place = tasks.hold.using(unique=lambda place: place, max_attempts=3)
    first = by_place.enqueue(place)
    with database.supervisor("--workers", "1") as supervisor:
        pid = wait_begun(supervisor, first)
        hour = timezone.now() + timedelta(hours=1)
        second = by_place.using(run_after=hour).enqueue(place)
        assert second.id != first.id
        os.kill(pid, signal.SIGKILL)
        wait_begun(supervisor, first, times=2)
        assert (row(first).unique_key, row(first).attempt) == (None, 2)
        assert status(second) is Status.SCHEDULED
        assert by_place.enqueue(place).id == second.id
        # Its time is replaced: it is due, and runs when the worker is free.
        assert by_place.using(on_conflict="replace").enqueue(place).id == second.id
        wait_status(supervisor, second, Status.READY)
        (tmp_path / "go").touch()
        wait_final(supervisor, [first, second])
        supervisor.stop()
    assert [status(job) for job in (first, second)] == [Status.SUCCESSFUL] * 2
    first.refresh()
    assert (len(first.errors), first.attempts) == (1, 2)
    assert_nobody_owns_anything()
