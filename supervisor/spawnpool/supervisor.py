"""The loop around the machine: waits for everything with one selector, brings facts in, performs what is decided.

It owns the processes, the lanes and the source; it decides nothing itself. It has no threads of its own (each lane's
queue has its feeder) and no sleep: only the selector waits, with a computed time-out on the monotonic clock.
"""

from __future__ import annotations

import errno
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
from typing import Any

from spawnpool import events as e
from spawnpool.errors import BrokenReport, NotMainThread, SourceUnavailable
from spawnpool.hands import Hands
from spawnpool.hooks import before_check
from spawnpool.limits import Limits
from spawnpool.machine import Machine
from spawnpool.owed import Owed
from spawnpool.picture import tell_everything
from spawnpool.process import Exit
from spawnpool.signals import SignalTray
from spawnpool.source import Source
from spawnpool.states import StopReason
from spawnpool.titles import set_supervisor_title
from spawnpool.worker import WorkerSpec

LANE_PAUSE_S = 0.002
"""How long reports may wait while every worker has enough to do: fewer, fuller turns of the loop."""

OUT_OF = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""What a spawn fails with when a limit of the system is reached."""

LAST_ACCOUNTS_S = 10.0
"""How long a stopping supervisor tries to hand its last facts to a source that cannot be reached."""


class Supervisor:
    """Keeps the workers of one pool alive and fed until it is told to stop.

    Args:
        source: where the work comes from.
        spec: what the workers are.
        limits: the numbers that bound the pool.
        name: shown in the process title.
        log: where its sentences go.
        fixed: names of limits that a reload must not change.
        on_workers: told the pids of the living workers whenever one was spawned or died.
        last: the process ends when `run` returns; a signal that comes later must not change its exit code.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        source: Source,
        spec: WorkerSpec,
        limits: Limits,
        *,
        name: str = "default",
        log: logging.Logger | None = None,
        fixed: frozenset[str] = frozenset(),
        on_workers: Callable[[list[int]], None] | None = None,
        last: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._spec, self._name, self._clock = source, spec, name, clock
        self._log = log or logging.getLogger("spawnpool")
        self._on_workers, self._last = on_workers, last
        self._machine = Machine(limits, clock(), fixed)
        self._owed = Owed(source, self._log, clock)
        self._hands: dict[int, Hands] = {}
        self._integers: tuple[int, ...] = ()
        self._selector = selectors.EpollSelector()
        self._lanes = selectors.EpollSelector()
        self._wakeup: tuple[int, int] | None = None  # descriptor and inode
        self._rest_until = 0.0
        self._resting = False
        self._interrupted = False
        self._in_doubt = False  # a claim failed, and may have been made all the same
        self._exit_code: int | None = None
        self._answers: deque[Callable[[], e.Event]] = deque()  # made when their turn has come
        self._performers: dict[type, Callable[[Any], None]] = {
            e.Check: lambda action: self._check(),
            e.Beat: lambda action: self._owed.beat(self._machine.state.value),
            e.Spawn: self._spawn,
            e.Send: lambda action: self._hands[action.wid].lane.send(action.epoch, action.pks),
            e.TakeBack: self._take_back,
            e.Stop: lambda action: self._hands[action.wid].lane.stop(),
            e.Abort: lambda action: self._signal(action.wid, signal.SIGABRT),
            e.Kill: lambda action: self._signal(action.wid, signal.SIGKILL),
            e.Claim: self._claim,
            e.AskEmpty: self._ask_empty,
            e.Release: lambda action: self._owed.release(action.pks),
            e.Lose: self._lose,
            e.Mark: self._mark,
            e.Say: self._say,
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
                self._selector.register(self._lanes, selectors.EVENT_READ)
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
                self._integers = tuple(self._source.open())
            except SourceUnavailable as error:
                delay_s = self._owed.failed(error)
            else:
                return True
            again_at = self._clock() + delay_s
            while (left_s := again_at - self._clock()) > 0:
                self._selector.select(left_s)
                if {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} & set(tray.take()):
                    self._log.info("stopped while waiting")
                    return False

    def _loop(self, tray: SignalTray) -> None:
        self._feed(e.Tick())
        while self._exit_code is None:
            self._watch(self._source.wakeup_fd())
            ready = {key.fd for key, _ in self._selector.select(self._timeout_s())}
            if tray.fileno() in ready:
                for signum in tray.take():
                    self._on_signal(signum)
            if self._clock() >= self._rest_until:
                self._read_lanes()
            if any(hands.process.fileno() in ready for hands in self._hands.values()):
                self._check()
                self._go_on()
            if self._source.woken():
                self._feed(e.Woken())
            self._feed(e.Tick())
            self._owed.settle()

    def _timeout_s(self) -> float:
        """Return how long the loop may wait; lanes that rest are left out of the wait."""
        now = self._clock()
        rest = now < self._rest_until
        if rest != self._resting:
            self._resting = rest
            if rest:
                self._selector.unregister(self._lanes)
            else:
                self._selector.register(self._lanes, selectors.EVENT_READ)
        times = [at for at in (self._machine.next_deadline(), self._owed.retry_at()) if at is not None]
        if rest:
            times.append(self._rest_until)
        return max(0.0, min(times) - now) if times else 0.0

    def _feed(self, event: e.Event) -> None:
        """Let the machine take in one event, perform what it decides and bring back the answers.

        Never from within an action: what an action finds out waits until the whole decision is performed.
        """
        self._answers.append(lambda: event)
        self._go_on()

    def _go_on(self) -> None:
        while self._answers:
            event = self._answers.popleft()()
            for action in self._machine.step(event, self._clock()):
                self._performers[type(action)](action)
            if isinstance(event, e.Died):
                self._hands.pop(event.wid).close()
                self._tell_workers()

    def _answer(self, event: e.Event) -> None:
        self._answers.append(lambda: event)

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
        elif signum == signal.SIGUSR2:
            tell_everything(self._log, self._machine, self._hands, owes=self._owed.anything, now=self._clock())

    def _stop(self, signum: int, reason: StopReason) -> None:
        if reason > self._machine.reason:
            how = "stops now" if reason is StopReason.NOW else "drains"
            self._log.info("%s received: the supervisor %s", signal.Signals(signum).name, how)
        self._feed(e.StopAsked(reason))

    def _read_lanes(self) -> None:
        ready = self._lanes.select(0)
        for key, _ in ready:
            self._read_lane(key.data)
        if ready and self._machine.unhurried():
            self._rest_until = self._clock() + LANE_PAUSE_S

    def _read_lane(self, wid: int) -> None:
        hands = self._hands[wid]
        try:
            if reports := hands.lane.read():
                self._feed(e.Reported(wid, reports))
            elif hands.lane.ended:
                self._lanes.unregister(hands.lane)  # or its end of file would wake the loop until the process is dead
                hands.deaf = True
        except BrokenReport as error:
            self._lanes.unregister(hands.lane)
            hands.deaf = True
            self._feed(e.Babbled(wid, str(error)))

    def _check(self) -> None:
        """Close every connection of ours, then look at every child; a dead one is collected and accounted for."""
        self._disconnect()
        for wid, hands in self._hands.items():
            if hands.ending is not None or (ending := hands.process.reap()) is None:
                continue
            hands.ending = ending
            self._selector.unregister(hands.process)
            self._answers.append(partial(self._last_words, wid))
            self._answers.append(partial(self._death, wid, ending))

    def _last_words(self, wid: int) -> e.Event:
        """Return what a dead worker still reported."""
        hands = self._hands[wid]
        if hands.deaf:
            return e.Tick()
        hands.deaf = True
        self._lanes.unregister(hands.lane)
        try:
            return e.Reported(wid, hands.lane.read())
        except BrokenReport:
            return e.Tick()  # cut off in the middle; the source knows what was finished

    def _death(self, wid: int, ending: Exit) -> e.Event:
        """Return the end of a worker; its permits are counted now, after all that was decided before it."""
        return e.Died(wid, self._hands[wid].lane.unstarted(), ending.code, ending.words(), ending.peak_bytes)

    # ---- actions

    def _spawn(self, action: e.Spawn) -> None:
        self._disconnect()
        try:
            hands = Hands(self._spec, action.number, self._integers)
        except OSError as error:
            hint = " (the limit on open files or on processes)" if error.errno in OUT_OF else ""
            self._answer(e.SpawnFailed(action.wid, f"could not be spawned: {error.strerror}{hint}"))
            return
        self._hands[action.wid] = hands
        self._selector.register(hands.process, selectors.EVENT_READ)
        self._lanes.register(hands.lane, selectors.EVENT_READ, action.wid)
        self._tell_workers()

    def _take_back(self, action: e.TakeBack) -> None:
        self._answer(e.TakenBack(action.wid, self._hands[action.wid].lane.take_back(action.most)))

    def _signal(self, wid: int, signum: int) -> None:
        if hands := self._hands.get(wid):  # else it could not be spawned, and that is about to be told
            hands.process.send(signum)

    def _claim(self, action: e.Claim) -> None:
        if self._owed.anything:
            # First the books: a key whose giving back is not known to be done could come back here by a claim.
            self._answer(e.ClaimFailed(max(0.05, (self._owed.retry_at() or 0.0) - self._clock())))
            return
        try:
            pks: Sequence[int] = self._source.strays(self._machine.holding()) if self._in_doubt else ()
            self._in_doubt = False
            pks = pks or self._source.claim(action.limit)
            due_in_s = None if pks else self._source.next_due_s()
        except SourceUnavailable as error:
            self._in_doubt = True
            self._disconnect()
            self._answer(e.ClaimFailed(self._owed.failed(error)))
            return
        if self._owed.reached():
            self._answer(e.SourceBack())
        self._answer(e.Claimed(pks, action.limit, due_in_s))

    def _ask_empty(self, action: e.AskEmpty) -> None:
        try:
            self._answer(e.FoundEmpty(not self._owed.anything and self._source.is_empty()))
        except SourceUnavailable as error:
            self._owed.failed(error)

    def _lose(self, action: e.Lose) -> None:
        self._owed.lose(self._hands[action.wid].process.pid, action.losses)

    def _mark(self, action: e.Mark) -> None:
        self._owed.mark(replace(action.mark, pid=self._hands[action.wid].process.pid))

    def _say(self, action: e.Say) -> None:
        who = ""
        if action.wid is not None:
            hands = self._hands.get(action.wid)
            who = f"{hands.who()} " if hands else "a worker "
        self._log.log(action.level, "%s%s", who, action.text)

    def _finish(self, action: e.Finish) -> None:
        self._exit_code = action.code

    # ---- small effects

    def _disconnect(self) -> None:
        if self._source.wakeup_fd() is not None:
            self._answer(e.Woken())  # nothing listens from now on until the next claim: it comes at once
        self._watch(None)
        self._source.before_check()
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
        pids = [hands.process.pid for hands in self._hands.values()]
        set_supervisor_title(self._spec.program, self._name, f"{len(pids)} worker{'s' * (len(pids) != 1)}")
        if self._on_workers is not None:
            self._on_workers(pids)

    def _leave(self) -> None:
        """Leave nothing behind, whatever the reason for leaving is."""
        for hands in self._hands.values():  # only after an error of our own: the machine ends every worker itself
            hands.process.send(signal.SIGKILL)
            select.select([hands.process], [], [], LAST_ACCOUNTS_S)
            if hands.ending is not None or hands.process.reap() is not None:
                hands.close()
        self._hands.clear()
        if self._in_doubt:
            self._give_strays_back()
        give_up_at = self._clock() + LAST_ACCOUNTS_S
        while self._owed.anything and self._clock() < give_up_at:
            self._selector.select(max(0.0, (self._owed.retry_at() or 0.0) - self._clock()))
            self._owed.settle()
        self._source.close(finished=not self._owed.anything and not self._in_doubt)
        self._lanes.close()
        self._selector.close()

    def _give_strays_back(self) -> None:
        """Ask for claims that were made without our knowing; nobody begins them any more."""
        try:
            if pks := self._source.strays(self._machine.holding()):
                self._owed.release(pks)
            self._in_doubt = False
        except SourceUnavailable as error:
            self._log.warning("%s", error)
