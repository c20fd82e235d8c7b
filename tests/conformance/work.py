"""One round of the worker under examination: started, watched at the gate, waited for, and nothing of it left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from tests.conformance import journal

ROUND_S = 150.0  # for a round of a worker; one that takes longer is killed
LEAVE_S = 20.0  # for a worker to go when it is told to
POLL_S = 0.02


RESTARTS_MAX = 5


def work(while_running: Callable[[], None]) -> str:
    """Have a worker run what is queued; one that fails is started again as long as it gets anything done.

    Args:
        while_running: called once while the task `gate` runs.

    Returns:
        How the worker ended, in words, each time.
    """
    if not os.environ["CONFORMANCE_WORKER"]:
        return "no worker: enqueue() runs the task"
    ends = []
    for _ in range(RESTARTS_MAX):
        before = journal.size()
        code, words = _work_once(while_running)
        ends.append(words)
        if code == 0 or journal.size() == before:
            break
    return "; ".join(ends)


def _work_once(while_running: Callable[[], None]) -> tuple[int, str]:
    """Return the worker's exit code, 0 if it was ended by us, and the words for it."""
    command = os.environ["CONFORMANCE_WORKER"]
    quiet_s = float(os.environ.get("CONFORMANCE_QUIET_S") or 0)
    with (journal.directory() / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            shlex.split(command.replace("{python}", sys.executable)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        return _watch(process, quiet_s, while_running)
    finally:
        with suppress(ProcessLookupError):  # children that outlived it, too
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _watch(process: subprocess.Popen[bytes], quiet_s: float, while_running: Callable[[], None]) -> tuple[int, str]:
    """Wait for the end of the worker, or for its silence and then the end."""
    gate = journal.directory() / "open"
    now = time.monotonic()
    deadline, size, changed = now + ROUND_S, 0, now
    while process.poll() is None:
        now = time.monotonic()
        if journal.size() != size:
            size, changed = journal.size(), now
            if not gate.exists() and journal.read("began"):
                while_running()
                gate.touch()
        if quiet_s and now > changed + quiet_s:
            process.terminate()
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                return 0, f"killed: it did not leave within {LEAVE_S:g} s after SIGTERM"
            return 0, f"silent for {quiet_s:g} s, then ended by SIGTERM with {process.returncode}"
        if now > deadline:
            return 0, f"killed after {ROUND_S:g} s"
        time.sleep(POLL_S)
    return process.returncode, f"ended by itself with {process.returncode}"
