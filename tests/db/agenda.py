"""Schedules for the tests: how to declare them, put them back and look at what came of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobsup import task
from jobsup.models import Job, Schedule
from jobsup.schedules import declared as declared_module
from jobsup.schedules.rhythm import upcoming
from jobsup.schedules.rows import aware, rhythm_of, stored

if TYPE_CHECKING:
    from jobsup.store import Store

HOUR = timedelta(hours=1)
BROKEN = "broken on purpose"


def scheduled(number: int, name: str = "") -> int:
    """Return a number."""
    return number


def key_that_breaks(*args: Any) -> str:
    """Make no key."""
    raise ValueError(BROKEN)


def row(store: Store, name: str = "hourly") -> Schedule:
    """Return a schedule as it stands."""
    return Schedule.objects.using(store.alias).get(pk=name)


def half_an_hour_away() -> str:
    """Return an hourly expression whose moments are far from now: no test runs into one."""
    return f"{(datetime.now(UTC).minute + 30) % 60} * * * *"


def put_back(store: Store, hours: float, name: str = "hourly") -> datetime:
    """Have a schedule's next moment lie in the past, as after so many hours without supervisors; return it.

    That is the latest one there was, or as many hours before that; -1 stands for the one to come.
    """
    [following] = upcoming(rhythm_of(row(store, name)), aware(store.sql.now()), 1)
    next_at = following - (hours + 1) * HOUR
    assert Schedule.objects.using(store.alias).filter(pk=name).update(next_at=stored(next_at)) == 1
    return next_at


def jobs(store: Store) -> list[Job]:
    """Return the jobs, oldest first."""
    return list(Job.objects.using(store.alias).order_by("pk"))


def ticks(store: Store) -> list[datetime]:
    """Return the moments that jobs were enqueued for, in order of the jobs."""
    return [aware(job.tick_at) for job in jobs(store) if job.tick_at is not None]


def declare(*schedules: Any, **options: Any) -> None:
    """Declare schedules of one task, in place of those before, as another release of the code would."""
    declared_module._declared.clear()
    if schedules:
        task(schedule=list(schedules), **options)(scheduled)
