"""What there is of schedules, to be shown."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from jobsup.models import Schedule
from jobsup.schedules.rhythm import upcoming
from jobsup.schedules.rows import aware, rhythm_of
from jobsup.store import Store


class Shown(NamedTuple):
    """A schedule.

    Args:
        name: what it is called.
        task: dotted path.
        arguments: JSON, as in `Job`.
        rhythm: the cron expression, or e.g. "every 0:05:00".
        timezone: name of the zone that a cron expression means; empty for an interval.
        catch_up: "latest", "all" or "none".
        enabled: whether it is in use.
        from_code: whether it is declared beside its task; else somebody made it.
        last_at: the latest moment that was seen to, aware; None if there was none.
        next_at: its next moments, aware; none if it is not in use or cannot be.
        trouble: why it cannot be in use; empty if it can.
    """

    name: str
    task: str
    arguments: str
    rhythm: str
    timezone: str
    catch_up: str
    enabled: bool
    from_code: bool
    last_at: datetime | None
    next_at: list[datetime]
    trouble: str


def overview(store: Store, *, count: int = 3) -> list[Shown]:
    """Return every schedule with its next moments, the one that is due first at first.

    Args:
        store: the jobs.
        count: of moments.
    """
    now = aware(store.sql.now())
    shown = [show(row, now, count) for row in Schedule.objects.using(store.alias).all()]
    return sorted(shown, key=lambda one: (not one.next_at, one.next_at[:1], one.name))


def show(row: Schedule, now: datetime, count: int) -> Shown:
    """Return one schedule with its moments after `now`."""
    rhythm, trouble = rhythm_of(row), ""
    try:
        rhythm.check()
    except ValueError as error:
        trouble = str(error)
    if not trouble and row.job is None:
        trouble = "no worker has seen to it yet, or its task does not exist"
    return Shown(
        name=row.name,
        task=row.task,
        arguments=row.arguments,
        rhythm=str(rhythm),
        timezone=rhythm.timezone if row.cron else "",
        catch_up=row.catch_up,
        enabled=row.enabled,
        from_code=row.from_code,
        last_at=None if row.last_at is None else aware(row.last_at),
        next_at=upcoming(rhythm, now, count) if row.enabled and not trouble else [],
        trouble=trouble,
    )
