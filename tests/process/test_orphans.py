"""A worker whose supervisor is gone ends without a word, whatever it is doing and in whichever thread."""

from __future__ import annotations

import select
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from spawnpool.lanes import Lane, WorkerLane
from spawnpool.process import spawn_context
from spawnpool.reports import Kind
from spawnpool.worker import Worker, WorkerSpec

if TYPE_CHECKING:
    from collections.abc import Callable


class Boots:
    """A runner that a worker tells of while it boots."""

    def __init__(self, number: int, reports: object) -> None:
        self.limits = dict
        self.pools = list
        self.flaws = list


def reports(lane: WorkerLane) -> None:
    """Report as between two jobs."""
    lane.report(Kind.ALIVE)


def reports_in_a_thread(lane: WorkerLane) -> None:
    """Report as the recorder's helper thread does."""
    thread = Thread(target=lane.report, args=[Kind.SETTLED])
    thread.start()
    thread.join()


def reports_while_it_boots(lane: WorkerLane) -> None:
    """Boot."""
    boots: Any = WorkerSpec("test", f"{__name__}.{Boots.__name__}")
    nothing: Any = None
    Worker(boots, 1, "", lane, nothing, nothing).main(())


def waits_for_work(lane: WorkerLane) -> None:
    """Wait for the next hand."""
    lane.receive(10)


def orphan(doing: Callable[[WorkerLane], None], queue: Any, permits: Any, writer: Any) -> None:
    """Do something once the supervisor's ends are closed; the exit code says whether it went on."""
    lane = WorkerLane(queue, permits, writer)
    gone = select.poll()
    gone.register(writer.fileno(), 0)
    assert gone.poll(10_000), "the other end is still open"
    try:
        doing(lane)
    finally:
        raise SystemExit(99)


@pytest.mark.parametrize("doing", [reports, reports_in_a_thread, reports_while_it_boots, waits_for_work])
def test_s5_the_end_of_the_supervisor_is_no_error_of_its_workers(
    doing: Callable[[WorkerLane], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its ends of the lanes are closed an instant before the kernel ends the workers; here they have that instant."""
    lane = Lane()
    queue: Any
    queue, permits, writer = lane.worker_ends()
    worker = spawn_context().Process(target=orphan, args=(doing, queue, permits, writer))
    worker.start()
    lane.spawned()
    queue._writer.close()
    lane._reader.close()
    worker.join(30)
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""
    lane.close()
