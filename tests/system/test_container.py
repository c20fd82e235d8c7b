"""The supervisor as process 1 of a container: it gets its signals, and no orphan becomes a zombie."""

from __future__ import annotations

import os
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobsup.models import Status
from tests.support import assert_nothing_left, eventually, processes_of, title_of
from tests.system.jobs import ON_SQLITE, assert_once, status, wait_begun, wait_final
from tests.testapp import nasty, tasks

if TYPE_CHECKING:
    from tests.databases import Database
    from tests.support import Supervisor

UNSHARE = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else [])]
AS_INIT = [*UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc", "--"]


@cache
def containers_possible() -> bool:
    """True when this machine lets us be process 1 somewhere."""
    try:
        return subprocess.run([*AS_INIT, "true"], check=False, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def init_of(container: Supervisor) -> int:
    """Return the pid, as seen from here, of process 1 in there."""
    return next(pid for pid in processes_of(container.pid) if title_of(pid).startswith("jobsup: supervisor"))


def children_of(parent: int) -> list[int]:
    """Return all children of a process, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


@ON_SQLITE
def test_m16_fault_31_as_process_1_it_reaps_orphans_and_drains(database: Database, tmp_path: Path) -> None:
    """A job leaves an orphan that ends later; TERM lets the running job finish, as in any container."""
    if not containers_possible():
        pytest.skip("this machine lets us make no process namespace (unshare --pid), and process 1 needs one")
    with database.supervisor("--workers", "1", prefix=AS_INIT) as container:
        container.wait_ready(60)
        init = init_of(container)
        family = children_of(init)
        orphaning = nasty.leave_orphan.enqueue(0.2, str(tmp_path / "orphan"))
        eventually((tmp_path / "orphan").exists, 60, "the orphan's last act", container.picture)
        eventually(lambda: children_of(init) == family, 60, "no zombie", container.picture)
        wait_final(container, [orphaning], 60)
        job = tasks.hold.enqueue(str(tmp_path / "go"))
        worker = wait_begun(container, job, timeout_s=60)
        assert worker < 1000, "it sees the pids of its own namespace"
        os.kill(init, signal.SIGTERM)
        container.wait_log("SIGTERM received: the supervisor drains", 60)
        (tmp_path / "go").touch()
        assert container.wait(60) == 0
    assert status(orphaning) is Status.SUCCESSFUL
    assert_once(job)
    assert_nothing_left()
