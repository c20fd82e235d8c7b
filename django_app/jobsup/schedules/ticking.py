"""What a supervisor does for schedules: it enqueues a job for each of their moments.

Every supervisor does, and none leads: a job and the step of its schedule to the next moment are one transaction, which
begins by moving `next_at` on from where it was seen. Who comes second finds it moved. Should it ever be moved back, the
table's unique constraint on schedule and moment still has each moment once, for as long as its job is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from django.db import DatabaseError

from jobsup.models import Job, Schedule
from jobsup.schedules.rhythm import CATCH_UP_MAX, Due, due
from jobsup.schedules.rows import WAKE, aware, job_of, rhythm_of, stored
from jobsup.store import Store

LOOK_S = 30.0
LOOK_UNTOLD_S = 5.0
"""How late a change is noticed that nobody told of."""

PUT_OFF_S = 10.0
"""How long a schedule waits whose turn the database refused; the others go on."""

TURN_MAX = 50
"""How many schedules have their turn before the supervisor looks after its workers again."""

_log = logging.getLogger("jobsup.supervisor")


class Ticking:
    """The schedules of one database, as a supervisor knows them.

    Args:
        store: the jobs.
        told: whether changes are told by a notification.
        wanted: whether to do anything.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, store: Store, *, told: bool, wanted: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._clock = store, clock
        self._look_s = LOOK_S if told else LOOK_UNTOLD_S
        self._look_at: float | None = clock() if wanted else None
        self._rows: dict[str, tuple[Schedule, float]] = {}  # with the time of its next moment on the clock
        self._complaints: dict[str, str] = {}

    @property
    def due_at(self) -> float | None:
        """When to call `turn` again, on the clock; None for never."""
        times = [at for _, at in self._rows.values()]
        return None if self._look_at is None else min([self._look_at, *times])

    def look(self) -> None:
        """Read the rows with the next turn: there was a change."""
        if self._look_at is not None:
            self._look_at = self._clock()

    def turn(self) -> int:
        """Do what is due, without a statement where nothing is; return how many jobs were enqueued."""
        if self._look_at is None:
            return 0
        if self._store.sql.heard(WAKE) or self._clock() >= self._look_at:
            self._read()
        began_at = self._clock()
        names = sorted((at, name) for name, (_, at) in self._rows.items() if at <= began_at)[:TURN_MAX]
        return sum(self._tick(name) for _, name in names)

    def _read(self) -> None:
        self._look_at = self._clock() + self._look_s
        rows = list(Schedule.objects.using(self._store.alias).filter(enabled=True))
        now = aware(self._store.sql.now()) if rows else None
        self._rows = {}
        for row in rows:
            assert now is not None
            if (complaint := self._first_moment(row, now)) is not None and self._complaints.get(row.name) != complaint:
                _log.warning("schedule %s is left out: %s", row.name, complaint)
                self._complaints[row.name] = complaint
            elif complaint is None:
                self._complaints.pop(row.name, None)
                self._keep(row, now)

    def _first_moment(self, row: Schedule, now: datetime) -> str | None:
        """See to it that a row has its next moment; return why it cannot have any."""
        if row.job is None:
            return "no worker has seen to it yet, or its task does not exist"
        try:
            rhythm = rhythm_of(row)
            rhythm.check()
            job_of(row, now)
        except ValueError as error:
            return str(error)
        except TypeError as error:
            return f"its jobs are those of another version: {error}"
        if row.next_at is None:
            row.next_at = stored(next(rhythm.after(now), None))
            rows = Schedule.objects.using(self._store.alias).filter(pk=row.pk, next_at=None)
            if not self._store.sql.insisting(partial(rows.update, next_at=row.next_at)):
                self.look()  # another supervisor was quicker
        return None

    def _keep(self, row: Schedule, now: datetime) -> None:
        """Remember a row until its next moment."""
        if row.next_at is None:
            self._rows.pop(row.name, None)
        else:
            self._rows[row.name] = row, self._clock() + (aware(row.next_at) - now).total_seconds()

    def _tick(self, name: str) -> int:
        """Enqueue the jobs of a schedule that are due; return how many."""
        row, _ = self._rows[name]
        assert row.next_at is not None
        now = aware(self._store.sql.now())
        verdict = due(rhythm_of(row), aware(row.next_at), now, row.catch_up)
        if verdict.last_at is None:  # a moment too early, by the database's clock
            self._keep(row, now)
            return 0
        try:
            jobs = self._enqueue(row, verdict)
        except (DatabaseError, TypeError, ValueError) as error:
            if isinstance(error, DatabaseError) and not self._store.sql.connection.is_usable():
                raise
            _log.warning("schedule %s is put off for %g s: %s", name, PUT_OFF_S, error)
            self._rows[name] = row, self._clock() + PUT_OFF_S
            return 0
        if jobs is None:  # another supervisor was quicker, or somebody has changed it
            del self._rows[name]
            self.look()
            return 0
        row.next_at = stored(verdict.next_at)
        self._keep(row, now)
        if verdict.missed:
            _log.warning("schedule %s: %s", name, _missed(row, verdict))
        return jobs

    def _enqueue(self, row: Schedule, verdict: Due) -> int | None:
        """Insert the jobs and move on, in one transaction; None if the schedule is not where it was any more."""
        alias = self._store.alias
        rows = Schedule.objects.using(alias).filter(pk=row.pk, enabled=True)

        def moved_on() -> int | None:
            seen = rows.filter(next_at=row.next_at)
            if not seen.update(next_at=stored(verdict.next_at), last_at=stored(verdict.last_at)):
                return None
            row.job = rows.values_list("job", flat=True).get()  # as it is now
            done = Job.objects.using(alias).filter(schedule=row.name)
            enqueued = 0
            for tick in verdict.ticks if row.job is not None else ():
                if done.filter(tick_at=stored(tick)).exists():
                    continue
                job = job_of(row, tick)
                if job.unique_key is None:
                    self._store.enqueue(job)
                    enqueued += 1
                else:
                    enqueued += self._store.enqueue_unique(job, replace=False)[1] is not None
            return enqueued

        return self._store.sql.together(moved_on)


def _missed(row: Schedule, verdict: Due) -> str:
    if row.catch_up == "all":
        return f"older missed moments than the newest {CATCH_UP_MAX} are left out"
    least = "at least " if verdict.missed >= CATCH_UP_MAX else ""
    return f"missed moments are left out: {least}{verdict.missed} (catch_up is {row.catch_up!r})"
