"""The entry point of a worker process and its loop: receive a hand of keys, run them one by one, report.

A worker decides nothing about other workers and never touches the supervisor's affairs. What a key means is the
runner's business.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import importlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from types import FrameType
from typing import NoReturn

from spawnpool.begun import Notes, Page
from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.card import WorkerCard
from spawnpool.errors import LaneLost, SourceCrowded, SourceUnavailable
from spawnpool.lanes import Hand, WorkerLane
from spawnpool.limits import RELOADABLE
from spawnpool.logfile import LogFile
from spawnpool.memory import rss_bytes
from spawnpool.pools import encode
from spawnpool.process import die_with_parent, keep_only
from spawnpool.reports import Kind
from spawnpool.signals import reset_worker_signals
from spawnpool.source import REST_INTERVAL_S, Runner
from spawnpool.states import ExitCode
from spawnpool.titles import set_worker_title

DEAF_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""What the service manager says to the supervisor alone; a job must not be able to speak in its name."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the workers of one supervisor are.

    Args:
        program: the first word of the process titles.
        runner: dotted name of the runner's factory: `factory(number, reports, *integers)`.
        log_file: what descriptors 1 and 2 are, if it is to be opened anew after a rotation; else "".
    """

    program: str
    runner: str
    log_file: str = ""


class _Leave(Exception):
    """It is time to go: SIGTERM arrived while nothing was being done, or a job spoiled this process."""


def worker_main(
    spec: WorkerSpec,
    number: int,
    pool: str,
    parent_pid: int,
    integers: tuple[int, ...],
    queue: SimpleQueue[Hand | None],
    permits: Semaphore,
    writer: Connection,
    card_end: Connection,
    page: Page,
) -> None:
    """Be worker `number` of a pool until asked to leave; the first thing that runs in a spawned process."""
    die_with_parent(parent_pid)
    lane, card, notes = WorkerLane(queue, permits, writer), WorkerCard(card_end), Notes(page)
    keep_only({*lane.fds(), card.fileno()})
    worker = Worker(spec, number, pool, lane, card, notes)
    reset_worker_signals(worker.on_term, worker.on_look)
    worker.note_crashes()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for name in DEAF_VARIABLES:
        os.environ.pop(name, None)
    set_worker_title(spec.program, number, pool, "booting")
    _end(worker.main(integers))


def _end(code: int) -> NoReturn:
    """End this process without taking the interpreter down, which costs 0.1 s of a core that a successor needs.

    What was registered for the end is done; threads that a job left running are not waited for.
    """
    try:
        if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
            logging.shutdown()  # of all that, nothing else is sure to come back while threads run on
        else:
            atexit._run_exitfuncs()  # noqa: SLF001  # the public ways to it all take the interpreter down
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


