"""Which numbered places there are, and to which pool each belongs. Pure; part of the machine.

A place keeps its pool as long as anybody holds it; new ones take the lowest numbers that are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from spawnpool.pools import Pool
from spawnpool.slots import Slot


class Places:
    """The places of all pools.

    Args:
        pools: as they are at first.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = tuple(pools)
        self.sizes = {pool.name: pool.workers for pool in pools}
        """How many workers are wanted in each pool."""
        self.slots: dict[int, Slot] = {}
        """Every place that is wanted, and those that are not while somebody still holds them."""
        self._wanted: dict[int, Slot] = {}
        self._arrange()

    def wanted(self) -> list[Slot]:
        """Return the places that are to be filled, in order."""
        return list(self._wanted.values())

    def is_wanted(self, number: int) -> bool:
        """Tell whether a place is to be filled."""
        return number in self._wanted

    def surplus(self) -> list[Slot]:
        """Return the places that are held and not wanted any more."""
        return [slot for number, slot in self.slots.items() if number not in self._wanted]

    def resize(self, by: int) -> bool:
        """Want some workers more or fewer in the only pool; at least one is kept. Tell whether that changed anything.

        Args:
            by: how many more.
        """
        [(name, size)] = self.sizes.items()
        self.sizes[name] = max(1, size + by)
        self._arrange()
        return self.sizes[name] != size

    def use(self, pools: Sequence[Pool]) -> None:
        """Go on with other pools; by how much one was resized is added to its new size."""
        resized = {pool.name: self.sizes[pool.name] - pool.workers for pool in self.pools}
        self.pools = tuple(pools)
        self.sizes = {pool.name: max(1, pool.workers + resized.get(pool.name, 0)) for pool in pools}
        self._arrange()

    def forget(self) -> list[int]:
        """Forget the places that are neither wanted nor held; return their numbers."""
        gone = [slot.number for slot in self.surplus() if slot.wid is None and slot.trial is None]
        for number in gone:
            del self.slots[number]
        return gone

    def _arrange(self) -> None:
        wanted: dict[int, Slot] = {}
        for name, size in self.sizes.items():
            own = sorted(number for number, slot in self.slots.items() if slot.pool == name)
            while len(own) < size:
                number = next(number for number in count(1) if number not in self.slots)
                self.slots[number] = Slot(number, name)
                own.append(number)
            wanted |= {number: self.slots[number] for number in own[:size]}
        self._wanted = dict(sorted(wanted.items()))
