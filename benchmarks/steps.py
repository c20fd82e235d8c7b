"""What a job that does nothing costs, by process and by the steps of a worker.

The steps are timed in the workers, by functions that stand before those of the product there and cost each job about a
microsecond.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import cpu_s, supervisor, wait_ready
from benchmarks.tables import clear, until
from benchmarks.world import Figures, World
from tests.support import WORKER_TITLE, processes_of, title_of

PLACE = "BENCH_STEPS"
"""The variable that says where workers write down what they timed."""
STEPS = {"load": "load the rows", "run": "run", "tidy": "tidy up and keep the outcome", "flush": "record"}
"""What of a worker's `Runner` is timed, and how it is called."""

_taken: Counter[str] = Counter()


def steps(world: World, jobs: int) -> Figures:
    """What a job that does nothing costs each process, in microseconds of a core, and each step of its worker."""
    from benchmarks import tasks
    from jobsup.models import Job

    clear()
    with tempfile.TemporaryDirectory() as place:
        os.environ[PLACE] = place
        try:
            with supervisor() as process:
                wait_ready(process)
                tasks.nothing.enqueue_many(() for _ in range(jobs // 10))  # how long they take is learnt
                until(lambda: Job.objects.filter(status=3).count() == jobs // 10)
                process.send_signal(signal.SIGTSTP)  # what it costs to enqueue them is no part of it
                tasks.nothing.enqueue_many(() for _ in range(jobs))
                before = _spent(world, process.pid)
                process.send_signal(signal.SIGCONT)
                until(lambda: not Job.objects.exclude(status=3).exists(), timeout_s=300)
                spent = _spent(world, process.pid) - before
        finally:
            del os.environ[PLACE]
        taken = sum((Counter(json.loads(file.read_text())) for file in Path(place).iterdir()), Counter[str]())
    found = {who: {"cpu_us": 1e6 * seconds / jobs} for who, seconds in spent.items()}
    every = jobs + jobs // 10
    timed = {f"worker: {words}": {"us": 1e6 * taken[name] / every} for name, words in STEPS.items()}
    around = taken["_play"] - sum(taken[name] for name in STEPS)
    return {**found, "together": {"cpu_us": sum(each["cpu_us"] for each in found.values())}, **timed} | {
        "worker: around them": {"us": 1e6 * around / every}
    }


def time_steps(place: str) -> None:
    """Have this worker time its steps, and write down what it found when it ends."""
    from jobsup.runner import Runner
    from spawnpool.worker import Worker

    for owner, name in [(Runner, name) for name in STEPS] + [(Worker, "_play")]:
        setattr(owner, name, _timed(name, getattr(owner, name)))
    atexit.register(lambda: Path(place, f"{os.getpid()}.json").write_text(json.dumps(_taken)))


def _timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            _taken[name] += time.perf_counter() - begun  # type: ignore[assignment]

    return call


def _spent(world: World, supervisor_pid: int) -> Counter[str]:
    """Return the CPU that each part has used so far, in seconds."""
    workers = [pid for pid in processes_of(supervisor_pid) if title_of(pid).startswith(WORKER_TITLE)]
    server = world.cluster.pid
    assert server is not None
    spent: dict[str, float] = {
        "supervisor": cpu_s(supervisor_pid),
        "workers": sum(map(cpu_s, workers)),
        "server": cpu_s(server, of_dead_children=True) + sum(map(cpu_s, processes_of(server))),
    }
    return Counter(spent)
