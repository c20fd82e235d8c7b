"""What the supervisor holds of one worker."""

from __future__ import annotations

import os
import time

from spawnpool.begins import Begins
from spawnpool.begun import Page
from spawnpool.card import Card
from spawnpool.lanes import Lane
from spawnpool.memory import OomLedger, OomWatch
from spawnpool.pools import who
from spawnpool.process import Exit, WorkerProcess
from spawnpool.reports import Report
from spawnpool.worker import WorkerSpec, worker_main


class Hands:
    """What the shell holds of one worker: its process, its lane, its card, and a watch on its memory.

    Args:
        spec: what the worker is.
        number: its place.
        integers: what its runner is started with.
        ledger: the books on processes that the kernel ended for want of memory.
        pool: its pool; "" where there is only one.
        page: where it notes what has begun.

    Raises:
        OSError: the system is out of processes or descriptors.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        number: int,
        integers: tuple[int, ...],
        ledger: OomLedger,
        pool: str = "",
        page: Page = None,
    ) -> None:
        self.number, self.pool, self.page = number, pool, page
        self.deaf = False  # its lane is not read any more
        self.killed = False  # we sent SIGKILL
        self.ending: Exit | None = None  # it is dead, and its end waits to be accounted for
        self._begins = Begins()
        self.card = Card()
        self.lane = Lane()
        try:
            args = (spec, number, pool, os.getpid(), integers, *self.lane.worker_ends(), self.card.worker_end(), page)
            self.process = WorkerProcess(worker_main, args, f"{spec.program}-worker-{number}")
        except BaseException:
            self.lane.close()
            self.card.close()
            raise
        self.lane.spawned()
        self.watch = OomWatch(self.process.pid, ledger)

    def who(self) -> str:
        """Return how the worker is called in the log."""
        return who(self.number, self.process.pid, self.pool)

    def has_begun(self) -> bool:
        """Tell whether the worker has begun a key of which `hear` has not told."""
        return self._begins.are_new(self.card.begin())

    def hear(self) -> list[Report]:
        """Return what the worker has reported and begun since the last call, in order.

        Raises:
            BrokenReport: it sent something else.
        """
        begin = self.card.begin()
        return list(self._begins.tell(self.lane.read(), begin, time.monotonic()))

    def close(self) -> None:
        """Throw the lane and the card of a dead worker away."""
        self.lane.close()
        self.card.close()
        self.process.close()
