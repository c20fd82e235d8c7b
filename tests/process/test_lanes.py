"""The lane down to a worker: never blocks whoever sends, and keeps its order."""

from __future__ import annotations

import fcntl
import os
import threading
from typing import TYPE_CHECKING, Any

from spawnpool.lanes import STOP, Lane, WorkerLane
from spawnpool.reports import Kind

if TYPE_CHECKING:
    import pytest


def test_m4_a_lane_without_room_takes_the_rest_later_and_in_order() -> None:
    """As behind a worker that is stopped: nothing blocks, is lost, or changes its place."""
    lane = Lane()
    queue, permits, _ = lane.worker_ends()
    writer: Any = queue._writer  # type: ignore[attr-defined]
    fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, 4096)
    keys = [2**62 + n for n in range(2000)]
    lane.send(1, keys)
    lane.send(2, keys[:1])
    lane.stop()
    assert permits.get_value() == 2001
    found: list[Any] = []
    while not found or found[-1] is not STOP:
        lane.go_on()
        found.append(queue.get())
    lane.close()
    assert [pk for epoch, pks in found[:-1] for pk in pks if epoch == 1] == keys
    assert found[-2:] == [(2, keys[:1]), STOP]


def test_no_report_overtakes_the_begin_that_it_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread is about to write, another one reports that the key is recorded."""
    lane = Lane()
    worker = WorkerLane(*lane.worker_ends())
    write = os.write

    def late(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        other = threading.Thread(target=worker.report, args=(Kind.SETTLED, 7))
        other.start()
        other.join()
        return write(fd, data)

    worker.begun(1, 7)
    monkeypatch.setattr(os, "write", late)
    worker.report(Kind.RETURNED)
    told = [Kind(report.kind) for report in lane.read()]
    assert told == [Kind.STARTED, Kind.SETTLED, Kind.STARTED, Kind.RETURNED]
    worker.report(Kind.ALIVE)
    assert [Kind(report.kind) for report in lane.read()] == [Kind.ALIVE]
    lane.close()
