"""The loop around the machine: waits for everything with one selector, brings facts in, performs what is decided.

It owns the processes, the lanes and the source; it decides nothing itself. It has no threads and no sleep: only the
selector waits, with a computed time-out on the monotonic clock.
"""

from __future__ import annotations

import logging
import os
import select
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from spawnpool import events as e
from spawnpool.begun import BegunFile
from spawnpool.clocks import Suspensions
from spawnpool.control import ControlServer
from spawnpool.crew import Crew
from spawnpool.dealings import Dealings
from spawnpool.drain import DrainReport
from spawnpool.errors import NotMainThread, SourceUnavailable
from spawnpool.front import Front
from spawnpool.hooks import before_check
from spawnpool.limits import Limits
from spawnpool.machine import Machine
from spawnpool.notify import ServiceManager
from spawnpool.picture import tell_everything
from spawnpool.pools import Pool
from spawnpool.reaper import stop_resource_tracker
from spawnpool.signals import SignalTray
from spawnpool.source import Source
from spawnpool.states import StopReason
from spawnpool.titles import set_supervisor_title
from spawnpool.worker import WorkerSpec

LANE_PAUSE_S = 0.005
"""How long reports may wait while every worker has enough to do: fewer, fuller turns of the loop."""

STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})

LAST_ACCOUNTS_S = 10.0
"""How long a stopping supervisor tries to hand its last facts to a source that cannot be reached."""


