"""What it costs to enqueue: one job after the other, many clients at once, and many jobs in one call."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.contender import Contender
from benchmarks.crowd import together
from benchmarks.drains import compared
from benchmarks.processes import supervisor, wait_ready
from benchmarks.tables import INSERT, clear, insert, until
from benchmarks.world import Figures, World

TURNS = 5
BULK = 10_000
"""How many jobs one bulk call of a rival gets."""

INSERT_AND_NOTIFY = f"WITH job AS ({INSERT} RETURNING id) SELECT pg_notify('benchmarks', '') FROM job"


def enqueue_one() -> None:
    """Enqueue a job."""
    from benchmarks import tasks

    tasks.nothing.enqueue()


def insert_and_notify() -> None:
    """Insert a job by a bare statement that tells somebody."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(INSERT_AND_NOTIFY)


INSERTS: dict[str, Callable[[], None]] = {
    "jobsup": enqueue_one,
    "bare INSERT": insert,
    "bare INSERT and NOTIFY": insert_and_notify,
}


def enqueue(world: World, jobs: int) -> Figures:
    """One enqueue after the other, each its own commit, beside a bare INSERT of the same row."""
    clear()
    world.checkpoint()
    rates: dict[Callable[[], None], list[float]] = {enqueue_one: [], insert: []}
    for call in rates:
        call()  # connections and caches are warm
    for _ in range(TURNS):  # in turn, so that a change of the machine's pace meets both
        for call, taken in rates.items():
            begun = time.perf_counter()
            for _ in range(jobs // TURNS):
                call()
            taken.append(jobs // TURNS / (time.perf_counter() - begun))
    ours, bare = (statistics.median(taken) for taken in rates.values())
    return compared(ours, {"bare INSERT": {"per_s": bare}})


def enqueuers(world: World, clients: int, seconds: float) -> Figures:
    """Clients that enqueue at the same time, each job its own commit, while all workers are busy for long.

    Beside them as many bare INSERTs of the same row, and some with a NOTIFY each time; and one client of each kind.
    """
    from benchmarks import tasks
    from jobsup.models import Job

    clear()
    with tempfile.TemporaryDirectory() as folder, supervisor() as process:
        wait_ready(process)
        done = Path(folder, "done")
        for number in range(2):
            tasks.long.enqueue(number, str(done), 600.0)
        until(lambda: Job.objects.filter(status=2).exclude(worker="").count() == 2)
        rates = {how: [_rate(world, how, number, seconds) for number in (1, clients)] for how in INSERTS}
        done.touch()
    others = {how: {"per_s": rates[how][1]} for how in INSERTS if how != "jobsup"}
    figures = compared(rates["jobsup"][1], others)
    return {how: {**each, "times_one": rates[how][1] / rates[how][0]} for how, each in figures.items()}


def bulk(world: World, jobs: int) -> Figures:
    """`enqueue_many`, its commit included, beside the bulk calls of rivals and Django's `bulk_create`."""
    few = max(100, jobs // 20)
    ours = _bulk(world.jobsup, jobs)["per_s"]
    others = {"bulk_create of the same rows": _created(few), "single enqueues in one transaction": _single(few)}
    rivals = world.beside(lambda rival: _bulk(rival, min(jobs, BULK)), bulk=True)
    return compared(ours, {name: {"per_s": rate} for name, rate in others.items()} | rivals)


def _rate(world: World, how: str, clients: int, seconds: float) -> float:
    """Return how many jobs a second some clients insert together."""
    world.checkpoint()
    crowd = together(_enqueue, [(how, seconds)] * clients)
    inserted: int = sum(each.answer for each in crowd.done)
    return inserted / crowd.took_s


def _enqueue(asked: tuple[str, float]) -> int:
    how, seconds = asked
    insert_one, count = INSERTS[how], 0
    give_up_at = time.perf_counter() + seconds
    while time.perf_counter() < give_up_at:
        insert_one()
        count += 1
    return count


def _bulk(contender: Contender, jobs: int) -> dict[str, float]:
    contender.side("clear")
    return {"per_s": contender.side("bulk", jobs)}


def _created(jobs: int) -> float:
    from django.utils import timezone

    from benchmarks import tasks
    from jobsup.models import Job

    clear()
    values = {"task": tasks.noop.module_path, "queue": "default", "backend": "default"}
    now = timezone.now()
    begun = time.perf_counter()
    rows = [Job(arguments=f'{{"args":[{each}],"kwargs":{{}}}}', enqueued_at=now, **values) for each in range(jobs)]
    Job.objects.bulk_create(rows, batch_size=5000)
    return jobs / (time.perf_counter() - begun)


def _single(jobs: int) -> float:
    from django.db import transaction

    from benchmarks import tasks

    clear()
    begun = time.perf_counter()
    with transaction.atomic():
        for number in range(jobs):
            tasks.noop.enqueue(number)
    return jobs / (time.perf_counter() - begun)
