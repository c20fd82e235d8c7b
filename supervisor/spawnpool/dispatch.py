"""Which keys are claimed when, and which worker gets them. Pure; part of the machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.source import Running
from spawnpool.window import Pace, deal, demand


class Dispatch:
    """The keys between the source and the workers.

    Args:
        limits: the numbers that bound the pool.
        now: the time at which it begins.
        do: takes the actions.
    """

    def __init__(self, limits: Limits, now: float, do: Callable[[e.Action], None]) -> None:
        self.limits = limits
        self.spare: deque[int] = deque()  # claimed, on no lane
        self._pace = Pace(limits)
        self._do = do
        self._spare_since: float | None = None
        self._claiming = False
        self._claim_at = now  # when to ask for work, if any worker has room

    def use(self, limits: Limits) -> None:
        """Go on with other limits."""
        self.limits = self._pace.limits = limits

    def look_again(self, now: float) -> None:
        """Ask for work as soon as a worker has room: there may be some."""
        self._claim_at = min(self._claim_at, now)

    def settled(self, keys: int, busy_s: float, members: Sequence[Member], now: float) -> None:
        """Learn from keys that are done how long a key takes."""
        self._pace.settled(keys, busy_s)
        if self.limits.exit_when_empty and self.at_rest(members):
            self.look_again(now)  # that may have been the last one

    def claimed(self, event: e.Claimed, members: Sequence[Member], now: float) -> None:
        """Take in keys; where none came, wait for a wake-up, the next one that is due or the next poll."""
        self._claiming = False
        self.spare.extend(event.pks)
        if event.pks:
            self._claim_at = now
            return
        due_in_s = self.limits.poll_interval_s if event.due_in_s is None else max(0.0, event.due_in_s)
        self._claim_at = now + min(self.limits.poll_interval_s, due_in_s)
        if self.limits.exit_when_empty and self.at_rest(members):
            self._do(e.AskEmpty())

    def claim_failed(self, retry_at: float) -> None:
        """Ask again later: the source could not be reached."""
        self._claiming, self._claim_at = False, retry_at

    def put_back(self, pks: Sequence[int]) -> None:
        """Take keys that a worker did not begin: they go to the next one."""
        self.spare.extendleft(reversed(pks))

    def release(self) -> list[int]:
        """Give everything that is on no lane back to the source; return it."""
        pks = list(self.spare)
        if pks:
            self._do(e.Release(pks))
            self.spare.clear()
        self._spare_since = None
        return pks

    def at_rest(self, members: Sequence[Member]) -> bool:
        """Tell whether no key is in our possession."""
        return not self.spare and not any(member.window for member in members)

    def deal_and_claim(self, members: Sequence[Member], now: float) -> None:
        """Send what is spare to the workers that have room, and claim when they still have."""
        window = self._pace.window()
        for member, pks in deal(self.spare, members, window):
            member.sent(pks, now)
            self._do(e.Send(member.wid, member.epoch, pks))
        if not self.spare:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now
        elif now >= self._spare_since + self.limits.release_after_s:
            self.release()
        if not self._claiming and now >= self._claim_at and not self.spare and (limit := demand(members, window)):
            self._claiming = True
            self._do(e.Claim(limit))

    def recall(self, members: Sequence[Member], now: float) -> None:
        """Take keys back that wait behind something slow: soon if a worker is free, else for other supervisors."""
        for member in members:
            member.slow = bool(member.window) and now >= member.progress_at + self.limits.recall_after_s
        free = any(member.free for member in members)
        if self.spare and free:
            return
        for member in members:
            if self._may_recall(member) and now >= self._recall_at(member, free=free):
                self._do(e.TakeBack(member.wid, member.ask_back(now)))

    def _may_recall(self, member: Member) -> bool:
        return member.serving and member.unstarted > 0 and not member.recalled

    def _recall_at(self, member: Member, *, free: bool) -> float:
        """Return when keys behind a slow one are asked back; not at once again when nothing came back.

        Where nothing was begun yet they are being loaded, and the next worker would have to load them, too.
        """
        after_s = self.limits.recall_after_s if free and member.started else self.limits.release_after_s
        return max(member.progress_at + after_s, member.asked_back_at + self.limits.recall_after_s)

    def mark_running(self, members: Sequence[Member], now: float) -> None:
        """Have keys written down that have been running for a while."""
        for member in members:
            pk = member.running()
            if pk is not None and not member.marked and now >= member.started_at + self.limits.mark_after_s:
                member.marked = True
                self._do(e.Mark(member.wid, Running(pk, member.number, 0, now - member.started_at)))

    def deadlines(self, members: Sequence[Member], *, takes_work: bool) -> list[float]:
        """Return when something here is due."""
        times = [
            member.started_at + self.limits.mark_after_s
            for member in members
            if member.running() is not None and not member.marked
        ]
        if not takes_work:
            return times
        if not self._claiming and demand(members, self._pace.window()):
            times.append(self._claim_at)
        free = any(member.free for member in members)
        for member in members:
            if self._may_recall(member):
                times.append(self._recall_at(member, free=free))
            if member.serving and member.window and not member.slow:
                times.append(member.progress_at + self.limits.recall_after_s)
        if self.spare and self._spare_since is not None:
            times.append(self._spare_since + self.limits.release_after_s)
        return times
