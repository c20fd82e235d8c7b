"""The measurements; each returns its figures by name."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks import claims, wakeups
from benchmarks.atomic import atomic, window
from benchmarks.server import server
from benchmarks.world import supervisor, wait_ready

Figures = dict[str, float]

INSERT = """
    INSERT INTO jobsup_job (task, queue, backend, priority, status, arguments, attempt, worker, enqueued_at)
    VALUES ('benchmarks.tasks.noop', 'default', 'default', 0, 0, '{"args":[],"kwargs":{}}', 0, '', now())
"""
"""A job as somebody would write it who does nothing else."""


def drain(jobs: int) -> Figures:
    """No-op jobs that wait in the queue, run by two workers; beside it two plain loops of one claim per job."""
    from django.db import connection, transaction
    from django.db.models import Max, Min

    from benchmarks import tasks
    from jobsup.models import Job

    clear()
    with transaction.atomic():
        for _ in range(jobs):
            tasks.noop.enqueue()
    connection.close()
    with supervisor("--exit-when-empty") as process:
        process.wait(timeout=300)
    ended = Job.objects.filter(status=3, attempt=1).aggregate(first=Min("started_at"), last=Max("finished_at"))
    count = Job.objects.filter(status=3, attempt=1).count()
    assert count == jobs, f"{count} of {jobs} jobs were successful at their first attempt"
    rate = jobs / (ended["last"] - ended["first"]).total_seconds()
    if connection.vendor != "postgresql":
        return {"jobsup_per_s": rate}
    plain = plain_loops(max(500, jobs // 10))
    return {"jobsup_per_s": rate, "one_claim_per_job_per_s": plain, "ratio": rate / plain}


def plain_loops(jobs: int) -> float:
    """Return the rate of two processes that claim one row, do nothing and finish it: the usual task table."""
    from django.db import connection, transaction

    from benchmarks import tasks

    clear()
    with transaction.atomic():
        for _ in range(jobs):
            tasks.noop.enqueue()
    connection.close()
    context = multiprocessing.get_context("spawn")
    with context.Pool(2, _connect) as pool:
        pool.map(_touch, range(2))
        begun = time.perf_counter()
        done = sum(pool.map(_plain_loop, range(2), chunksize=1))
        return done / (time.perf_counter() - begun)


def latency(jobs: int) -> Figures:
    """From the call of `enqueue` to the start of the job on an idle worker, at 20 a second, the commit included."""
    from benchmarks import tasks
    from jobsup.models import Job

    clear()
    begun: dict[int, float] = {}
    with supervisor() as process:
        wait_ready(process)
        for _ in range(jobs):
            moment = time.time()
            begun[int(tasks.moment.enqueue().id)] = moment
            time.sleep(max(0.0, 0.05 - (time.time() - moment)))
        until(lambda: Job.objects.filter(status=3).count() == jobs)
    results = Job.objects.filter(pk__in=begun).values_list("pk", "result")
    times = sorted(1000 * (json.loads(result or "0") - begun[pk]) for pk, result in results)
    quantiles = statistics.quantiles(times, n=100)
    return {"p50_ms": quantiles[49], "p95_ms": quantiles[94], "p99_ms": quantiles[98]}


def reload(jobs: int) -> Figures:
    """Jobs of 10 ms at 50 a second, a quarter of what two workers can do: their latency, and that during reloads."""
    from jobsup import conf
    from jobsup.models import Job
    from jobsup.places import run_path
    from spawnpool.client import ask

    clear()
    place = run_path(conf.load())
    calm: dict[int, float] = {}
    during: dict[int, float] = {}
    reloads: list[float] = []
    with supervisor() as process, ThreadPoolExecutor(1) as asking:
        wait_ready(process)
        _steadily(lambda: len(calm) >= jobs, calm)
        while len(during) < jobs:
            begun = time.monotonic()
            answer = asking.submit(ask, place, "reload", wait=True, timeout_s=60)
            _steadily(answer.done, during)
            assert answer.result()["ok"], answer.result()
            reloads.append(time.monotonic() - begun)
        until(lambda: Job.objects.filter(status=3).count() == len(calm) + len(during))
    results = {pk: json.loads(result or "0") for pk, result in Job.objects.values_list("pk", "result")}
    spans = [sorted(1000 * (results[pk] - begun) for pk, begun in each.items()) for each in (calm, during)]
    calm_p99, during_p99 = (statistics.quantiles(times, n=100)[98] for times in spans)
    return {
        "calm_p50_ms": statistics.median(spans[0]),
        "calm_p99_ms": calm_p99,
        "during_p50_ms": statistics.median(spans[1]),
        "during_p99_ms": during_p99,
        "during_max_ms": spans[1][-1],
        "ratio_of_p99": during_p99 / calm_p99,
        "reload_s": statistics.median(reloads),
    }


def _steadily(over: Callable[[], bool], begun: dict[int, float]) -> None:
    """Enqueue 50 jobs a second until it is over; note when each was."""
    from benchmarks import tasks

    while not over():
        moment = time.time()
        begun[int(tasks.short.enqueue().id)] = moment
        time.sleep(max(0.0, 0.02 - (time.time() - moment)))


def enqueue(jobs: int) -> Figures:
    """One enqueue after the other, each its own commit, beside a bare INSERT of the same row."""
    from django.db import connection

    from benchmarks import tasks

    clear()

    def bare() -> None:
        with connection.cursor() as cursor:
            cursor.execute(INSERT)

    rates: dict[Callable[[], object], list[float]] = {tasks.noop.enqueue: [], bare: []}
    for _ in range(5):  # in turn, so that a change of the machine's pace meets both
        for call, taken in rates.items():
            begun = time.perf_counter()
            for _ in range(jobs // 5):
                call()
            taken.append(jobs // 5 / (time.perf_counter() - begun))
    ours, plain = (statistics.median(taken) for taken in rates.values())
    return {"enqueue_per_s": ours, "bare_insert_per_s": plain, "ratio": ours / plain}


def bulk(jobs: int) -> Figures:
    """`enqueue_many` from a generator, beside Django's `bulk_create` and single enqueues in one transaction."""
    from django.db import transaction
    from django.utils import timezone

    from benchmarks import tasks
    from jobsup.models import Job

    few = max(1000, jobs // 20)

    def ours() -> int:
        return len(tasks.take.enqueue_many((number, "text") for number in range(jobs)))

    def created() -> int:
        values = {"task": tasks.take.module_path, "queue": "default", "backend": "default"}
        text, now = '{"args":[1,"text"],"kwargs":{}}', timezone.now()
        rows = [Job(arguments=text, enqueued_at=now, **values) for _ in range(few)]
        return len(Job.objects.bulk_create(rows, batch_size=5000))

    def single() -> int:
        with transaction.atomic():
            for number in range(few):
                tasks.take.enqueue(number, "text")
        return few

    rates = {}
    for name, call in {"enqueue_many": ours, "bulk_create": created, "enqueue_in_atomic": single}.items():
        clear()
        begun = time.perf_counter()
        rates[name] = call() / (time.perf_counter() - begun)
    ratios = {f"ratio_to_{name}": rates["enqueue_many"] / rates[name] for name in ("bulk_create", "enqueue_in_atomic")}
    return {f"{name}_per_s": rate for name, rate in rates.items()} | ratios


ROWS: dict[str, tuple[Callable[[int], Figures], int]] = {
    "drain": (drain, 20_000),
    "latency": (latency, 200),
    "enqueue": (enqueue, 5_000),
    "reload": (reload, 500),
    "bulk": (bulk, 300_000),
    "backlog": (claims.backlog, 1_000_000),
    "finished": (claims.finished, 1_000_000),
    "claimers": (claims.claimers, 500_000),
    "held": (claims.held, 300_000),
    "atomic": (atomic, 5_000),
    "window": (window, 5_000),
    "enqueuers": (wakeups.enqueuers, 12_000),
    "idle": (wakeups.idle, 20),
    "server": (server, 30_000),
}
"""Each measurement with its usual number of jobs."""


def clear() -> None:
    """Empty the tables."""
    from django.db import connection

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("TRUNCATE jobsup_job, jobsup_failedattempt")
        else:
            cursor.execute("DELETE FROM jobsup_failedattempt")
            cursor.execute("DELETE FROM jobsup_job")


def until(fact: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for a fact."""
    give_up_at = time.monotonic() + timeout_s
    while not fact():
        if time.monotonic() > give_up_at:
            raise TimeoutError("the jobs did not end")
        time.sleep(0.05)


def _connect() -> None:
    import django
    from django.db import connection

    django.setup()
    connection.ensure_connection()


def _touch(_index: int) -> None:
    time.sleep(0.2)  # so that each process of the pool gets one


def _plain_loop(_index: int) -> int:
    from django.db import connection

    claim = """
        UPDATE jobsup_job SET status = 2 WHERE id = (
            SELECT id FROM jobsup_job WHERE status = 0 AND queue = 'default' ORDER BY priority DESC, id
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING id
    """
    done = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(claim)
            if (row := cursor.fetchone()) is None:
                return done
            cursor.execute("UPDATE jobsup_job SET status = 3, finished_at = now() WHERE id = %s", row)
            done += 1
