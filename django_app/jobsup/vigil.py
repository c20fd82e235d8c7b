"""How often a supervisor looks for work, and whether it wants to be woken meanwhile. Pure.

To be woken is the quickest way to learn of work as long as that is seldom. When it happens all the time it only holds
those up who enqueue (on PostgreSQL transactions that notify commit one after the other), and the supervisor would find
what there is by looking: so it then asks not to be woken, and looks often until it has become quiet.
"""

from __future__ import annotations

import math

CALLS_MAX, WINDOW_S = 10, 0.1
"""Being woken more often than this is too often: 100 a second, with commits of 1 ms a tenth of all the time."""

HUSH_S = 10.0
"""How long not to be woken before it is tried again. A trial costs as many slow commits as `CALLS_MAX`."""

QUIET_S = 0.2
"""After finding nothing for this long it is time to be woken again."""

HUSHED_LOOK_MAX_S = 0.1
"""How often to look at least while nobody is woken, also when it is another supervisor that does not want that."""

DEAF_LOOK_S = 1.0
"""How often to look at least where work comes from of which nobody tells."""

ELSEWHERE_S = 86400.0
"""For how long to expect more such work after some was found, where only those on the same machine can call."""

SHARE = 1 / 4
"""The pause before the next look, as a share of the time since there was work: so late is what has waited as long."""


class Vigil:
    """When to look next.

    What was enqueued while nobody was woken may be committed much later. Therefore the looks become rarer only little
    by little afterwards: a job that was committed T seconds after its INSERT begins up to about T / 4 seconds later.

    Args:
        shortest_s: the pause between two looks right after there was work, in seconds.
    """

    def __init__(self, shortest_s: float) -> None:
        self._shortest_s = shortest_s
        self._window_at, self._calls = -math.inf, 0
        self._hushed_until = self._busy_at = self._elsewhere_at = -math.inf
        self._others_hush = False

    def called(self, times: int, now: float) -> None:
        """Note that the supervisor was woken."""
        if now >= self._window_at + WINDOW_S:
            self._window_at, self._calls = now, 0
        self._calls += times
        if self._calls > CALLS_MAX:
            self._hushed_until, self._busy_at, self._calls = now + HUSH_S, now, 0

    def hushes(self, now: float) -> bool:
        """Tell whether the supervisor does not want to be woken."""
        return now < self._hushed_until

    def looked(
        self, now: float, *, found: bool, told_of_all: bool, others_hush: bool = False, unheard: bool = False
    ) -> None:
        """Note how a look for work ended.

        Args:
            now: when.
            found: whether there was any.
            told_of_all: whether the supervisor is woken by whoever enqueues, but for those who were asked not to.
            others_hush: whether another supervisor asked for that; known after a look that found nothing.
            unheard: whether there is work that was not there at the look before, and nobody has called.
        """
        if unheard and not told_of_all:
            self._elsewhere_at = now
        if found and (self.hushes(now) or self._others_hush or not told_of_all):
            self._busy_at = now
        elif not found:
            self._others_hush = others_hush
            if self.hushes(now) and now >= self._busy_at + QUIET_S:
                self._hushed_until = now

    def pause_s(self, now: float, longest_s: float) -> float:
        """Return in how many seconds to look again if nothing wakes the supervisor.

        Args:
            now: when that is asked.
            longest_s: the pause when there has been nothing for long, in seconds.
        """
        if self.hushes(now) or self._others_hush:
            longest_s = min(longest_s, HUSHED_LOOK_MAX_S)
        elif now < self._elsewhere_at + ELSEWHERE_S:
            longest_s = min(longest_s, DEAF_LOOK_S)
        return min(longest_s, max(self._shortest_s, (now - self._busy_at) * SHARE))
