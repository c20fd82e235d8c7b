"""What it costs to wake supervisors, and what a supervisor costs that has nothing to do."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.world import supervisor, wait_ready

Figures = dict[str, float]

CLIENTS, PROCESSES = 32, 4
LEAD_S = 1.0
"""How long the clients have to connect before they begin all at once."""
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def enqueuers(jobs: int) -> Figures:
    """32 clients that enqueue at the same time, each job its own commit, while the workers are busy for long.

    Beside it the same without NOTIFY, and with a NOTIFY each time; and a bare INSERT of the same row. Each client is a
    thread that does nothing else, so that the server is not kept waiting.
    """
    from benchmarks import tasks
    from benchmarks.rows import clear, until
    from jobsup.models import Job

    clear()
    with supervisor() as process, multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        wait_ready(process)
        busy = [tasks.long.enqueue() for _ in range(2)]
        until(lambda: Job.objects.filter(status=2).exclude(worker="").count() == len(busy))
        counts = {"bare_insert": jobs, "never": jobs, "jobsup": jobs, "always": jobs // 4}
        rates = {how: _together(pool, how, count) for how, count in counts.items()}
        for result in busy:
            result.cancel()
    ratios = {f"ratio_to_{how}": rates["jobsup"] / rate for how, rate in rates.items() if how != "jobsup"}
    return {f"{how}_per_s": rate for how, rate in rates.items()} | ratios


def idle(seconds: int) -> Figures:
    """A supervisor with two workers and nothing to do, after it has settled; nothing else is on the server."""
    from benchmarks.rows import clear
    from tests.support import processes_of

    clear()
    with _counting() as count, supervisor() as process:
        wait_ready(process)
        time.sleep(10)
        pids = [process.pid, *processes_of(process.pid)]
        said, spent_s = count(), sum(map(_cpu_s, pids))
        time.sleep(seconds)
        said, spent_s = count() - said, sum(map(_cpu_s, pids)) - spent_s
    return {"statements_per_s": said / seconds, "cpu_percent": 100 * spent_s / seconds}


def _together(pool: Any, how: str, jobs: int) -> float:
    """Return how many jobs a second all clients together could insert in one of the ways."""
    at = time.time() + LEAD_S
    times: list[float] = pool.map(_clients, [(how, jobs // CLIENTS, at)] * PROCESSES, chunksize=1)
    return jobs // CLIENTS * CLIENTS / (max(times) - at)


def _clients(asked: tuple[str, int, float]) -> float:
    """Insert jobs in some threads, from a moment on; return when the last one was there."""
    import django

    django.setup()
    from benchmarks import tasks
    from benchmarks.rows import INSERT
    from jobsup.sql.base import NewRow
    from jobsup.sql.postgresql import INSERT as ENQUEUE
    from jobsup.sql.postgresql import PostgreSQL
    from jobsup.sql.postgresql.wakeups import CHANNEL

    how, count, at = asked
    row = NewRow(tasks.noop.module_path, "default", "default", 0, '{"args":[],"kwargs":{}}', None, None)
    sql = PostgreSQL("default")
    notifying = ENQUEUE.format(conflict="", notify=f", pg_notify('{CHANNEL}', '')::text")
    insert: Callable[[], object] = {
        "bare_insert": lambda: sql.run(INSERT),
        "never": lambda: sql.insert(row, notify=False),
        "jobsup": lambda: sql.insert(row, notify=True),
        "always": lambda: sql.rows(notifying, (*row, None)),
    }[how]

    def client() -> None:
        sql.connection.ensure_connection()
        time.sleep(max(0.0, at - time.time()))
        for _ in range(count):
            insert()
        sql.connection.close()

    with ThreadPoolExecutor(CLIENTS // PROCESSES) as threads:
        for ended in [threads.submit(client) for _ in range(CLIENTS // PROCESSES)]:
            ended.result()
    return time.time()


@contextmanager
def _counting() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many statements others have sent, all that it takes to connect included."""
    from django.db import connection

    from tests.statements import COUNT_FILE

    with connection.cursor() as cursor, tempfile.TemporaryDirectory() as directory:

        def value(statement: str) -> str:
            cursor.execute(statement)
            return str(cursor.fetchone()[-1])

        if connection.vendor == "mysql":
            asked = itertools.count(1)
            yield lambda: int(value("SHOW GLOBAL STATUS LIKE 'Questions'")) - next(asked)
        elif connection.vendor == "sqlite":
            file = Path(directory) / "statements"
            with _environment(**{COUNT_FILE: str(file), "DJANGO_SETTINGS_MODULE": "benchmarks.counted"}):
                yield lambda: file.stat().st_size
        else:
            cursor.execute("ALTER DATABASE bench SET log_statement = 'all'")
            log = "SELECT pg_read_file(current_setting('data_directory') || '/../log')"
            yield lambda: value(log).count("LOG:  statement: ")
            cursor.execute("ALTER DATABASE bench RESET log_statement")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Have children started meanwhile see some other values."""
    before = dict(os.environ)
    os.environ.update(values)
    yield
    os.environ.clear()
    os.environ.update(before)


def _cpu_s(pid: int) -> float:
    """Return how much time of a core a process has used."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S
