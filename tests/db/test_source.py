"""The supervisor's source over a real database: what wakes it, what it looks at, and in which order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone

from jobsup.conf import Conf
from jobsup.models import Job, Status
from jobsup.source import DatabaseSource
from spawnpool.errors import AlreadyRunning
from spawnpool.runfile import RunFile
from tests.support import eventually
from tests.testapp import tasks


def enqueue_and_hang_up() -> int:
    """Enqueue a job from a thread, which has connections of its own."""
    try:
        return int(tasks.noop.enqueue().id)
    finally:
        connections.close_all()


@pytest.fixture
def source(database: object, tmp_path: Path) -> Iterator[DatabaseSource]:
    """Yield an opened source that serves the default queue."""
    runfile = RunFile(tmp_path / "test.run")
    made = DatabaseSource(Conf(), ["default"], runfile, 0)
    made.open()
    yield made
    made.close(finished=True)
    runfile.release()


def test_a_scheduled_job_is_noticed_while_the_queue_never_gets_empty(source: DatabaseSource) -> None:
    """Retries do not wait behind the whole backlog."""
    soon = tasks.noop.using(run_after=timezone.now() + timedelta(seconds=0.2), priority=100).enqueue()
    for _ in range(50):
        tasks.noop.enqueue()

    def claimed() -> bool:
        source.release([pk for pk in source.claim(1) if pk != int(soon.id)])
        return Job.objects.filter(pk=int(soon.id), status=Status.RUNNING).exists()

    eventually(claimed, timeout_s=5, what="the scheduled job was claimed before the backlog was done")
    assert Job.objects.filter(status=Status.READY).count() == 50


def test_a_look_without_a_change_finds_nothing_and_a_change_is_found(source: DatabaseSource) -> None:
    """An idle source still sees the next job, which somebody enqueues over another connection."""
    assert list(source.claim(5)) == []
    assert list(source.claim(5)) == []
    with ThreadPoolExecutor(1) as other:
        pk = other.submit(enqueue_and_hang_up).result()
    assert list(source.claim(5)) == [pk]


def test_k_before_check_closes_every_alias(source: DatabaseSource) -> None:
    """Nothing of this process is connected when it looks at its children."""
    source.claim(1)
    source.before_check()
    assert source.wakeup_fd() is None
    assert all(connection.connection is None for connection in connections.all(initialized_only=True))


def test_y3_a_run_file_has_one_holder_and_names_it(tmp_path: Path) -> None:
    """The second start says who runs already; a free file is taken over with its identity."""
    first = RunFile(tmp_path / "a.run")
    with pytest.raises(AlreadyRunning) as caught:
        RunFile(tmp_path / "a.run")
    assert caught.value.pid == os.getpid()
    first.release()
    second = RunFile(tmp_path / "a.run")
    assert second.identity == first.identity
    second.release()
