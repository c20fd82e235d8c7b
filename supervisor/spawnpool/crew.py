"""The worker processes as the supervisor holds them: spawned, listened to, signalled, collected. Decides nothing.

What is found out becomes one of the answers: a callable that makes an event when its turn has come.
"""

from __future__ import annotations

import errno
import logging
import selectors
import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spawnpool import events as e
from spawnpool.begun import Page
from spawnpool.card import stack_of
from spawnpool.errors import BrokenReport
from spawnpool.hands import Hands
from spawnpool.logfile import LogFile
from spawnpool.memory import OomLedger, rss_bytes
from spawnpool.process import Exit, tracker_pid
from spawnpool.reaper import is_init, reap_strangers
from spawnpool.signals import LOOK
from spawnpool.worker import WorkerSpec

FATAL = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
"""The signals at which faulthandler says where a process was."""

OUT_OF = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""What a spawn fails with when a limit of the system is reached."""


class Crew:
    """The worker processes of one supervisor.

    Args:
        spec: what the workers are.
        selector: told of each process, which becomes readable when it is dead.
        answers: where what was found out waits, to be made into an event later.
    """

    def __init__(
        self, spec: WorkerSpec, selector: selectors.EpollSelector, answers: deque[Callable[[], e.Event]]
    ) -> None:
        self._spec, self._selector, self._answers, self._answer = spec, selector, answers, answers.append
        self._ledger = OomLedger()
        self.hands: dict[int, Hands] = {}
        """By wid."""
        self.lanes = selectors.EpollSelector()
        """Readable when any worker has reported something."""

    def pids(self) -> list[int]:
        """Return the processes that are not known to be accounted for."""
        return [hands.process.pid for hands in self.hands.values()]

    # ---- facts

    def read_lanes(self) -> bool:
        """Take in what the workers reported and began; tell whether there was anything."""
        ready = {key.data for key, _ in self.lanes.select(0)}
        for wid in ready:
            self.hands[wid].lane.go_on()  # who reports may have made room
        ready.update(wid for wid, hands in self.hands.items() if hands.has_begun())
        for wid in ready:
            self._answer(partial(self._read_lane, wid))
        return bool(ready)

    def any_died(self, ready: set[int]) -> bool:
        """Tell whether one of these descriptors says that a worker is dead."""
        return any(hands.process.fileno() in ready for hands in self.hands.values())

    def check(self) -> None:
        """Look at every process: a dead one is collected, a living one's memory is looked at."""
        for wid, hands in self.hands.items():
            if hands.ending is not None:
                continue
            if (ending := hands.process.reap()) is None:
                self.measure(wid)
                continue
            hands.ending = ending
            self._selector.unregister(hands.process)
            self._answer(partial(self._last_words, wid))
            self._answer(partial(self._death, wid, ending))
        if is_init():
            reap_strangers({*self.pids(), tracker_pid()})

    def listen(self, wid: int) -> None:
        """Take in what a worker has reported, and say that this was done: other facts may wait before it."""
        self._answer(partial(self._read_lane, wid))
        self._answer(lambda: e.Heard(wid))

    def measure(self, wid: int) -> None:
        """Find out how much memory a worker has."""
        self.hands[wid].watch.look()
        self._answer(partial(self._read_lane, wid))  # so that the next key is not blamed for the last one's memory
        self._answer(partial(self._measured, wid))

    def _read_lane(self, wid: int) -> e.Event:
        hands = self.hands.get(wid)
        if hands is None or hands.deaf:
            return e.Tick()
        try:
            if reports := hands.hear():
                return e.Reported(wid, reports)
            if hands.lane.ended:
                self._stop_listening(hands)  # or its end of file would wake the loop until the process is dead
            return e.Tick()
        except BrokenReport as error:
            self._stop_listening(hands)
            return e.Babbled(wid, str(error))

    def _stop_listening(self, hands: Hands) -> None:
        self.lanes.unregister(hands.lane)
        hands.deaf = True

    def _last_words(self, wid: int) -> e.Event:
        """Return what a dead worker still reported."""
        hands = self.hands[wid]
        if hands.deaf:
            return e.Tick()
        self._stop_listening(hands)
        try:
            return e.Reported(wid, hands.hear())
        except BrokenReport:
            return e.Tick()  # cut off in the middle; the source knows what was finished

    def _death(self, wid: int, ending: Exit) -> e.Event:
        """Return the end of a worker; its permits are counted now, after all that was decided before it."""
        hands = self.hands[wid]
        by_others = ending.code == -signal.SIGKILL and not hands.killed
        cause = (hands.watch.verdict() if by_others else None) or ""
        # A child that a job forked writes on the card, too.
        crashed = ending.code is not None and -ending.code in FATAL
        stack = stack_of(hands.card.last_words()) if crashed else ""
        return e.Died(wid, hands.lane.unstarted(), ending.code, ending.words(), ending.peak_bytes, cause, stack)

    def _measured(self, wid: int) -> e.Event:
        hands = self.hands.get(wid)
        used = None if hands is None or hands.ending is not None else rss_bytes(hands.process.pid)
        return e.Tick() if used is None else e.Measured(wid, used)

    # ---- actions

    def spawn(self, action: e.Spawn, integers: tuple[int, ...], page: Page = None) -> bool:
        """Start a worker; tell whether that was possible."""
        try:
            hands = Hands(self._spec, action.number, integers, self._ledger, action.pool, page)
        except OSError as error:
            hint = " (the limit on open files or on processes)" if error.errno in OUT_OF else ""
            event = e.SpawnFailed(action.wid, f"could not be spawned: {error.strerror}{hint}")
            self._answer(lambda: event)
            return False
        self.hands[action.wid] = hands
        self._selector.register(hands.process, selectors.EVENT_READ)
        self.lanes.register(hands.lane, selectors.EVENT_READ, action.wid)
        return True

    def send(self, action: e.Send) -> None:
        """Put keys on a worker's lane."""
        self.hands[action.wid].lane.send(action.epoch, action.pks)

    def take_back(self, action: e.TakeBack) -> None:
        """Revoke keys from the end of a worker's lane.

        That is told before all else that waits: what the worker says of it, if it is the first to be heard, would let
        it have other keys, which were taken for those; and the end of a dead one counts the permits that are left.
        """
        event = e.TakenBack(action.wid, self.hands[action.wid].lane.take_back(action.most))
        self._answers.appendleft(lambda: event)

    def stop(self, action: e.Stop) -> None:
        """Ask a worker, on its lane, to leave."""
        self.hands[action.wid].lane.stop()

    def order(self, action: e.Order) -> None:
        """Write on a worker's card which key is to end, and have it look if that is wanted."""
        hands = self.hands[action.wid]
        hands.card.write(action.pk, action.why)
        if action.loudly:
            self._have_look(hands)

    def signal(self, wid: int, signum: int) -> None:
        """Send a signal to a worker."""
        if hands := self.hands.get(wid):  # else it could not be spawned, and that is about to be told
            hands.killed |= signum == signal.SIGKILL
            hands.process.send(signum)

    def reopen_logs(self, log: logging.Logger) -> None:
        """Open the log file anew, here and in every worker; tell `log`."""
        if not self._spec.log_file:
            log.info("SIGUSR1 received: there is no log file to open anew")
            return
        LogFile(Path(self._spec.log_file)).reopen()
        for hands in self.hands.values():
            hands.card.log_reopened()
            self._have_look(hands)
        log.info("the log file was opened anew")

    @staticmethod
    def _have_look(hands: Hands) -> None:
        """Make a worker look at its card, unless that would kill it: a job may have undone the handler."""
        if hands.process.survives(LOOK):
            hands.process.send(LOOK)

    def forget(self, wid: int) -> Page:
        """Throw away what is left of a worker that is accounted for; return where it noted what had begun."""
        hands = self.hands.pop(wid)
        hands.close()
        return hands.page

    def end_all(self, wait_s: float) -> None:
        """Kill whatever is left; only after an error of our own, since the machine ends every worker itself.

        Args:
            wait_s: how long each may take to die, in seconds.
        """
        for hands in self.hands.values():
            hands.process.send(signal.SIGKILL)
            with selectors.DefaultSelector() as death:
                death.register(hands.process, selectors.EVENT_READ)
                death.select(wait_s)
            if hands.ending is not None or hands.process.reap() is not None:
                hands.close()
        self.hands.clear()
        self.lanes.close()
