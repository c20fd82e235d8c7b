"""Which keys of one pool are claimed when, and which of its workers gets them. Pure; part of the machine."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.pools import Pool
from spawnpool.window import Pace, deal, demand


class Dispatch:
    """The keys between the source and the workers of one pool.

    No more keys of a feed are in its possession than workers may be busy with that feed at once.

    Args:
        pool: whose.
        limits: the numbers that bound the pool.
        now: the time at which it begins.
        do: takes the actions.
    """

    def __init__(self, pool: Pool, limits: Limits, now: float, do: Callable[[e.Action], None]) -> None:
        self.pool, self.limits = pool, limits
        self.spare: deque[int] = deque()  # claimed, on no lane
        self._pace = Pace(limits)
        self._do = do
        self._spare_since: float | None = None
        self._claim_at = now  # when to ask for work, if any worker has room
        self._feeds: dict[int, str] = {}  # of our keys, where the feed has a limit
        self._unwanted: set[int] = set()  # to go back to the source, unless a worker has begun them

    def use(self, pool: Pool, limits: Limits) -> None:
        """Go on with other limits."""
        self.pool = pool
        self.limits = self._pace.limits = limits

    def look_again(self, now: float) -> None:
        """Ask for work as soon as a worker has room: there may be some."""
        self._claim_at = min(self._claim_at, now)

    def settled(self, pks: Sequence[int], busy_s: float, now: float) -> None:
        """Learn from keys that are done how long a key takes."""
        self._pace.settled(len(pks), busy_s)
        self.gone(pks, now)

    def gone(self, pks: Collection[int], now: float) -> None:
        """Forget keys that are not ours any more."""
        if self._unwanted:
            self._unwanted.difference_update(pks)
        if self._feeds and [feed for pk in pks if (feed := self._feeds.pop(pk, None)) is not None]:
            self.look_again(now)  # there is room for the next one of that feed

    def claimed(self, event: e.Claimed, now: float) -> None:
        """Take in keys; where none came, wait for a wake-up, the next one that is due or the next poll."""
        self._unwanted.difference_update(event.pks)
        self._feeds.update(event.feeds)
        self.spare.extend(event.pks)
        if event.pks:
            self._claim_at = now
            return
        due_in_s = self.limits.poll_interval_s if event.due_in_s is None else max(0.0, event.due_in_s)
        self._claim_at = now + min(self.limits.poll_interval_s, due_in_s)

    def claim_failed(self, retry_at: float) -> None:
        """Ask again later: the source could not be reached."""
        self._claim_at = retry_at

    def put_back(self, pks: Sequence[int]) -> None:
        """Take keys that a worker did not begin: they go to the next one."""
        self.spare.extendleft(reversed(pks))

    def refuse(self, pks: Collection[int]) -> None:
        """Give these of our keys back to the source, as far as no worker begins them."""
        self._unwanted.update(pks)

    def release(self, now: float) -> list[int]:
        """Give everything that is on no lane back to the source; return it."""
        self._spare_since = None
        return self._give_back(list(self.spare), now)

    def deal(self, members: Sequence[Member], now: float) -> None:
        """Send what is spare to the workers that have room."""
        if self._unwanted and (pks := [pk for pk in self.spare if pk in self._unwanted]):
            self._give_back(pks, now)
        for member, pks in deal(self.spare, members, self._pace.window()):
            member.sent(pks, now)
            self._do(e.Send(member.wid, member.epoch, pks))
        if not self.spare:
            self._spare_since = None
        elif self._spare_since is None:
            self._spare_since = now
        elif now >= self._spare_since + self.limits.release_after_s:
            self.release(now)

    def can_wait(self, members: Sequence[Member], seconds: float) -> bool:
        """Tell whether each of the workers has nothing to do, as all have, or enough for twice as long."""
        serving = [member for member in members if member.serving]
        at_work = any(member.window for member in serving)
        return not at_work or all(self._pace.lasts(member.unstarted, 2 * seconds) for member in serving)

    def claim(self, members: Sequence[Member], now: float) -> bool:
        """Ask for work if it is time and a worker has room; tell whether it did."""
        if now < self._claim_at or self.spare or not (limit := self._demand(members)):
            return False
        self._do(e.Claim(limit, self.pool.name, self._rooms()))
        return True

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

    def deadlines(self, members: Sequence[Member], *, claiming: bool) -> list[float]:
        """Return when something here is due; `claiming` tells that an answer is awaited from the source."""
        times = []
        if not claiming and self._demand(members):
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

    def _demand(self, members: Sequence[Member]) -> int:
        """Return how many keys to ask for: as many as the workers have room for and the limits of the feeds allow."""
        limit, pool = demand(members, self._pace.window()), self.pool
        if limit and pool.at_once and pool.feeds is not None and pool.at_once.keys() >= set(pool.feeds):
            limit = min(limit, sum(self._rooms().values()))
        return limit

    def _rooms(self) -> dict[str, int]:
        """Return how many keys more may be taken of each feed that has a limit."""
        held = Counter(self._feeds.values())
        return {feed: max(0, most - held[feed]) for feed, most in self.pool.at_once.items()}

    def _give_back(self, pks: list[int], now: float) -> list[int]:
        if pks:
            self._do(e.Release(pks))
            given = set(pks)
            self.spare = deque(pk for pk in self.spare if pk not in given)
            self.gone(given, now)
        return pks

    def _may_recall(self, member: Member) -> bool:
        return member.serving and member.unstarted > 0 and not member.recalled

    def _recall_at(self, member: Member, *, free: bool) -> float:
        """Return when keys behind a slow one are asked back; not at once again when nothing came back.

        Where nothing was begun yet they are being loaded, and the next worker would have to load them, too.
        """
        after_s = self.limits.recall_after_s if free and member.started else self.limits.release_after_s
        return max(member.progress_at + after_s, member.asked_back_at + self.limits.recall_after_s)