class Supervisor:
    """Keeps the workers of its pools alive and fed until it is told to stop.

    Args:
        source: where the work comes from.
        spec: what the workers are.
        limits: the numbers that bound the pools.
        pools: the pools; one of as many workers as the limits say if none are given.
        name: shown in the process title.
        log: where its sentences go.
        fixed: names of limits that a reload must not change.
        on_workers: told the pids of the living workers whenever one was spawned or died.
        begun_path: where the file of what has begun stands, for the integers of a run; None for without.
        last: the process ends when `run` returns; a signal that comes later must not change its exit code.
        control: where others may ask; None for nowhere.
        manager: the service manager; whoever $NOTIFY_SOCKET names if it is not given.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        source: Source,
        spec: WorkerSpec,
        limits: Limits,
        *,
        pools: Sequence[Pool] = (),
        name: str = "default",
        log: logging.Logger | None = None,
        fixed: frozenset[str] = frozenset(),
        on_workers: Callable[[list[int]], None] | None = None,
        begun_path: Callable[[Sequence[int]], Path] | None = None,
        last: bool = False,
        control: ControlServer | None = None,
        manager: ServiceManager | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._spec, self._name, self._clock = source, spec, name, clock
        self._log = log or logging.getLogger("spawnpool")
        self._on_workers, self._last = on_workers, last
        self._machine = Machine(limits, clock(), fixed, pools, source.title)
        source.serve(self._machine.pools)
        self._dealings = Dealings(source, self._disconnect, self._log, clock, self._answer)
        self._suspensions = Suspensions()
        self._answers: deque[Callable[[], e.Event]] = deque()  # made when their turn has come
        self._selector = selectors.EpollSelector()
        self._crew = Crew(spec, self._selector, self._answers)
        self._control = control
        self._front = Front(
            name,
            self._machine,
            self._crew.hands,
            manager=manager or ServiceManager(),
            control=control,
            backlog=self._dealings.backlog,
            trouble=lambda: self._dealings.trouble,
            log=self._log,
            clock=clock,
        )
        self._integers: tuple[int, ...] = ()
        self._begun_path, self._begun = begun_path, BegunFile()
        self._wakeup: tuple[int, int] | None = None  # descriptor and inode
        self._rest_until = 0.0
        self._resting = False
        self._interrupted = False
        self._early: list[int] = []  # signals that came before the source could be reached
        self._exit_code: int | None = None
        self._report = DrainReport()
        self._performers: dict[type, Callable[[Any], None]] = {
            e.Check: lambda action: self._check(),
            e.Beat: lambda action: self._dealings.beat(self._machine.state.value),
            e.Renew: lambda action: self._renew(),
            e.Spawn: self._spawn,
            e.Send: self._crew.send,
            e.TakeBack: self._crew.take_back,
            e.Stop: self._crew.stop,
            e.Order: self._crew.order,
            e.Listen: lambda action: self._crew.listen(action.wid),
            e.Measure: lambda action: self._crew.measure(action.wid),
            e.LookForOrders: lambda action: self._answer(*self._dealings.orders()),
            e.Abort: lambda action: self._crew.signal(action.wid, signal.SIGABRT),
            e.Kill: lambda action: self._crew.signal(action.wid, signal.SIGKILL),
            e.Claim: lambda action: self._answer(*self._dealings.claim(action, self._machine.holding())),
            e.Serve: lambda action: source.serve(action.pools),
            e.AskEmpty: lambda action: self._answer(*self._dealings.is_empty()),
            e.Release: lambda action: self._dealings.release(action.pks),
            e.Lose: self._lose,
            e.Mark: self._mark,
            e.Say: self._say,
            e.ReloadBegun: lambda action: self._front.reload_begun(),
            e.ReloadEnded: lambda action: self._front.reload_ended(ok=action.ok, words=action.words),
            e.Finish: self._finish,
        }

    def run(self) -> int:
        """Work until told to stop; return the exit code of the process.

        Raises:
            SourceRefused: the source does not let this run begin.
            NotMainThread: called from another thread than the main one.
        """
        if threading.current_thread() is not threading.main_thread():
            raise NotMainThread
        set_supervisor_title(self._spec.program, self._name, "starting")
        with SignalTray(last=self._last) as tray:
            try:
                self._selector.register(tray, selectors.EVENT_READ)
                self._selector.register(self._crew.lanes, selectors.EVENT_READ)
                if self._control is not None:
                    self._selector.register(self._control, selectors.EVENT_READ)
                if self._open(tray):
                    self._loop(tray)
                    self._log.info("stopped")
                return self._exit_code or 0
            finally:
                self._leave()

    # ---- the loop

    def _open(self, tray: SignalTray) -> bool:
        """Begin the run, waiting for a source that cannot be reached yet; False when a stop came first."""
        while True:
            try:
                self._begin()
            except SourceUnavailable as error:
                delay_s = self._dealings.failed(error)
                self._front.waits_for_source(str(error))
            else:
                return True
            if self._stopped_within(delay_s, tray):
                self._log.info("stopped while waiting")
                self._front.finished(DrainReport())
                return False

    def _stopped_within(self, seconds: float, tray: SignalTray) -> bool:
        """Wait; tell whether a stop was asked for meanwhile. What else is asked for has its turn with the loop."""
        until = self._clock() + seconds
        while (left_s := until - self._clock()) > 0:
            self._selector.select(left_s)
            asked, signals = self._front.take(), tray.take()
            if any(isinstance(event, e.StopAsked) for event in asked) or STOPS.intersection(signals):
                return True
            self._answer(*asked)
            self._early += signals
        return False

    def _loop(self, tray: SignalTray) -> None:
        self._feed(e.Tick())
        for signum in self._early:
            self._on_signal(signum)
        while self._exit_code is None:
            # Asked before each wait: what the source told while a statement ran is not to be seen on its descriptor.
            woken = self._heed_wakeup()
            self._watch(self._source.wakeup_fd())
            ready = {key.fd for key, _ in self._selector.select(0.0 if woken else self._timeout_s())}
            called = tray.fileno() in ready
            # Whoever calls is answered from what the workers have begun by then, of which nothing else wakes the loop.
            if called or self._clock() >= self._rest_until:
                self._read_lanes()
            if called:
                for signum in tray.take():
                    self._on_signal(signum)
            if self._crew.any_died(ready):
                self._check()
                self._go_on()
            if self._control is not None and self._control.fileno() in ready:
                for event in self._front.take():
                    self._feed(event)
            if asleep_s := self._suspensions.news():
                self._feed(e.Slept(asleep_s))
            self._feed(e.Tick())
            self._dealings.settle()
            self._go_on()
            self._front.turn()

    def _heed_wakeup(self) -> bool:
        """Claim, and look for cancelled and paused keys, if the source has called; tell whether it has."""
        if not self._source.woken():
            return False
        self._feed(e.Woken())
        self._answer(*self._dealings.orders())
        self._go_on()
        return True

    def _timeout_s(self) -> float:
        """Return how long the loop may wait; lanes that rest are left out of the wait."""
        now = self._clock()
        rest = now < self._rest_until
        if rest != self._resting:
            self._resting = rest
            if rest:
                self._selector.unregister(self._crew.lanes)
            else:
                self._selector.register(self._crew.lanes, selectors.EVENT_READ)
        deadlines = (self._machine.next_deadline(), self._dealings.retry_at(), self._front.next_deadline())
        times = [at for at in deadlines if at is not None]
        if rest:
            times.append(self._rest_until)
        return max(0.0, min(times) - now) if times else 0.0

    def _feed(self, event: e.Event) -> None:
        """Let the machine take in one event, perform what it decides and bring back the answers.

        Never from within an action: what an action finds out waits until the whole decision is performed.
        """
        self._answer(event)
        self._go_on()

    def _go_on(self) -> None:
        while self._answers:
            event = self._answers.popleft()()
            for action in self._machine.step(event, self._clock()):
                self._performers[type(action)](action)
            if isinstance(event, e.Died):
                self._begun.retire(self._crew.forget(event.wid))
                self._tell_workers()

    def _answer(self, *events: e.Event) -> None:
        """Bring events in when their turn has come."""
        self._answers += [partial(_same, event) for event in events]

    # ---- facts from outside

    def _on_signal(self, signum: int) -> None:
        if signum == signal.SIGTERM:
            self._stop(signum, StopReason.NOW if self._interrupted else StopReason.DRAIN)
        elif signum == signal.SIGINT:
            self._interrupted = True
            self._stop(signum, StopReason.DRAIN if self._machine.reason is StopReason.NONE else StopReason.NOW)
        elif signum == signal.SIGQUIT:
            self._stop(signum, StopReason.NOW)
        elif signum == signal.SIGHUP:
            self._feed(e.ReloadAsked())
        elif signum in (signal.SIGTTIN, signal.SIGTTOU):
            self._feed(e.ResizeAsked(+1 if signum == signal.SIGTTIN else -1))
        elif signum in (signal.SIGTSTP, signal.SIGCONT):
            self._feed(e.QuietAsked(signum == signal.SIGTSTP))
        elif signum == signal.SIGUSR1:
            self._crew.reopen_logs(self._log)
        elif signum == signal.SIGUSR2:
            tell_everything(self._log, self._machine, self._crew.hands, owes=self._dealings.owes, now=self._clock())

    def _stop(self, signum: int, reason: StopReason) -> None:
        if reason > self._machine.reason:
            how = "stops now" if reason is StopReason.NOW else "drains"
            self._log.info("%s received: the supervisor %s", signal.Signals(signum).name, how)
        self._feed(e.StopAsked(reason))

    def _read_lanes(self) -> None:
        if self._crew.read_lanes():
            self._go_on()
            if self._machine.unhurried(LANE_PAUSE_S):
                self._rest_until = self._clock() + LANE_PAUSE_S

    def _check(self) -> None:
        """Close every connection of ours, then look at every child; a dead one is collected and accounted for."""
        self._disconnect()
        self._begun.keep()
        self._crew.check()

    # ---- actions

    def _begin(self) -> None:
        """Begin a run; what an earlier one of ours had is somebody else's, or is recovered with this."""
        self._integers = tuple(self._dealings.begin())
        self._begun.close(remove=True)
        self._begun = BegunFile(self._begun_path and self._begun_path(self._integers))

    def _renew(self) -> None:
        try:
            self._begin()
        except SourceUnavailable as error:
            self._answer(e.RenewFailed(self._dealings.failed(error)))

    def _spawn(self, action: e.Spawn) -> None:
        self._disconnect()
        page = self._begun.page(owes=self._dealings.owes)
        if self._crew.spawn(action, self._integers, page):
            self._tell_workers()
        else:
            self._begun.retire(page)

    def _lose(self, action: e.Lose) -> None:
        self._dealings.lose(self._crew.hands[action.wid].process.pid, action.losses)

    def _mark(self, action: e.Mark) -> None:
        self._dealings.mark(replace(action.mark, pid=self._crew.hands[action.wid].process.pid))

    def _say(self, action: e.Say) -> None:
        who = ""
        if action.wid is not None:
            hands = self._crew.hands.get(action.wid)
            who = f"{hands.who()} " if hands else "a worker "
        self._log.log(action.level, "%s%s", who, action.text)

    def _finish(self, action: e.Finish) -> None:
        self._exit_code = action.code
        self._report = action.report
        self._log.info("%s", action.report.words())

    # ---- small effects

    def _disconnect(self) -> None:
        heard = self._source.wakeup_fd() is not None
        self._watch(None)
        self._source.before_check()
        if heard and self._source.wakeup_fd() is None:
            self._answer(e.Woken())  # nothing listens from now on until the next claim: it comes at once
        before_check.run()

    def _watch(self, fd: int | None) -> None:
        """Select on the source's wake-up descriptor; a new connection may well have the number of the old one."""
        wakeup = None if fd is None else (fd, os.fstat(fd).st_ino)
        if wakeup != self._wakeup:
            if self._wakeup is not None:
                self._selector.unregister(self._wakeup[0])
            if fd is not None:
                self._selector.register(fd, selectors.EVENT_READ)
            self._wakeup = wakeup

    def _tell_workers(self) -> None:
        pids = self._crew.pids()
        set_supervisor_title(self._spec.program, self._name, f"{len(pids)} worker{'s' * (len(pids) != 1)}")
        if self._on_workers is not None:
            self._on_workers(pids)

    def _leave(self) -> None:
        """Leave nothing behind, whatever the reason for leaving is."""
        self._crew.end_all(LAST_ACCOUNTS_S)
        self._dealings.give_strays_back(self._machine.holding())
        give_up_at = self._clock() + LAST_ACCOUNTS_S
        while self._dealings.owes and not self._dealings.silent and self._clock() < give_up_at:
            # Nobody reads the signals and requests of now: they must not wake us.
            select.select([], [], [], max(0.0, (self._dealings.retry_at() or 0.0) - self._clock()))
            self._dealings.settle()
        self._begun.close(remove=self._dealings.settled)
        self._source.close(finished=self._dealings.settled and not self._dealings.silent)
        self._front.finished(self._report)
        self._front.close()
        self._selector.close()
        if self._last:
            stop_resource_tracker()


def _same(event: e.Event) -> e.Event:
    return event