class Worker:
    """One worker's life after its descriptors and signals are in order; also its runner's `Reports`."""

    def __init__(
        self, spec: WorkerSpec, number: int, pool: str, lane: WorkerLane, card: WorkerCard, notes: Notes
    ) -> None:
        self._spec, self._number, self._pool, self._lane, self._card = spec, number, pool, lane, card
        self._notes = notes
        self._pid = os.getpid()
        self._runner: Runner | None = None
        self._running: int | None = None
        self._worked = False
        self._said_at = time.monotonic()
        self._bounds = NO_BOUNDS
        self._log_opened = 0
        self._epoch = 0
        self._waiting = False
        self._asked_to_leave = False
        self._settled_at = time.monotonic()

    def on_term(self, _signum: int, _frame: FrameType | None) -> None:
        """Leave now if nothing is being done, else after the job at hand."""
        self._asked_to_leave = True
        if self._waiting:
            raise _Leave

    def on_look(self, _signum: int, _frame: FrameType | None) -> None:
        """Do what the card says; raises in the job that is running if it is that one's turn to be interrupted."""
        key, why, reopened = self._card.read()
        if reopened != self._log_opened:
            self._log_opened = reopened
            LogFile(Path(self._spec.log_file)).reopen()
            if self._runner is not None:
                self._runner.log_reopened()
        if self._runner is not None and key == self._running and why is not Interrupt.NONE:
            self._runner.interrupt(why)

    def alive(self) -> None:
        """Say that this worker is well, if it has not said so for a while."""
        if time.monotonic() >= self._said_at + REST_INTERVAL_S:
            self._said_at = time.monotonic()
            self._lane.report(Kind.ALIVE)

    def note_crashes(self) -> None:
        """Have every crash, and SIGABRT, leave the Python stacks on the card."""
        faulthandler.enable(self._card.fileno())

    def asked_to_end(self) -> bool:
        """Tell the job that is running whether its cancellation was asked for."""
        key, why, _ = self._card.read()
        return key == self._running and why is Interrupt.CANCEL

    def main(self, integers: tuple[int, ...]) -> int:
        """Boot, work, leave; return the exit code."""
        try:
            runner = self._runner = self._boot(integers)
        except SourceCrowded as error:
            return self._crowded(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told to the supervisor
            why = (str(error).strip().splitlines() or [""])[0]
            self._lane.report(Kind.FAILED, text=f"{type(error).__name__}: {why}")  # first: stderr may be closed
            traceback.print_exc()
            return ExitCode.BOOT_FAILED
        try:
            with contextlib.suppress(_Leave):
                self._serve(runner)
            runner.close()
            self._lane.report(Kind.BYE)
        except LaneLost:
            return ExitCode.LANE_LOST
        except SourceCrowded as error:
            return self._crowded(error)
        except SourceUnavailable as error:
            sys.stderr.write(f"worker {self._number} (pid {self._pid}) leaves: {error}\n")
            return ExitCode.NOT_RECORDED
        return ExitCode.OK

    def _crowded(self, error: SourceCrowded) -> int:
        self._lane.report(Kind.FAILED, text=str(error))
        return ExitCode.CROWDED

    def settled(self, pk: int) -> None:
        """Report that every key up to `pk` is recorded."""
        self._notes.settle(pk)
        now = time.monotonic()
        took_s, self._settled_at = now - self._settled_at, now
        self._lane.report(Kind.SETTLED, pk, amount=int(took_s * 1e6))

    def _boot(self, integers: tuple[int, ...]) -> Runner:
        module, _, name = self._spec.runner.rpartition(".")
        factory: Callable[..., Runner] = getattr(importlib.import_module(module), name)
        runner = factory(self._number, self, *integers)
        limits = runner.limits()
        for index, limit in enumerate(RELOADABLE):
            if limit in limits:
                self._lane.report(Kind.LIMIT, int(limits[limit] * 1000), amount=index)
        for piece in encode(runner.pools()):
            self._lane.report(Kind.POOLS, text=piece)
        for flaw in runner.flaws():
            self._lane.report(Kind.FLAW, text=flaw)
        self._lane.report(Kind.READY)
        return runner

    def _serve(self, runner: Runner) -> None:
        while not self._asked_to_leave:
            message = self._wait(runner)
            if message is None:
                return
            epoch, pks = message
            if epoch == self._epoch:  # an older hand was taken back before it was read
                self._play(runner, pks)

    def _wait(self, runner: Runner) -> Hand | None:
        """Return the next hand, or None when it is time to leave."""
        idle_s = 0.0
        idle = not self._lane.has_more()
        if idle:
            set_worker_title(self._spec.program, self._number, self._pool, "idle")
        try:
            self._waiting = True
            while not self._asked_to_leave:
                message = self._lane.receive(REST_INTERVAL_S)
                if not isinstance(message, bool):
                    return message
                self._waiting = False
                idle_s += REST_INTERVAL_S
                self._lane.report(Kind.ALIVE, self._epoch, amount=1)
                runner.rest(idle_s)
                self._waiting = True
        except _Leave:
            pass
        finally:
            self._waiting = False
            if idle:
                self._settled_at = time.monotonic()
        return None

    def _play(self, runner: Runner, pks: list[int]) -> None:
        """Run the keys of one hand in order, as far as they may still be started."""
        runner.load(pks)
        last = len(pks) - 1
        for index, pk in enumerate(pks):
            if self._asked_to_leave:
                break
            bounds = runner.bounds(pk)
            if self._is_too_large_for(bounds):
                self._flush(runner)
                self._leave_spoiled(f"it has more memory already than {runner.describe(pk)} may have")
            if not self._lane.may_start():
                self._revoked(runner)
                return
            if bounds != self._bounds:
                self._bounds = bounds
                self._lane.report(Kind.BOUNDS, text=bounds.encode())
            self._notes.begin(pk)
            self._running = pk  # before anybody can want to interrupt it
            self._lane.begun(self._card.begin(pk), pk)
            set_worker_title(self._spec.program, self._number, self._pool, runner.describe(pk))
            runner.run(pk)
            self._running = None
            if os.getpid() != self._pid:
                os._exit(ExitCode.WALKED_ON)  # a job's forked child came back; the job's own process goes on
            self._lane.assert_intact()
            runner.tidy()
            self._worked = True
            if runner.must_flush(more=index < last or self._lane.has_more()):
                self._flush(runner)
        if self._asked_to_leave:
            self._flush(runner)

    def _flush(self, runner: Runner) -> None:
        self._lane.report(Kind.RETURNED)
        if spoiled := runner.flush():
            self._leave_spoiled(spoiled)

    def _leave_spoiled(self, why: str) -> NoReturn:
        """Let a fresh process take over; what was not begun goes to others."""
        self._lane.report(Kind.SPOILED, text=why)
        raise _Leave

    def _is_too_large_for(self, bounds: Bounds) -> bool:
        """Tell whether earlier keys left more memory in use than the next one may have: it would be blamed for that."""
        if bounds.memory_bytes is None or not self._worked:
            return False
        return (rss_bytes(self._pid) or 0) > bounds.memory_bytes

    def _revoked(self, runner: Runner) -> None:
        """Drop everything of this epoch: the supervisor sends no more until it hears so."""
        self._flush(runner)
        self._epoch += 1
        self._lane.report(Kind.EMPTIED, amount=self._epoch)
