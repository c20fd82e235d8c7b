"""What a benchmark runs in: a throwaway PostgreSQL with fsync on, the tables, and a supervisor as a child process."""

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
def world() -> Iterator[None]:
    """Set Django up on a fresh database, which is gone afterwards."""
    from tests.postgres import Cluster

    with Cluster(fsync=True) as cluster, tempfile.TemporaryDirectory() as run_dir:
        os.environ.update(
            BENCH_DATABASE=cluster.create_database("bench"),
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

    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version'), current_setting('fsync')")
        version, fsync = cursor.fetchone()
    return {
        "python": platform.python_version(),
        "django": django.get_version(),
        "postgresql": f"{version}, fsync {fsync}",
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
    }
