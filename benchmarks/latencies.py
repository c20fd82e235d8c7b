"""How long a job waits: for an idle worker, beside a load, behind a long job, during reloads; and its record."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.contender import PER_S, latencies
from benchmarks.jobs import notes
from benchmarks.tables import until
from benchmarks.world import Figures, World

LOAD_LEAD_S = 1.0
"""How long the load is there before anything is measured beside it."""
URGENT = 50
"""The priority of the jobs whose latency is measured beside a load."""
LONG_S = 10.0
LONG = -3
"""The number of the long job."""
BRIEF = 500
"""How many short jobs come before it, so that the supervisor expects no other."""
BEHIND = 20
"""How many short jobs come behind it."""
RELOAD_PER_S = 50


def latency(world: World, jobs: int) -> Figures:
    """From the call of `enqueue` to the start of the job on an idle worker, at 20 a second, the commit included."""
    ours = world.jobsup.latencies(jobs)
    others = world.beside(lambda rival: rival.latencies(jobs))
    return {"jobsup": ours} | {
        name: {**each, "ratio": each["p99_ms"] / ours["p99_ms"]} for name, each in others.items()
    }


def priority(world: World, jobs: int, drained: int) -> Figures:
    """The same of urgent jobs, while half as many others come and go as a drain in the same run did."""
    from benchmarks import tasks

    ours = world.jobsup
    limit = ours.drain("noop", drained).rate
    ours.side("clear")
    urgent = tasks.moment.using(priority=URGENT)
    with ours.working(), ThreadPoolExecutor(1) as beside:
        urgent.enqueue(-1.0)
        ours.wait(1)
        feeding = beside.submit(ours.side, "feed", limit / 2, jobs / PER_S + 2 * LOAD_LEAD_S)
        ours.wait(2)  # it has come up
        time.sleep(LOAD_LEAD_S)
        _steadily(jobs, PER_S, lambda: urgent.enqueue(time.time()))
        ours.wait(1 + jobs + feeding.result())
    found = notes(ours.notes)
    load = sorted(each.first for each in found if each.number >= 0)
    rates = {"load_per_s": len(load) / (load[-1] - load[0]), "limit_per_s": limit}
    return {"jobsup": latencies(found) | rates}


def behind(world: World, rounds: int) -> Figures:
    """Short jobs in the same window as a long one that begins before them, and another worker is free.

    From the start of the long one to that of the last short one.
    """
    from django.db import transaction

    from benchmarks import tasks
    from jobsup.models import Job

    ours = world.jobsup
    ours.side("clear")
    times = []
    with tempfile.TemporaryDirectory() as folder, ours.working():
        for turn in range(rounds):
            done = Path(folder, str(turn))
            os.truncate(ours.notes, 0)
            tasks.brief.enqueue_many((number,) for number in range(BRIEF))
            ours.wait(BRIEF)
            os.truncate(ours.notes, 0)
            with transaction.atomic():
                tasks.long.enqueue(LONG, str(done), LONG_S)
                for number in range(BEHIND):
                    tasks.brief.enqueue(number)
            ours.wait(1 + BEHIND)
            done.touch()
            until(lambda: not Job.objects.filter(status=2).exists())
            found = notes(ours.notes)
            began = next(each.first for each in found if each.number == LONG)
            times.append(1000 * (max(each.first for each in found) - began))
    return {"jobsup": {"p50_ms": statistics.median(times), "max_ms": max(times)}}


def reload(world: World, jobs: int) -> Figures:
    """Jobs of 10 ms at 50 a second, a quarter of what two workers can do: their latency, and that during reloads."""
    from benchmarks import tasks
    from jobsup import conf
    from jobsup.places import run_path
    from spawnpool.client import ask

    ours = world.jobsup
    ours.side("clear")
    place = run_path(conf.load())
    reloads: list[float] = []
    with ours.working(), ThreadPoolExecutor(1) as asking:
        tasks.short.enqueue(-1.0)
        ours.wait(1)
        given = _steadily(jobs, RELOAD_PER_S, lambda: tasks.short.enqueue(time.time()))
        boundary = time.time()
        while given < 2 * jobs:
            begun = time.monotonic()
            answer = asking.submit(ask, place, "reload", wait=True, timeout_s=60)
            given += _steadily(jobs, RELOAD_PER_S, lambda: tasks.short.enqueue(time.time()), over=answer.done)
            assert answer.result()["ok"], answer.result()
            reloads.append(time.monotonic() - begun)
        ours.wait(1 + given)
    found = notes(ours.notes)
    calm = latencies(each for each in found if each.first < boundary)
    during = latencies(each for each in found if each.first >= boundary)
    return {
        "calm": calm,
        "during reloads": {**during, "ratio": during["p99_ms"] / calm["p99_ms"]},
        "a reload": {"seconds": statistics.median(reloads)},
    }


def window(world: World, jobs: int) -> Figures:
    """From the return of a short ordinary job to the moment at which its record is known to be committed."""
    from benchmarks import tasks
    from jobsup.models import Job

    ours = world.jobsup
    ours.side("clear")
    tasks.ended.enqueue_many((number,) for number in range(jobs))
    with tempfile.TemporaryDirectory() as place:
        os.environ["BENCH_WINDOW"] = place
        try:
            with ours.working():
                until(lambda: Job.objects.filter(status=3).count() == jobs)
        finally:
            del os.environ["BENCH_WINDOW"]
        found = [1000 * each for file in Path(place).iterdir() for each in json.loads(file.read_text())]
    assert len(found) == jobs, f"{len(found)} of {jobs} jobs were told of"
    cuts = statistics.quantiles(found, n=1000, method="inclusive")
    return {"jobsup": {"p50_ms": cuts[499], "p99_ms": cuts[989], "p999_ms": cuts[998], "max_ms": max(found)}}


def _steadily(jobs: int, per_s: int, enqueue: Callable[[], object], over: Callable[[], bool] = lambda: False) -> int:
    """Enqueue jobs at a steady pace until there are so many or it is over; return how many there were."""
    begun = time.monotonic()
    for number in range(jobs):
        if over():
            return number
        time.sleep(max(0.0, begun + number / per_s - time.monotonic()))
        enqueue()
    return jobs
