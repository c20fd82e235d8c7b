"""What atomic jobs cost, and for how long an ordinary one that returned is not recorded yet."""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.world import supervisor

ACCOUNTS = 1000


def atomic(jobs: int) -> dict[str, float]:
    """Jobs of one ORM read and one ORM write, ordinary and atomic; beside them two loops of just that."""
    from benchmarks import tasks

    with accounts():
        ordinary, together = (_drain(jobs, task) for task in (tasks.raise_ordinary, tasks.raise_atomic))
        bare = _bare(jobs)
    return {
        "ordinary_per_s": ordinary,
        "atomic_per_s": together,
        "bare_per_s": bare,
        "ratio_of_ordinary": ordinary / bare,
        "ratio_of_atomic": together / bare,
        "atomic_to_ordinary": together / ordinary,
    }


def window(jobs: int) -> dict[str, float]:
    """From the return of a short ordinary job to the moment at which its record is known to be committed."""
    from benchmarks import tasks

    with tempfile.TemporaryDirectory() as place:
        os.environ["BENCH_WINDOW"] = place
        try:
            _drain(jobs, tasks.ended)
        finally:
            del os.environ["BENCH_WINDOW"]
        found = [1000 * each for file in Path(place).iterdir() for each in json.loads(file.read_text())]
    assert len(found) == jobs, f"{len(found)} of {jobs} jobs were told of"
    quantiles = statistics.quantiles(found, n=1000)
    return {"p50_ms": quantiles[499], "p99_ms": quantiles[989], "p999_ms": quantiles[998], "max_ms": max(found)}


@contextmanager
def accounts() -> Iterator[None]:
    """Have the table there meanwhile."""
    from django.db import connection

    from benchmarks.accounts import Account

    with connection.schema_editor() as editor:
        editor.create_model(Account)
    Account.objects.bulk_create([Account(pk=number) for number in range(ACCOUNTS)])
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Account)


def _drain(jobs: int, task: Any) -> float:
    """Return the rate at which two workers do what waits."""
    from django.db import connection
    from django.db.models import Max, Min

    from jobsup.models import Job

    Job.objects.all().delete()
    task.enqueue_many((number % ACCOUNTS,) for number in range(jobs))
    connection.close()
    with supervisor("--exit-when-empty") as process:
        process.wait(timeout=300)
    done = Job.objects.filter(status=3, attempt=1)
    assert done.count() == jobs, f"{done.count()} of {jobs} jobs were successful at their first attempt"
    ended = done.aggregate(first=Min("started_at"), last=Max("finished_at"))
    return jobs / float((ended["last"] - ended["first"]).total_seconds())


def _bare(jobs: int) -> float:
    """Return the rate of two processes that do nothing but the jobs' own statements."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, _connect) as pool:
        pool.map(_wait, range(2), chunksize=1)
        begun = time.perf_counter()
        pool.map(_loop, [range(first, jobs, 2) for first in range(2)], chunksize=1)
        return jobs / (time.perf_counter() - begun)


def _connect() -> None:
    import django
    from django.db import connection

    django.setup()
    connection.ensure_connection()


def _wait(_index: int) -> None:
    time.sleep(0.2)  # so that each process of the pool gets one


def _loop(numbers: range) -> None:
    from benchmarks.accounts import raise_by_one

    for number in numbers:
        raise_by_one(number % ACCOUNTS)
