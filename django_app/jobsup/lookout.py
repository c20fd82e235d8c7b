"""When a supervisor looks for work: what it is told, what a glance says, and when wake-ups only get in the way."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from jobsup.sql import Statements
from jobsup.vigil import DEAF_LOOK_S, Vigil

GLANCE_MAX_S = 0.01
GLANCE_AGAIN_S = 60.0
"""After a glance at the queue that took longer than that nobody glances for a while, but claims."""


NOTHING_S = 12.0
"""For how long to believe that there is no ready job; a supervisor that hears looks every 10 s at the latest."""


class Nothing(NamedTuple):
    """A glance that found no ready job.

    Args:
        due_in_s: in how many seconds the next scheduled one is due, if there is any.
    """

    due_in_s: float | None


class Lookout:
    """What a supervisor knows of whether there is work.

    Args:
        sql: the statements of the database.
        listens: whether the settings say that supervisors are woken.
    """

    def __init__(self, sql: Statements, *, listens: bool) -> None:
        self._sql, self._listens = sql, listens
        self._vigil = Vigil(sql.poll_shortest_s)
        self._called = True  # since the last look; of what there was before nobody tells
        self._found = False  # at the last look
        self._unheard = False  # a glance saw work of which nobody had told
        self._glance_at = 0.0  # not before: the last one took too long
        self._nothing_at = -math.inf  # when a glance last found no ready job; nobody has called since then
        self._hush_again = False  # the connection was closed over which this supervisor hushed

    @property
    def hears(self) -> bool:
        """Whether we are told of what others do, as far as the database can do that."""
        return self._listens and self._sql.hears

    @property
    def found(self) -> bool:
        """Whether the last look found anything."""
        return self._found

    def woken(self) -> bool:
        """Tell whether anybody has called; over a connection that is open."""
        times = self._sql.woken()
        self._vigil.called(times, time.monotonic())
        if times:
            self._called, self._nothing_at = True, -math.inf
        return times > 0

    @property
    def sees_nothing(self) -> bool:
        """Whether there is no ready job, by a glance of just now."""
        return time.monotonic() < self._nothing_at + NOTHING_S

    def disconnected(self) -> None:
        """Note that the connection is about to be closed."""
        self._hush_again = self._sql.hushing

    def must_come_back(self) -> bool:
        """Tell, once after the connection was closed, whether another one is needed at once: nobody is to be woken."""
        again, self._hush_again = self._hush_again, False
        return again

    @property
    def must_speak(self) -> bool:
        """Whether those who enqueue are to be asked to wake nobody, or to do so again."""
        return self._vigil.hushes(time.monotonic()) != self._sql.hushing

    def speak(self) -> None:
        """Ask them, over a connection that is open."""
        if self.must_speak:
            self._sql.hush(wanted=not self._sql.hushing)

    def glance(self, queues: list[str] | None) -> Nothing | None:
        """Return that there is nothing; None if a claim has to tell.

        One statement is enough where the last look found nothing and nobody has called.
        """
        called, self._called = self._called, False
        begun, self._nothing_at, self._unheard = time.monotonic(), -math.inf, False
        if called or self._found or begun < self._glance_at:
            return None
        worth_while, due_in_s = self._sql.glance(queues)
        if time.monotonic() > begun + GLANCE_MAX_S:  # perhaps dead entries, that only a claim can step over
            self._glance_at = time.monotonic() + GLANCE_AGAIN_S
        if worth_while:
            self._unheard = True
            return None
        self._nothing_at = begun
        return Nothing(due_in_s)

    def looked(self, *, found: bool, unheard: bool = False) -> None:
        """Note how a look ended.

        Args:
            found: whether it took any job.
            unheard: whether it learned of a scheduled one of which nobody had told.
        """
        self._found = found
        told_of_all, others = self.hears and self._sql.wakes_everywhere, self._sql.hushed_by_others
        unheard, self._unheard = unheard or (found and self._unheard), False
        now = time.monotonic()
        self._vigil.looked(now, found=found, told_of_all=told_of_all, others_hush=others, unheard=unheard)

    def pause_s(self) -> float:
        """Return in how many seconds to look again if nothing wakes the supervisor."""
        longest_s = self._sql.poll_interval_s
        return self._vigil.pause_s(time.monotonic(), longest_s if self.hears else min(DEAF_LOOK_S, longest_s))
