"""Kill a worker in the middle of its work, to see what becomes of it.

A worker is stopped (SIGSTOP) before it is looked at, so that "in the middle of a chunk" is a fact and not a race: only
when the stopped process still is a jobsup worker and its chunk still is open does SIGKILL follow, else it goes on.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from demo.models import Analysis, Chunk, Kill

TITLE = "jobsup: worker"


def kill_a_worker(analysis: Analysis, sent_by: str) -> Kill | None:
    """Send SIGKILL to one worker that works on the analysis and return what was done, or None when there is none."""
    running = Chunk.objects.filter(analysis=analysis, finished_at=None).exclude(pid=None)
    for chunk in running.order_by("started_at"):
        killed = kill_in_chunk(chunk, sent_by)
        if killed:
            return killed
    return None


def kill_in_chunk(chunk: Chunk, sent_by: str) -> Kill | None:
    """Send SIGKILL to the worker of one chunk if it is in the middle of it."""
    pid, attempt = chunk.pid, chunk.attempt
    if pid is None or not is_worker(pid):
        return None
    with stopped(pid) as there:
        chunk.refresh_from_db()
        still_at_it = chunk.finished_at is None and (chunk.pid, chunk.attempt) == (pid, attempt)
        if not (there and still_at_it and is_worker(pid)):
            return None
        os.kill(pid, signal.SIGKILL)
    # Written after the kill: a worker held still in its commit would keep SQLite's one write lock from this row.
    return Kill.objects.create(chunk=chunk, attempt=attempt, worker=chunk.worker, pid=pid, sent_by=sent_by)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[bool]:
    """Hold a process still for the length of the block; yields False when it is gone or not ours."""
    try:
        os.kill(pid, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def is_worker(pid: int) -> bool:
    """Return whether the process calls itself a worker of jobsup (Linux; elsewhere nothing is killed)."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return title.decode(errors="replace").startswith(TITLE)
