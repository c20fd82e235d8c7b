"""The supervisor's dealings with its source: what it asks for, and the facts that must arrive, kept until they do.

A database that cannot be reached for a while costs time, never an account.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from spawnpool import events as e
from spawnpool.errors import RunOver, SourceCrowded, SourceUnavailable
from spawnpool.source import Loss, Running, Source

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 4.0
COMPLAIN_EVERY_S = 10.0
SILENT_S = 0.4
"""A source that is away and took longer to show it is silent: each further try would cost as much time."""


class Dealings:
    """Asks the source, delivers facts to it and keeps what could not be delivered.

    Args:
        source: the other side.
        disconnect: closes every connection; called when the source could not be reached.
        log: where a failure is told, at most once in `COMPLAIN_EVERY_S` seconds.
        clock: a monotonic clock in seconds.
        answer: takes in what the machine is to be told.
    """

    def __init__(
        self,
        source: Source,
        disconnect: Callable[[], None],
        log: logging.Logger,
        clock: Callable[[], float],
        answer: Callable[[e.Event], None],
    ) -> None:
        self._source, self._disconnect, self._log, self._clock = source, disconnect, log, clock
        self._answer = answer
        self._lost = False  # the run was given up by others; there is nothing to be told of it any more
        self._in_doubt = False  # a claim failed, and may have been made all the same
        self._releases: list[int] = []
        self._losses: list[list[Loss]] = []
        self._beat: str | None = None
        self._failures = 0
        self.trouble = ""
        """Why the source cannot be reached, while that is so."""
        self.silent = False
        """Whether it let us wait for long when it was last asked, and then did not answer."""
        self._asked_at = clock()
        self._retry_at: float | None = None
        self._complained_at: float | None = None

    @property
    def owes(self) -> bool:
        """Whether an account has not arrived yet."""
        return bool(self._releases or self._losses)

    @property
    def settled(self) -> bool:
        """Whether every account has arrived and no claim is in doubt."""
        return not self.owes and not self._in_doubt

    def _may_ask(self) -> bool:
        """Tell whether the source may be asked for something: a beat that is owed goes first, or it would starve."""
        if self._beat is not None:
            self.settle()
        self._asked_at = self._clock()
        return not (self._rests or self._lost)

    @property
    def _rests(self) -> bool:
        """Whether the source was found away just now: asking again at once would only keep us from other duties."""
        return self._failures > 0 and self._retry_at is not None and self._clock() < self._retry_at

    def retry_at(self) -> float | None:
        """Return when the next try is due, None if nothing is owed."""
        return self._retry_at if self.owes or self._beat is not None else None

    # ---- what is asked for

    def claim(self, asked: e.Claim, holding: Collection[int]) -> list[e.Event]:
        """Claim keys; return what to tell the machine.

        Args:
            asked: what for.
            holding: the keys that are in our possession.
        """
        if not self._may_ask() or self.owes:
            # First the books: a key whose giving back is not known to be done could come back here by a claim.
            return [e.ClaimFailed(max(0.05, (self._retry_at or 0.0) - self._clock()))]
        try:
            if self._in_doubt and (strays := self._source.strays(holding)):
                self._source.release(strays)  # nobody knows any more which pool they were claimed for
            self._in_doubt = False
            taken = self._source.claim(asked.limit, asked.pool, asked.rooms)
            due_in_s = None if taken.pks else self._source.next_due_s()
        except SourceUnavailable as error:
            self._in_doubt = True
            self._disconnect()
            return [e.ClaimFailed(self.failed(error))]
        self.reached()
        return [e.Claimed(taken.pks, asked.limit, due_in_s, asked.pool, taken.feeds)]

    def orders(self) -> list[e.Event]:
        """Ask which of our keys are cancelled or paused; return what to tell the machine."""
        if not self._may_ask():
            return []
        try:
            cancelled, paused = self._source.cancelled(), self._source.paused()
        except SourceUnavailable as error:
            self._disconnect()
            self.failed(error)
            return []
        found = (e.CancelAsked(cancelled), e.PauseAsked(paused))
        return [event for event in found if event.pks]

    def is_empty(self) -> list[e.Event]:
        """Ask whether nothing is left at all; return what to tell the machine."""
        if not self._may_ask():
            return []
        try:
            return [e.FoundEmpty(not self.owes and self._source.is_empty())]
        except SourceUnavailable as error:
            self.failed(error)
            return []

    def backlog(self) -> int | None:
        """Return about how many keys are ready, None if that is not known now."""
        try:
            return self._source.backlog() if self._may_ask() else None
        except SourceUnavailable as error:
            self.failed(error)
            return None

    def give_strays_back(self, holding: Collection[int]) -> None:
        """Give back what was claimed without our knowing, at the end: nobody begins it any more."""
        if not self._in_doubt or self.silent:
            return
        try:
            if pks := self._source.strays(holding):
                self.release(pks)
            self._in_doubt = False
        except SourceUnavailable as error:
            self._log.warning("%s", error)

    def begin(self) -> Sequence[int]:
        """Begin a run; return the integers for the workers.

        Raises:
            SourceUnavailable: waiting may help.
            SourceRefused: it will not.
        """
        sent_at = self._asked_at = self._clock()
        integers = self._source.open()
        self._lost = False
        self.reached()
        self._answer(e.Renewed(sent_at))
        return integers

    # ---- what is told

    def release(self, pks: Sequence[int]) -> None:
        """Give keys back."""
        self._releases.extend(pks)
        self.settle(at_once=True)

    def lose(self, pid: int, losses: Sequence[Loss]) -> None:
        """Account for the keys that a dead worker had begun."""
        self._losses.append([replace(loss, pid=pid) for loss in losses])
        self.settle(at_once=True)

    def beat(self, state: str) -> None:
        """Tell that this run lives."""
        self._beat = state
        self.settle(at_once=True)
        if self._beat is not None:
            self._answer(e.BeatFailed())

    def mark(self, mark: Running) -> None:
        """Write down what is running; not owed, since it is only shown."""
        if not self._may_ask():
            return
        try:
            self._source.running(mark)
        except SourceUnavailable as error:
            self.failed(error)

    def settle(self, *, at_once: bool = False) -> None:
        """Try to deliver what is owed, if it is time or `at_once`."""
        retry_at = self.retry_at()
        if at_once and not self._rests:
            retry_at = self._clock()
        if retry_at is None or self._clock() < retry_at:
            return
        self._asked_at = self._clock()
        try:
            self._deliver()
        except RunOver:
            self._releases, self._losses, self._beat, self._retry_at, self._lost = [], [], None, None, True
            self._answer(e.RunLost())
        except SourceUnavailable as error:
            self.failed(error)
        else:
            self._retry_at = None

    def failed(self, error: SourceUnavailable) -> float:
        """Note that the source could not be reached; return in how many seconds to try again."""
        self._failures += 1
        self.trouble = str(error)
        if isinstance(error, SourceCrowded):
            self._answer(e.Crowded(self.trouble))
        delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._failures - 1, 10))
        now = self._clock()
        self.silent = now - self._asked_at > SILENT_S
        if not self._rests:
            self._retry_at = now + delay_s
        if self._complained_at is None or now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            self._log.warning("%s (try %d, next in %g s)", error, self._failures, delay_s)
        return delay_s

    def reached(self) -> None:
        """Note that the source answers: what is owed can be delivered at once."""
        if self._retry_at is not None:
            self._retry_at = self._clock()
        if self._failures:
            self._log.info("it answers again after %d failed tries", self._failures)
            self._answer(e.SourceBack())
        self._failures, self._complained_at, self.trouble, self.silent = 0, None, "", False

    def _deliver(self) -> None:
        if self._beat is not None:
            sent_at = self._clock()
            self._source.beat(self._beat)
            self._beat = None
            self._answer(e.Beaten(sent_at))  # it counts, whatever becomes of the rest
            self._source.recover()
        if self._releases:
            self._source.release(self._releases)
            self._releases = []
        while self._losses:
            losses = self._losses[0]
            names = self._source.lost(losses)
            del self._losses[0]
            self._tell(losses, names)
        self.reached()

    def _tell(self, losses: Sequence[Loss], names: Mapping[int, str]) -> None:
        """Log what was lost; what the source does not own any more had been recorded before the worker ended."""
        lost = [loss for loss in losses if loss.pk in names]
        for loss in lost:
            self._log.warning("%s", loss.tell(names[loss.pk]))
        if not lost:
            self._log.warning("%s, after the ends of its jobs were recorded", losses[0].who())
