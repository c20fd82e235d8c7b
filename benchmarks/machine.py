"""The facts without which a figure means nothing: the machine, its disk, and the versions of everything."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.processes import ROOT

SYNCS = 200


def machine(folder: Path) -> dict[str, str]:
    """Return the facts by their names.

    Args:
        folder: on the disk that the databases are on.
    """
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GB",
        "kernel": platform.release(),
        "fdatasync": f"{_sync_us(folder):.0f} us",
        "load": f"{os.getloadavg()[0]:.2f} when it began",
        "python": platform.python_version(),
        **_versions(),
        "jobsup": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _sync_us(folder: Path) -> float:
    """Return what it takes to have 4 KB on the disk, the median of some, in microseconds."""
    place, taken = folder / "sync", []
    with place.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    place.unlink()
    return 1e6 * statistics.median(taken)


def _versions() -> dict[str, str]:
    import django
    from django.db import connection
    from django.db.backends.postgresql.base import Database  # type: ignore[attr-defined]  # the driver

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT split_part(current_setting('server_version'), ' ', 1) || ', fsync ' || current_setting('fsync') "
            "|| ', synchronous_commit ' || current_setting('synchronous_commit')"
        )
        (server,) = cursor.fetchone()
    driver = f"psycopg {Database.__version__.split()[0]}"
    return {"django": django.get_version(), "driver": driver, "postgresql": server}


def _commit() -> str:
    """Return which commit of ours is measured, as far as it is known."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
