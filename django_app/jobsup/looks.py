"""Which pools have a reason to look for work, where the database tells every change. Pure."""

from __future__ import annotations

from collections.abc import Mapping


class Looks:
    """What each pool found when it last looked: a look costs a statement that writes."""

    def __init__(self) -> None:
        self._news = 0
        self._found_nothing: dict[str, tuple[int, Mapping[str, int]]] = {}

    def news(self) -> None:
        """Note that there may be work for any pool."""
        self._news += 1

    def worth_while(self, pool: str, rooms: Mapping[str, int]) -> bool:
        """Tell whether a pool may find anything that it has not looked for in vain.

        Args:
            pool: its name.
            rooms: how many jobs it may take of each queue that has a limit there.
        """
        if pool not in self._found_nothing:
            return True
        news, rooms_then = self._found_nothing[pool]
        return news < self._news or any(room > rooms_then.get(queue, 0) for queue, room in rooms.items())

    def looked(self, pool: str, rooms: Mapping[str, int], *, found: bool) -> None:
        """Note how a pool's look ended."""
        if found:
            self._found_nothing.pop(pool, None)
        else:
            self._found_nothing[pool] = self._news, dict(rooms)
