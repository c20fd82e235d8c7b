"""The work of all pools: whose turn it is to ask the source, and that no key gets from one pool to another.

Pure; part of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from spawnpool import events as e
from spawnpool.dispatch import Dispatch
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.pools import Pool


class Distribution:
    """The dispatches of the pools, of which one at a time asks the source.

    One at a time, so that a claim whose answer was lost is cleared up before anybody claims again.

    Args:
        pools: as they are at first.
        limits: the numbers that bound them.
        now: the time at which they begin.
        do: takes the actions.
    """

    def __init__(self, pools: Sequence[Pool], limits: Limits, now: float, do: Callable[[e.Action], None]) -> None:
        self._pools, self._limits, self._do = tuple(pools), limits, do
        # Those of pools that are no more stay: their last workers may be at work for long.
        self._dispatches = {pool.name: Dispatch(pool, limits, now, do) for pool in pools}
        self._order = list(self._dispatches.values())  # of the present pools; whose turn it is to ask
        self._claiming = False

    def use(self, pools: Sequence[Pool], limits: Limits, now: float) -> None:
        """Go on with other pools or limits."""
        if pools == self._pools and limits is self._limits:
            return
        self._pools, self._limits = tuple(pools), limits
        for pool in pools:
            dispatch = self._dispatches.setdefault(pool.name, Dispatch(pool, limits, now, self._do))
            dispatch.use(pool, limits)
            dispatch.look_again(now)
        self._order = [self._dispatches[pool.name] for pool in pools]

    @property
    def spare(self) -> list[int]:
        """The keys that are claimed and on no lane."""
        return [pk for dispatch in self._dispatches.values() for pk in dispatch.spare]

    # ---- what happens

    def look_again(self, now: float) -> None:
        """Ask for work as soon as a worker has room: there may be some."""
        for dispatch in self._order:
            dispatch.look_again(now)

    def settled(self, member: Member, pks: Sequence[int], busy_s: float, members: Sequence[Member], now: float) -> None:
        """Note that a worker has done keys."""
        self._dispatches[member.pool].settled(pks, busy_s, now)
        if self._limits.exit_when_empty and self.at_rest(members):
            self.look_again(now)  # that may have been the last one

    def gone(self, pks: Collection[int], now: float) -> None:
        """Forget keys that are not ours any more."""
        for dispatch in self._dispatches.values():
            dispatch.gone(pks, now)

    def drop(self, pks: Collection[int], now: float) -> None:
        """Forget everything that is on no lane, and these keys: the source has given them to others."""
        for dispatch in self._dispatches.values():
            dispatch.spare.clear()
        self.gone(pks, now)

    def claimed(self, event: e.Claimed, members: Sequence[Member], now: float) -> None:
        """Take in the answer to a claim."""
        self._claiming = False
        self._dispatches[event.pool].claimed(event, now)
        if not event.pks and self._limits.exit_when_empty and self.at_rest(members):
            self._do(e.AskEmpty())

    def claim_failed(self, retry_at: float) -> None:
        """Ask again later: the source could not be reached."""
        self._claiming = False
        for dispatch in self._order:
            dispatch.claim_failed(retry_at)

    def put_back(self, member: Member, pks: Sequence[int]) -> None:
        """Take keys that a worker did not begin: they go to the next one of its pool."""
        self._dispatches[member.pool].put_back(pks)

    def refuse(self, pks: Collection[int], members: Sequence[Member]) -> None:
        """Give these of our keys back to the source, as far as no worker begins them."""
        for dispatch in self._order:
            own = [member.window for member in members if member.pool == dispatch.pool.name]
            dispatch.refuse(set(dispatch.spare).union(*own).intersection(pks))

    # ---- what is done

    def work(self, members: Sequence[Member], now: float) -> None:
        """Recall, send and claim what is due."""
        for dispatch, own in self._by_pool(members):
            dispatch.recall(own, now)
            dispatch.deal(own, now)
        if len(self._dispatches) > len(self._order):
            for dispatch in self._dispatches.values():
                if dispatch not in self._order:
                    dispatch.release(now)
        if self._claiming:
            return
        for dispatch, own in self._by_pool(members):
            if dispatch.claim(own, now):
                self._claiming = True
                self._order.remove(dispatch)
                self._order.append(dispatch)
                return

    def release(self, now: float) -> list[int]:
        """Give everything that is on no lane back to the source; return it."""
        return [pk for dispatch in self._dispatches.values() for pk in dispatch.release(now)]

    def at_rest(self, members: Sequence[Member]) -> bool:
        """Tell whether no key is in our possession."""
        return not any(member.window for member in members) and not self.spare

    def can_wait(self, members: Sequence[Member], seconds: float) -> bool:
        """Tell whether no pool's workers run out of work meanwhile, twice over."""
        return all(dispatch.can_wait(own, seconds) for dispatch, own in self._by_pool(members))

    def deadlines(self, members: Sequence[Member]) -> list[float]:
        """Return when something here is due while work is taken."""
        return [
            at
            for dispatch, own in self._by_pool(members)
            for at in dispatch.deadlines(own, claiming=self._claiming)
        ]  # fmt: skip

    def _by_pool(self, members: Sequence[Member]) -> Iterator[tuple[Dispatch, Sequence[Member]]]:
        """Yield each dispatch with its workers, in the order of their turns."""
        for dispatch in tuple(self._order):
            name = dispatch.pool.name
            yield dispatch, [member for member in members if member.pool == name]
