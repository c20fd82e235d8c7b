"""Schedules as rows: what a row means, and what has to be in it so that a supervisor can enqueue its jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone

from jobsup.models import Schedule
from jobsup.schedules.declared import Declared, check_arguments
from jobsup.schedules.rhythm import Rhythm
from jobsup.sql import NewRow
from jobsup.unique import key_of

RHYTHM = ("cron", "interval_s", "timezone")
WAKE = "schedules"
"""The word that tells supervisors of a change."""

_OF_THE_TICK = ("run_after", "schedule", "tick_at")


def rhythm_of(row: Schedule) -> Rhythm:
    """Return what a row's moments follow."""
    return Rhythm(row.cron, row.interval_s, row.timezone or settings.TIME_ZONE or "UTC")


def job_text(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return what a row keeps of the jobs of a task.

    Raises:
        TypeError, ValueError: such a job cannot be enqueued.
    """
    row = task.get_backend().new_row(task, check_arguments(task, args, kwargs))
    row = row._replace(unique_key=key_of(task, args, kwargs), unique_running=task.unique_while == "running")
    return json.dumps({name: value for name, value in row._asdict().items() if name not in _OF_THE_TICK})


def job_of(row: Schedule, tick: datetime) -> NewRow:
    """Return the job of a row for one moment."""
    assert row.job is not None, "a row without a job was not left out"
    return NewRow(**json.loads(row.job), run_after=None, schedule=row.name, tick_at=stored(tick))


def values_of(declared: Declared) -> dict[str, Any]:
    """Return what the row of a declared schedule has to say.

    Raises:
        TypeError, ValueError: it cannot be enqueued.
    """
    schedule = declared.schedule
    text = job_text(declared.task, schedule.args, schedule.kwargs)
    return {
        "task": declared.task.module_path,
        "arguments": json.loads(text)["arguments"],
        **schedule.rhythm()._asdict(),
        "catch_up": schedule.catch_up,
        "job": text,
    }


def aware(moment: datetime) -> datetime:
    """Return a moment of the database as one that the rhythms know."""
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def stored(moment: datetime | None) -> datetime | None:
    """Return a moment as this project's settings write it."""
    return moment if moment is None or settings.USE_TZ else timezone.make_naive(moment)
