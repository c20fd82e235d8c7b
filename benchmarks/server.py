"""What a job costs the server: the CPU of the one session that does all its steps, by /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.tables import clear, vacuum
from benchmarks.world import Figures, World

T = TypeVar("T")
_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class Meter:
    """The CPU of a server process, and the time that its client waits, by the names of steps.

    Args:
        pid: of the process; on this machine.
    """

    def __init__(self, pid: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self.cpu_us: dict[str, float] = {}
        self.wall_us: dict[str, float] = {}

    def __call__(self, step: str, work: Callable[[], T]) -> T:
        """Do the work of a step; return what it returns."""
        cpu_us, begun = self._cpu_us(), time.perf_counter()
        answer = work()
        self.wall_us[step] = self.wall_us.get(step, 0.0) + (time.perf_counter() - begun) * 1e6
        self.cpu_us[step] = self.cpu_us.get(step, 0.0) + self._cpu_us() - cpu_us
        return answer

    def _cpu_us(self) -> float:
        fields = self._stat.read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_US  # utime and stime, proc(5)


def server(_world: World, jobs: int) -> Figures:
    """Each step of jobs that do nothing, one at a time and a hundred at a time: the server's CPU per job."""
    from django.db import connection

    figures: Figures = {}
    for together, name in ((1, "one at a time"), (100, "100 at a time")):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            meter = Meter(cursor.fetchone()[0])
        some = jobs if together > 1 else jobs // 10
        _all_steps(meter, some, together)
        for step, cpu_us in meter.cpu_us.items():
            figures[f"{step}, {name}"] = {"cpu_us": cpu_us / some, "wall_us": meter.wall_us[step] / some}
    return figures


def _all_steps(meter: Meter, jobs: int, together: int) -> None:
    from benchmarks import tasks
    from jobsup import runs
    from jobsup.sql import FinishRow
    from jobsup.store import Store

    clear()
    store = Store()
    run = runs.begin(store, "benchmark", "here", f"together {together}", os.getpid(), 3600.0)
    if together == 1:
        for _ in range(jobs):
            meter("insert", tasks.nothing.enqueue)
    else:
        meter("insert", lambda: tasks.nothing.enqueue_many(() for _ in range(jobs)))
    vacuum()
    while pks := meter("claim", lambda: store.claim(run, ["default"], together)):
        meter("load", lambda: store.get_many(pks))  # called at once
        ends = [FinishRow(pk, 1, 3, "null", "here:worker-1", 0.001, 0.0001, 0.0) for pk in pks]
        meter("finish", lambda: store.sql.finish(run, ends))  # noqa: B023
    runs.end(store, run)
