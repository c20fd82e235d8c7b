"""What a benchmark runs in: a throwaway database, the tables, and a supervisor as a child process.

PostgreSQL with fsync on, or what JOBSUP_BENCH_DATABASE says: "mariadb" or "sqlite", where each commit is on the disk as
well. Only the drain is measured on those.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def database() -> Iterator[str]:
    """Provide the URL of an empty database."""
    match os.environ.get("JOBSUP_BENCH_DATABASE", "postgresql"):
        case "postgresql":
            from tests.postgres import Cluster

            with Cluster(fsync=True) as cluster:
                yield cluster.create_database("bench")
        case "mariadb":
            from tests.mariadb import Server

            with Server(durable=True) as server:
                yield server.create_database("bench")
        case "sqlite":
            with tempfile.TemporaryDirectory() as directory:
                yield f"sqlite:///{directory}/bench.sqlite3"
        case other:
            raise SystemExit(f"JOBSUP_BENCH_DATABASE is {other!r}: expected postgresql, mariadb or sqlite")


@contextmanager
def world() -> Iterator[None]:
    """Set Django up on a fresh database, which is gone afterwards."""
    with database() as url, tempfile.TemporaryDirectory() as run_dir:
        os.environ.update(
            BENCH_DATABASE=url,
            BENCH_RUN_DIR=run_dir,
            DJANGO_SETTINGS_MODULE="benchmarks.settings",
            PYTHONPATH=os.pathsep.join(str(ROOT / folder) for folder in (".", "supervisor", "django_app")),
        )
        import django
        from django.core.management import call_command
        from django.db import connections

        django.setup()
        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connections.close_all()


@contextmanager
def supervisor(*options: str) -> Iterator[subprocess.Popen[str]]:
    """Run `jobsupervisor` with two workers; drained afterwards."""
    command = [sys.executable, "-m", "django", "jobsupervisor", "--workers", "2", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait until the supervisor says that its workers are on duty."""
    assert process.stderr is not None
    for line in process.stderr:
        if "ready:" in line:
            return
    raise RuntimeError("the supervisor ended before it was ready")


def machine() -> dict[str, str]:
    """Return the facts without which a figure means nothing."""
    import django
    from django.db import connection

    version = {
        "postgresql": "SELECT current_setting('server_version') || ', fsync ' || current_setting('fsync')",
        "mysql": "SELECT concat(version(), ', innodb_flush_log_at_trx_commit ', @@innodb_flush_log_at_trx_commit)",
        "sqlite": "SELECT sqlite_version()",
    }
    with connection.cursor() as cursor:
        cursor.execute(version[connection.vendor])
        (server,) = cursor.fetchone()
    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        connection.display_name: server,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
    }
