"""What a worker does for schedules: it knows the code, so it brings the rows up to date with it."""

from __future__ import annotations

import json
import logging
from typing import Any

from django.db import DatabaseError, InterfaceError

from jobsup import homes
from jobsup.errors import TaskNotFound
from jobsup.models import Schedule
from jobsup.registry import find_task
from jobsup.schedules.declared import declared
from jobsup.schedules.rows import RHYTHM, WAKE, job_text, values_of
from jobsup.store import Store
from jobsup.task import JobsupTask
from jobsup.text import summary

_log = logging.getLogger("jobsup.worker")


class Sync:
    """Brings the rows up to date once, as soon as the database lets it.

    Args:
        store: the jobs.
        wanted: whether to do it at all.
        complete: whether every module of tasks could be imported; else no schedule counts as gone.
    """

    def __init__(self, store: Store, *, wanted: bool, complete: bool) -> None:
        self._store, self._complete = store, complete
        self._done = not wanted

    def attempt(self) -> None:
        """Do it unless it is done; the database may be away."""
        if self._done:
            return
        try:
            sync(self._store, complete=self._complete, home=self._store.alias)
        except (DatabaseError, InterfaceError) as error:
            _log.debug("the schedules are not brought up to date yet: %s", error)
        else:
            self._done = True


def sync(store: Store, *, complete: bool = True, home: str | None = None) -> None:
    """Make the rows say what this process's code declares; nothing is written where they do.

    Args:
        store: the jobs.
        complete: whether what is not declared is gone.
        home: whose backends' schedules are meant, the alias of a database; None for all.
    """
    rows = {row.name: row for row in Schedule.objects.using(store.alias).all()}
    new, changed = [], {}
    known = {name: one for name, one in declared().items() if home in (None, homes.of(one.task.backend))}
    for name, one in known.items():
        try:
            values = values_of(one)
        except Exception as error:  # noqa: BLE001  # a callable of the task's made its unique key
            _log.warning("schedule %s is left as it was, its jobs cannot be enqueued: %s", name, summary(error))
            continue
        if (row := rows.get(name)) is None:
            new.append(Schedule(name=name, from_code=True, **values))
        elif not row.from_code:
            _log.warning("schedule %s is declared in the code, and somebody made one of that name: theirs counts", name)
        elif differing := _differing(row, values):
            changed[name] = differing
    changed |= {row.name: {"job": text} for row in rows.values() if not row.from_code and (text := _refreshed(row))}
    gone = [row.name for row in rows.values() if complete and row.from_code and row.name not in known]
    if new or changed or gone:
        _write(store, new, changed, gone)


def _differing(row: Schedule, values: dict[str, Any]) -> dict[str, Any]:
    differing = {name: value for name, value in values.items() if getattr(row, name) != value}
    if not {*RHYTHM}.isdisjoint(differing):
        differing["next_at"] = None  # a supervisor finds it anew, from now on
    return differing


def _refreshed(row: Schedule) -> str | None:
    """Return what a row that was made by hand has to keep of its jobs now; None if that is what it does."""
    try:
        task = find_task(row.task)
        given = json.loads(row.arguments)
        text = job_text(task, given["args"], given["kwargs"]) if isinstance(task, JobsupTask) else None
    except TaskNotFound:
        return None  # its jobs say so
    except Exception as error:  # noqa: BLE001  # whatever stands in the row
        _log.warning("schedule %s is left as it was, its jobs cannot be enqueued: %s", row.name, summary(error))
        return None
    return None if text == row.job else text


def _write(store: Store, new: list[Schedule], changed: dict[str, dict[str, Any]], gone: list[str]) -> None:
    rows = Schedule.objects.using(store.alias)

    def written() -> None:
        if gone and rows.filter(name__in=gone, from_code=True).delete()[0]:
            _log.warning("schedules that the code does not declare any more were removed: %s", ", ".join(sorted(gone)))
        if new:  # another worker may have been quicker
            rows.bulk_create(new, ignore_conflicts=True)
        for name, values in changed.items():
            rows.filter(name=name).update(**values)
        store.sql.notify(WAKE)

    store.sql.together(written)
