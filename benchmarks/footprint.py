"""What a supervisor costs: when it has nothing to do, after very many jobs, and until it is ready."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.jobs import count
from benchmarks.processes import ROOT, cpu_s, memory, supervisor, wait_ready
from benchmarks.tables import clear, until
from benchmarks.world import MAIN, Figures, World
from tests.support import WORKER_TITLE, processes_of, title_of

BARE = "import django; django.setup(); print(flush=True); input()"
"""A process of the project that does nothing; it says when it is ready and waits for a line."""
AT_ONCE = 100_000


def idle(world: World, seconds: float, settle: float) -> Figures:
    """A supervisor with two workers and nothing to do; beside it as many bare processes of the same project.

    All processes are there at the same time, so that what they share is divided alike.
    """
    clear()
    name = f'"{MAIN}"'
    world.cluster.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")
    try:
        with supervisor() as process, ExitStack() as stack:
            wait_ready(process)
            bare = [stack.enter_context(_bare()) for _ in range(2)]
            time.sleep(settle)
            pids = [process.pid, *processes_of(process.pid)]
            said, spent_s = _statements(world), sum(map(cpu_s, pids))
            time.sleep(seconds)
            said, spent_s = _statements(world) - said, sum(map(cpu_s, pids)) - spent_s
            shares = {
                "supervisor": [memory(process.pid).pss_mb],
                "worker": [memory(pid).pss_mb for pid in _workers(process.pid)],
                "bare process": [memory(each.pid).pss_mb for each in bare],
            }
    finally:
        world.cluster.execute(f"ALTER DATABASE {name} RESET log_statement")
    figures: Figures = {who: {"pss_mb": statistics.mean(mb)} for who, mb in shares.items()}
    figures["worker"]["more_mb"] = figures["worker"]["pss_mb"] - figures["bare process"]["pss_mb"]
    return {"jobsup": {"cpu_percent": 100 * spent_s / seconds, "statements_per_s": said / seconds}} | figures


def million(world: World, jobs: int) -> Figures:
    """The memory of a supervisor before and after very many jobs that do nothing, and the turns of its loop."""
    from benchmarks import tasks
    from jobsup.models import Job

    ours = world.jobsup
    ours.side("clear")
    os.truncate(ours.notes, 0)
    world.checkpoint()
    with tempfile.TemporaryDirectory() as folder:
        told = os.environ["BENCH_TURNS"] = str(Path(folder, "turns"))
        with supervisor(module="benchmarks.turns") as process:
            wait_ready(process)
            time.sleep(1)
            before = memory(process.pid)
            for begin in range(0, jobs, AT_ONCE):
                tasks.noop.enqueue_many((number,) for number in range(begin, min(begin + AT_ONCE, jobs)))
            while count(ours.notes) < jobs:
                ours.wait(min(jobs, count(ours.notes) + AT_ONCE))
            until(lambda: not Job.objects.filter(status=2).exists())
            time.sleep(1)
            after = memory(process.pid)
        turns = json.loads(Path(told).read_text())
    ours.side("check", "noop", jobs)
    return {
        "supervisor before": before._asdict(),
        "supervisor after": after._asdict(),
        "growth": {"rss_mb": after.rss_mb - before.rss_mb, "pss_mb": after.pss_mb - before.pss_mb},
        "loop": turns,
    }


def start(_world: World, times: int) -> Figures:
    """From its call until a supervisor says that its two workers are ready; beside it one bare process, in turn."""
    taken: dict[str, list[float]] = {"jobsup": [], "bare process": []}
    for _ in range(times):
        begun = time.perf_counter()
        with supervisor() as process:
            wait_ready(process)
            taken["jobsup"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with _bare():
            taken["bare process"].append(time.perf_counter() - begun)
    ours, bare = (statistics.median(each) for each in taken.values())
    return {"jobsup": {"seconds": ours, "times_bare": ours / bare}, "bare process": {"seconds": bare}}


@contextmanager
def _bare() -> Iterator[subprocess.Popen[str]]:
    """Have a process that has done nothing but `django.setup()`."""
    command = [sys.executable, "-c", BARE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("a bare process of the project did not come up")
        yield process
        process.stdin.write("\n")
        process.stdin.flush()


def _workers(supervisor_pid: int) -> list[int]:
    return [pid for pid in processes_of(supervisor_pid) if title_of(pid).startswith(WORKER_TITLE)]


def _statements(world: World) -> int:
    """Return how many statements the server was sent so far, by its log; with psycopg 3 they are executed by name."""
    log = world.cluster.log()
    return log.count("LOG:  statement: ") + log.count("LOG:  execute ")
