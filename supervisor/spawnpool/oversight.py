"""What is done about running keys that take too long, need too much memory, or were cancelled. Pure.

One ladder for all: write it on the worker's card, interrupt the job, let it clean up, then end its worker (SIGABRT, so
that it says where it is, then SIGKILL: `Roster.end`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from spawnpool import events as e
from spawnpool.bounds import Interrupt
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.source import Running
from spawnpool.states import Ended, WorkerState

Expel = Callable[[Member, Ended, str, float], None]
"""Ends a worker: for which cause, in words, at what time."""


class Oversight:
    """The limits of the keys that are running.

    Args:
        limits: the numbers that bound the pool.
        do: takes the actions.
        expel: ends a worker.
    """

    def __init__(self, limits: Limits, do: Callable[[e.Action], None], expel: Expel) -> None:
        self.limits = limits
        self._do, self._expel = do, expel
        self._cancelled: set[int] = set()  # of our keys; most never start
        self._look_at = 0.0

    def cancel(self, pks: Collection[int], members: Sequence[Member], holding: Collection[int], now: float) -> set[int]:
        """Take in that keys are cancelled: what runs is asked to end; return those of which that is news."""
        news = set(pks).intersection(holding) - self._cancelled
        self._cancelled = (self._cancelled | news).intersection(holding)
        for member in members:
            if (pk := member.running()) is not None and pk in self._cancelled:
                self._ask(member, pk, now)
        return news

    def began(self, member: Member, pk: int, now: float) -> None:
        """Note that a key has begun."""
        if member.ordered == pk:  # tried again on the same worker: what its card says was meant for the last time
            member.ordered = None
            self._do(e.Order(member.wid, pk, Interrupt.NONE, loudly=False))
        if pk in self._cancelled:
            self._ask(member, pk, now)

    def gone(self, pks: Collection[int]) -> None:
        """Forget keys that are not ours any more."""
        self._cancelled.difference_update(pks)

    def measured(self, member: Member, rss_bytes: int, now: float) -> None:
        """Compare a worker's memory with what the running key may have."""
        member.rss_bytes = rss_bytes
        limit = member.held_to.memory_bytes
        if limit is not None and rss_bytes > limit and self._overseen(member) and member.running() is not None:
            used, allowed = rss_bytes / 2**20, limit / 2**20
            self._expel(member, Ended.OVER_MEMORY, f"used {used:.0f} MB, limit {allowed:.0f} MB", now)

    def keep(self, members: Sequence[Member], now: float) -> None:
        """Take the steps that are due."""
        running = [member for member in members if member.running() is not None and self._overseen(member)]
        for member in running:
            if member.patience_until is not None and now >= member.patience_until:
                self._go_on(member, now)
            if self._is_watched(member) and now >= member.measure_at:
                member.measure_at = now + self.limits.memory_interval_s
                self._do(e.Measure(member.wid))
        if running and now >= self._look_at:
            self._look_at = now + self.limits.running_interval_s
            self._do(e.LookForOrders())
        self._mark(members, now)

    def _mark(self, members: Sequence[Member], now: float) -> None:
        """Have keys written down that have been running for a while."""
        for member in members:
            pk = member.running()
            if pk is not None and not member.marked and now >= member.started_at + self.limits.mark_after_s:
                member.marked = True
                self._do(e.Mark(member.wid, Running(pk, member.number, 0, now - member.started_at)))

    def deadlines(self, members: Sequence[Member]) -> list[float]:
        """Return when something here is due."""
        times: list[float] = []
        for member in members:
            if member.running() is not None and not member.marked:
                times.append(member.started_at + self.limits.mark_after_s)
            if member.running() is not None and self._overseen(member):
                # Short keys come and go by the thousand: nobody needs to look while they do.
                times.append(max(self._look_at, member.started_at + self.limits.running_interval_s))
                if member.patience_until is not None:
                    times.append(member.patience_until)
                if self._is_watched(member):
                    times.append(member.measure_at)
        return times

    def _ask(self, member: Member, pk: int, now: float) -> None:
        if member.cancelled or not self._overseen(member):
            return
        member.cancelled = True
        if member.interrupted is Interrupt.NONE:
            member.ordered = pk
            self._do(e.Order(member.wid, pk, Interrupt.CANCEL, loudly=False))
            ask_until = now + self.limits.cancel_ask_s
            # Being cancelled is no reason to get longer than its time-out.
            member.patience_until = min(ask_until, member.patience_until or ask_until)

    def _go_on(self, member: Member, now: float) -> None:
        """Take the next step against a key: interrupt it, or end its worker."""
        pk = member.running()
        assert pk is not None
        bounds = member.held_to
        if member.interrupted is Interrupt.NONE:
            why = Interrupt.CANCEL if member.cancelled else Interrupt.TIMEOUT
            member.interrupted = why
            member.patience_until = now + (self.limits.cancel_grace_s if member.cancelled else bounds.grace_s)
            member.ordered = pk
            self._do(e.Order(member.wid, pk, why, loudly=True))
        elif not member.heard_out:
            if not member.listening:
                member.listening = True  # it may have ended in time, and nobody has read that yet
                self._do(e.Listen(member.wid))
        elif member.interrupted is Interrupt.CANCEL:
            words = f"it was cancelled and did not end within {self.limits.cancel_grace_s:g} s"
            self._expel(member, Ended.CANCELLED, words, now)
        else:
            words = (
                f"its time-out of {bounds.timeout_s:g} s was over and it did not end within {bounds.grace_s:g} s more"
            )
            self._expel(member, Ended.TIMED_OUT, words, now)

    @staticmethod
    def _overseen(member: Member) -> bool:
        return member.state in (WorkerState.SERVING, WorkerState.LEAVING)

    @staticmethod
    def _is_watched(member: Member) -> bool:
        return member.held_to.memory_bytes is not None
