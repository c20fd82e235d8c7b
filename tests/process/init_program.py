"""What the tests of process 1 and of the resource tracker run in a fresh Python: one function each, by its name.

Each prints what it found as JSON.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spawnpool import reaper
from spawnpool.process import WorkerProcess, keep_only, spawn_context
from tests.support import become_subreaper, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

TRACKER: Any = resource_tracker._resource_tracker
ORPHANS = 5
TIMEOUT_S = 60


def processes() -> dict[int, tuple[str, int]]:
    """Return the state and the parent of every process that we can see."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                found[int(folder.name)] = state, int(parent)
    return found


def zombies() -> list[int]:
    """Return our dead children that nobody has collected."""
    return sorted(pid for pid, (state, parent) in processes().items() if state == "Z" and parent == os.getpid())


def fork(what: Callable[[], object], code: int = 0) -> int:
    """Fork a child that does something and ends with a code."""
    pid = os.fork()
    if pid == 0:
        what()
        os._exit(code)
    return pid


def double_fork(orphans: int) -> None:
    """Leave orphans that end by themselves."""
    for _ in range(orphans):
        fork(lambda: None)


def as_a_worker(parent: int, code: int) -> None:
    """Leave an orphan that ends once its parent has, and one that goes on; end with a code."""
    me = os.getpid()

    def outlive() -> None:
        while os.getppid() == me:
            time.sleep(0.01)

    assert os.getppid() == parent
    keep_only(set())  # as real workers do: an orphan must not hold the tracker's pipe
    fork(outlive)
    fork(lambda: time.sleep(TIMEOUT_S))
    os._exit(code)


def children_of_init() -> dict[str, object]:
    """Have dead children that somebody waits for, and orphans behind them; one that lives on disturbs nobody."""
    known = [fork(lambda: None, 3), fork(lambda: os.kill(os.getpid(), signal.SIGKILL))]
    eventually(lambda: zombies() == sorted(known), TIMEOUT_S, "two dead children")
    early = reaper.reap_strangers(known)
    known.append(fork(lambda: double_fork(ORPHANS), 7))
    eventually(lambda: len(zombies()) == ORPHANS + 3, TIMEOUT_S, "the orphans", zombies)
    reaped = reaper.reap_strangers(known)
    left = zombies()
    again = reaper.reap_strangers(known)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in known]
    double_fork(2)  # nobody knows these, and nobody stands before them
    eventually(lambda: len(zombies()) == 2, TIMEOUT_S, "two more", zombies)
    return {
        "init": reaper.is_init(),
        "early": early,
        "reaped": len(set(reaped) - set(known)),
        "left": left == sorted(known),
        "again": again,
        "codes": codes,
        "last": len(reaper.reap_strangers(())),
        "none": [reaper.reap_strangers(()), zombies()],
    }


def workers_of_init() -> dict[str, object]:
    """Have a real worker that leaves orphans, beside the resource tracker."""
    worker = WorkerProcess(as_a_worker, (os.getpid(), 7), "worker")
    known = {worker.pid, TRACKER._pid}
    reaped: list[int] = []

    def one_reaped() -> bool:
        reaped.extend(reaper.reap_strangers(known))
        return bool(reaped)

    eventually(one_reaped, TIMEOUT_S, "the orphan's end", processes)
    eventually(lambda: worker.pid in zombies(), TIMEOUT_S, "the worker's end")
    ending = worker.reap()
    assert ending is not None
    worker.close()
    tracker = TRACKER._pid
    alive = processes()[tracker][0] != "Z"
    reaper.stop_resource_tracker()
    # Left are we and the orphan that goes on, which is a child of ours now.
    left = [parent for pid, (_, parent) in processes().items() if pid != os.getpid()]
    return {"code": ending.code, "reaped": len(reaped), "alive": alive, "left": left}


def subreaper() -> dict[str, object]:
    """Ask to be a subreaper."""
    before = reaper.is_init()
    become_subreaper()
    return {"before": before, "after": reaper.is_init()}


# -- the resource tracker ---------------------------------------------------------------------------------------------


def stop() -> dict[str, object]:
    """Stop the tracker, and tell what is left of it: its process, its descriptor, its entry; and how long it took."""
    fd, pid, began = TRACKER._fd, TRACKER._pid, time.monotonic()
    reaper.stop_resource_tracker()
    return {
        "process": pid in processes(),
        "open": fd is not None and os.path.lexists(f"/proc/self/fd/{fd}"),
        "entry": [TRACKER._fd, TRACKER._pid],
        "within": time.monotonic() - began < TIMEOUT_S / 2,
    }


def never_ran() -> dict[str, object]:
    """Stop what never was."""
    return stop()


def ran() -> dict[str, object]:
    """Stop it in the usual case, and once more."""
    resource_tracker.ensure_running()
    return stop() | stop()


def was_killed() -> dict[str, object]:
    """Stop what is dead already."""
    resource_tracker.ensure_running()
    os.kill(TRACKER._pid, signal.SIGKILL)
    eventually(lambda: zombies() == [TRACKER._pid], TIMEOUT_S, "its end")
    return stop()


def was_collected() -> dict[str, object]:
    """Stop what is dead and has been collected by somebody."""
    resource_tracker.ensure_running()
    os.kill(TRACKER._pid, signal.SIGKILL)
    os.waitpid(TRACKER._pid, 0)
    return stop()


def is_parents() -> dict[str, object]:
    """Stop one that belongs to our parent, as in a spawned process: it is left alone."""
    resource_tracker.ensure_running()
    pid, TRACKER._pid = TRACKER._pid, None
    told = stop()
    entry = told["entry"] != [None, None]
    TRACKER._pid = pid
    return stop() | {"kept": told["open"] and entry and not zombies()}


def is_held() -> dict[str, object]:
    """Stop one whose pipe a stranger holds: it is left alone, and ends with the stranger."""
    resource_tracker.ensure_running()
    pid = TRACKER._pid
    stranger = fork(lambda: time.sleep(TIMEOUT_S))
    reaper.TRACKER_WAIT_S = 0.1
    told = stop()
    os.kill(stranger, signal.SIGKILL)
    os.waitpid(stranger, 0)
    os.waitpid(pid, 0)
    return told


def is_used_again() -> dict[str, object]:
    """Use it after it was stopped: there is a new one, and it works."""
    resource_tracker.ensure_running()
    first = TRACKER._pid
    reaper.stop_resource_tracker()
    semaphore = spawn_context().Semaphore(0)
    second = TRACKER._pid
    alive = processes().get(second, "none")[0] != "Z"
    del semaphore
    return stop() | {"new": alive and second != first}


class Slow:
    """Takes its time on the way into a queue."""

    def __reduce__(self) -> str | tuple[Any, ...]:
        time.sleep(0.2)
        return Slow, ()


def queue_just_closed() -> dict[str, object]:
    """Stop it while the feeder of a queue that was just closed still holds the queue's semaphores."""
    queue = spawn_context().Queue()
    circle: list[object] = [queue]
    circle.append(circle)
    queue.put(Slow())
    queue.cancel_join_thread()
    queue.close()
    del queue, circle
    return stop()


def main() -> None:
    """Run the function that is named, and what runs at the end of a program; print what was found."""
    answer = globals()[sys.argv[1]]()
    atexit._run_exitfuncs()  # else there would be nobody left to tell what multiprocessing did in it
    sys.stdout.write(json.dumps(answer | {"afterwards": TRACKER._pid}) + "\n")
