"""The two lanes between a supervisor and one worker, thrown away with that worker.

Down: a queue of multiprocessing of hands, each an epoch and a list of keys, and a semaphore whose value is the number
of keys that may still be started. A worker takes a permit before each start, so the supervisor can take keys back
from the end of the lane by taking their permits, at any moment, whatever the worker is doing, and a key is either
started or taken back but never both. Up: a one-way pipe of `reports`.

The queue is a `SimpleQueue`, written by the one who puts; a `Queue` has a thread for that. A put could block where the
pipe is full, so a message is put only while there is room for the largest one, and waits here otherwise.

Nothing here is shared between workers: a reader killed inside `Queue.get` keeps the queue's lock for ever.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Semaphore
from typing import Any, NoReturn

from spawnpool.errors import BrokenReport, LaneLost
from spawnpool.process import spawn_context
from spawnpool.reports import AMOUNT_MAX, Kind, Report, decode, encode
from spawnpool.states import ExitCode

STOP = None
"""The message that asks a worker to leave."""

Hand = tuple[int, list[int]]
_READ_BYTES = 65536

HAND_KEYS_MAX = 300
"""How many keys one message holds: at most 12 bytes each as a pickle, and so less than PIPE_BUF (4096 on Linux)."""


class Lane:
    """The supervisor's ends of one worker's lanes."""

    def __init__(self) -> None:
        context = spawn_context()
        self._queue: SimpleQueue[Hand | None] = context.SimpleQueue()
        self._room = select.poll()  # a pipe that is writable takes PIPE_BUF bytes whole and at once
        self._room.register(self._queue._writer.fileno(), select.POLLOUT)  # type: ignore[attr-defined]  # noqa: SLF001
        self._late: deque[Hand | None] = deque()  # messages for which the pipe had no room
        self._permits = context.Semaphore(0)
        self._reader, self._writer = context.Pipe(duplex=False)
        os.set_blocking(self._reader.fileno(), False)
        self._buffer = bytearray()
        self.ended = False
        """The worker's end is closed; nothing more will come."""

    def worker_ends(self) -> tuple[SimpleQueue[Hand | None], Semaphore, Connection]:
        """Return what the worker is spawned with."""
        return self._queue, self._permits, self._writer

    def spawned(self) -> None:
        """Close the worker's end of the pipe here, once the worker has its own."""
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the worker reports."""
        return self._reader.fileno()

    def send(self, epoch: int, pks: Sequence[int]) -> None:
        """Put keys on the lane; their permits come first, or the worker would think them revoked."""
        for _ in pks:
            self._permits.release()
        for start in range(0, len(pks), HAND_KEYS_MAX):
            self._late.append((epoch, list(pks[start : start + HAND_KEYS_MAX])))
        self.go_on()

    def stop(self) -> None:
        """Ask the worker to leave after what is already on the lane."""
        self._late.append(STOP)
        self.go_on()

    def go_on(self) -> None:
        """Put what waits on the lane, as far as there is room; never blocks."""
        while self._late and self._room.poll(0):
            self._queue.put(self._late.popleft())

    def take_back(self, most: int) -> int:
        """Revoke up to `most` keys from the end of the lane and return how many were still unstarted."""
        taken = 0
        while taken < most and self._permits.acquire(block=False):
            taken += 1
        return taken

    def unstarted(self) -> int:
        """Return how many sent keys no start was made with; exact once the worker is dead."""
        return self._permits.get_value()

    def read(self) -> list[Report]:
        """Return the reports that have arrived, without waiting.

        Raises:
            BrokenReport: the worker sent something else.
        """
        try:
            while data := os.read(self._reader.fileno(), _READ_BYTES):
                self._buffer += data
                if len(data) < _READ_BYTES:
                    break
            else:
                self.ended = True
        except BlockingIOError:
            pass
        except OSError as error:
            raise BrokenReport(f"the lane cannot be read: {error.strerror}") from error
        return decode(self._buffer)

    def close(self) -> None:
        """Throw both lanes away without waiting for anything that is still on them."""
        if not self._writer.closed:
            self._writer.close()
        self._reader.close()
        self._queue.close()


class WorkerLane:
    """The worker's ends of its lanes.

    Args:
        queue: hands of keys from the supervisor.
        permits: one for each key that may still be started.
        writer: where reports go.
    """

    def __init__(self, queue: SimpleQueue[Hand | None], permits: Semaphore, writer: Connection) -> None:
        self._queue, self._permits, self._writer = queue, permits, writer
        # Both pipe ends come along with a queue; its own interface neither polls nor closes just one.
        inbound: Any = queue._reader  # type: ignore[attr-defined]  # noqa: SLF001
        self._inbound: Connection = inbound
        queue._writer.close()  # type: ignore[attr-defined]  # noqa: SLF001
        self._arrivals = select.poll()
        self._arrivals.register(self._inbound.fileno(), select.POLLIN)
        self._fd = writer.fileno()
        self._fds = (self._inbound.fileno(), self._fd)
        self._begun = self._told = (0, 0)  # how many keys have begun, and the latest: as it is, and as was reported
        self._identities = [_identity(fd) for fd in self._fds]
        self._closures = select.poll()
        for fd in self._fds:
            self._closures.register(fd, 0)

    def fds(self) -> tuple[int, int]:
        """Return the descriptors of both lanes; a worker holds no others above 2 but its card's."""
        return self._fds

    def receive(self, timeout_s: float) -> Hand | bool | None:
        """Wait for the next message: a hand, STOP (None), or False when the time is over.

        Ends this process where the supervisor is gone.

        Raises:
            LaneLost: a job replaced the descriptor; nothing was read.
        """
        self._assert_same(0)
        if not self._arrivals.poll(timeout_s * 1000):
            return False
        try:
            return self._queue.get()
        except EOFError:
            _end_without_supervisor()

    def has_more(self) -> bool:
        """Tell whether another message is already there."""
        return bool(self._arrivals.poll(0))

    def may_start(self) -> bool:
        """Take the permit for the next key; False when that key was taken back."""
        return self._permits.acquire(block=False)

    def begun(self, count: int, key: int) -> None:
        """Take note of a key that begins, to be reported before anything else is: nobody waits for that alone.

        Args:
            count: how many have begun, this one included.
            key: which one.
        """
        self._begun = count, key

    def report(self, kind: Kind, key: int = 0, amount: int = 0, text: str = "") -> None:
        """Send one report; atomic, so that a second thread of the worker may report too.

        Ends this process where the supervisor is gone.

        Raises:
            LaneLost: a job closed or replaced the descriptor; nothing was written.
        """
        self._assert_same(1)
        data, begun = encode(kind, key, amount, text), self._begun
        if begun != self._told:
            data = encode(Kind.STARTED, begun[1], begun[0] & AMOUNT_MAX) + data
        try:
            os.write(self._fd, data)
        except BrokenPipeError:
            _end_without_supervisor()
        # Only once it is written: another thread may report in between. That both say it does no harm.
        self._told = begun

    def assert_intact(self) -> None:
        """Check that both descriptors are still open, by one cheap system call.

        Whether they are the same is checked before something is read or written.

        Raises:
            LaneLost: a job closed one.
        """
        if any(event & select.POLLNVAL for _, event in self._closures.poll(0)):
            raise LaneLost

    def _assert_same(self, which: int) -> None:
        try:
            if _identity(self._fds[which]) == self._identities[which]:
                return
        except OSError:
            pass
        raise LaneLost


def _end_without_supervisor() -> NoReturn:
    """End at once, whatever is being done and in whichever thread.

    The supervisor's ends are closed an instant before the kernel ends its workers. As an exception that would become
    the failure of whoever reports: of the boot, or of the job at hand.
    """
    os._exit(ExitCode.OK)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
