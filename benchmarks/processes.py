"""Processes of a benchmark: the supervisor as a child, and what /proc says of CPU and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support import processes_of

ROOT = Path(__file__).resolve().parent.parent
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@contextmanager
def supervisor(*options: str, module: str = "django") -> Iterator[subprocess.Popen[str]]:
    """Run `jobsupervisor` with two workers; drained afterwards.

    Args:
        options: of the command.
        module: what runs it, as `python -m` has it.
    """
    command = [sys.executable, "-m", module, "jobsupervisor", *options]
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


class Memory(NamedTuple):
    """The memory of a process, in MB: what is resident, and its share of that (what it shares is divided)."""

    rss_mb: float
    pss_mb: float


def memory(pid: int) -> Memory:
    """Return the memory of a process."""
    kb = dict.fromkeys(("Rss", "Pss"), 0)
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name in kb:
            kb[name] = int(rest.split()[0])
    return Memory(kb["Rss"] / 1024, kb["Pss"] / 1024)


def cpu_s(pid: int, *, of_dead_children: bool = False) -> float:
    """Return how much time of a core a process has used; 0 if it is gone.

    Args:
        pid: of the process.
        of_dead_children: whether to add what the children had used that it has collected.
    """
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11 : 15 if of_dead_children else 13])) * TICK_S
    return 0.0


class Others:
    """How much CPU everybody else uses on this machine meanwhile: whether a figure was disturbed."""

    def __init__(self) -> None:
        self._begun = self._look()

    def cores(self) -> float:
        """Return how many cores were busy with other work since the beginning, on average."""
        at_s, all_s, own_s = (now - then for now, then in zip(self._look(), self._begun, strict=True))
        return max(0.0, all_s - own_s) / at_s

    def _look(self) -> tuple[float, float, float]:
        fields = [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        busy_s = (sum(fields) - fields[3] - fields[4]) * TICK_S  # without idle and iowait, proc(5)
        own = [os.getpid(), *processes_of(os.getpid())]
        return time.monotonic(), busy_s, sum(cpu_s(pid, of_dead_children=True) for pid in own)


def end(processes: Iterable[subprocess.Popen[bytes]], grace_s: float) -> None:
    """Ask processes to end, each the leader of a session; kill what is left of their sessions after a while."""
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            process.terminate()
    give_up_at = time.monotonic() + grace_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, give_up_at - time.monotonic()))
    sessions = {process.pid for process in processes}
    for pid in processes_of(os.getpid()):  # with their orphans, which are ours: see `tests.support.become_subreaper`
        with suppress(ProcessLookupError):
            if os.getsid(pid) in sessions:
                os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.wait()
