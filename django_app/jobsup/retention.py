"""Removing jobs that ended long ago: in small steps along the primary key, by one supervisor at a time.

No index knows when jobs ended: it would cost every finish, and this has time. Keys grow with the age of jobs, so what
may go stands mostly at the beginning of the walk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import DatabaseError

from jobsup.keep import DAY_S, Keep
from jobsup.models import Supervisor
from jobsup.runs import OVER
from jobsup.sql.pruning import Step, prune_step
from jobsup.store import Store

SPAN = 5000
"""How many jobs one step looks at at most: about 5 ms."""

MOST = 1000
"""How many jobs one step removes at most: about 20 ms."""

STEP_S = 0.05
"""How long a step may take before the next ones become smaller."""

SCALE_MIN = 0.02
"""How much smaller they become at most."""

SHARE = 0.2
"""How much of its time a supervisor spends on this at most."""

FIRST_S = 5.0
"""How long a supervisor is at work before it begins with this."""

REST_S = 60.0
"""How often one looks where nothing changes, and who it is that looks."""

PASS_MAX_S = 3600.0
"""How late the end of its time is noticed of a job, in a table of any size."""

_log = logging.getLogger("jobsup.supervisor")


def prune(
    store: Store, keep: Keep, *, own: bool = True, look: bool = False, told: Callable[[int, int], None] | None = None
) -> int:
    """Remove jobs that ended long ago, now and all of them, in steps that each commit by themselves.

    Args:
        store: the jobs.
        keep: how long they are kept; None leaves jobs with such an end alone.
        own: whether what a job's task says of this, its option `keep`, goes before that.
        look: whether to count them and remove nothing.
        told: called after each step with the numbers of jobs seen and removed (or counted) so far.

    Returns:
        How many were removed (or counted).
    """
    place = seen = gone = 0
    while True:
        step = prune_step(store.sql, place, keep, own=own, look=look, span=SPAN, most=MOST)
        seen, gone = seen + step.seen, gone + step.gone
        if told is not None and step.seen:
            told(seen, gone)
        if step.place is None:
            return gone
        place = step.place


class Pace:
    """When the next step is due, and how large it is. Pure.

    Args:
        keep: how long jobs are kept.
    """

    def __init__(self, keep: Keep) -> None:
        shortest_s = min((kept_s for kept_s in keep if kept_s is not None), default=30 * DAY_S)
        self._pass_s = min(PASS_MAX_S, max(REST_S, shortest_s / 24))
        self._steps = 0  # of this pass
        self._before: int | None = None  # steps of the pass before
        self.scale = 1.0

    def after(self, step: Step, took_s: float) -> float:
        """Take in a step and return in how many seconds the next one is due."""
        self.scale = max(SCALE_MIN, self.scale / 2) if took_s > STEP_S else min(1.0, self.scale * 1.5)
        self._steps += 1
        breath_s = max(0.02, took_s * (1 / SHARE - 1))
        if step.place is None:
            self._before, self._steps = self._steps, 0
            return max(breath_s, self._rest_s())
        return breath_s if step.full else max(breath_s, self._rest_s())

    def _rest_s(self) -> float:
        """Return the pause between steps that only look, so that a pass takes as long as it shall."""
        return 1.0 if self._before is None else min(REST_S, self._pass_s / self._before)


class Pruning:
    """A supervisor's part in it: does a step when one is due, as long as it is the oldest one alive.

    Args:
        store: the jobs.
        keep: how long jobs are kept.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, store: Store, keep: Keep, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._keep, self._clock = store, keep, clock
        self._pace = Pace(keep)
        self._place = 0
        self._mine_until = 0.0
        self.due_at = clock() + FIRST_S
        """When to call `turn` again, on that clock."""

    def turn(self, run: int) -> int:
        """Do a step if one is due; return how many jobs it removed.

        Args:
            run: id of this supervisor's run.
        """
        began_at = self._clock()
        if began_at < self.due_at:
            return 0
        self.due_at = began_at + REST_S  # also where the database does not answer
        if began_at >= self._mine_until:
            if self._oldest() != run:
                self._place = 0
                return 0
            self._mine_until = began_at + REST_S
        scale = self._pace.scale
        span, most = int(SPAN * scale), int(MOST * scale)
        try:
            step = prune_step(self._store.sql, self._place, self._keep, own=True, look=False, span=span, most=most)
        except DatabaseError:  # it may well have taken too long
            self._pace.scale = max(SCALE_MIN, scale / 4)
            raise
        self._place = step.place or 0
        now = self._clock()
        self.due_at = now + self._pace.after(step, now - began_at)
        if step.gone:
            _log.debug("removed %d jobs that had ended long ago", step.gone)
        return step.gone

    def _oldest(self) -> int | None:
        runs = Supervisor.objects.using(self._store.alias).exclude(state__in=OVER)
        return runs.order_by("pk").values_list("pk", flat=True).first()
