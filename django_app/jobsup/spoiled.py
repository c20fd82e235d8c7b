"""Rows that somebody has spoiled so that they cannot even be read: such a job ends with a reason and hinders no other.

PostgreSQL has moments that Python lacks, such as 'infinity', and SQLite takes any value into any column.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import DataError, models
from django.db.models import Max, QuerySet

from jobsup.models import FailedAttempt, Job, Status
from jobsup.sql import statements

if TYPE_CHECKING:
    from jobsup.sql import LoadedRow
    from jobsup.store import Store

UNREADABLE = (DataError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""How reading a row fails, here or in the driver."""
ATTEMPT_MAX = 32_767
"""Where the column of the attempt's number ends."""

_KINDS: dict[type[models.Field[Any, Any]], type] = {
    models.BigAutoField: int,
    models.BigIntegerField: int,
    models.SmallIntegerField: int,
    models.BooleanField: bool,
    models.CharField: str,
    models.DateTimeField: datetime,
    models.TextField: str,
}
_log = logging.getLogger("jobsup.worker")


def load(store: Store, pks: Sequence[int], run: int) -> list[tuple[LoadedRow, list[FailedAttempt]]]:
    """Return jobs of a run as `Store.get_many` does; those that cannot be read are ended instead."""
    try:
        found = store.get_many(pks)
        bad = set() if store.sql.keeps_types else {row.id for row, _ in found if not _is_sound(row)}
    except UNREADABLE:
        if len(pks) > 1:
            return [each for pk in pks for each in load(store, [pk], run)]
        found, bad = [], {*pks}
    if not bad:
        return found
    for pk in bad:
        end(store.alias, pk, run, store.sql.now())
    return [each for each in found if each[0].id not in bad]


def end(alias: str, pk: int, run: int, now: datetime) -> bool:
    """End a job whose row cannot be read, if that run has it; what cannot be read is emptied.

    Args:
        alias: of the database.
        pk: the job.
        run: whose it must be.
        now: the database's clock.
    """
    jobs = Job.objects.using(alias).filter(pk=pk, claimed_by=run, status=Status.RUNNING)
    if not jobs.exists():
        return False
    emptied = _emptied(jobs, now)
    words = f"the row of the job cannot be read: somebody has changed {', '.join(emptied) or 'it'} by hand"
    failures = FailedAttempt.objects.using(alias).filter(job_id=pk)
    latest: int = failures.aggregate(latest=Max("attempt"))["latest"] or 0
    attempt = min(latest + 1, ATTEMPT_MAX)

    def ended() -> bool:
        if not jobs.update(**{**emptied, "status": Status.FAILED, "attempt": attempt, "finished_at": now}):
            return False
        failures.filter(attempt=attempt).delete()
        failures.create(
            job_id=pk, attempt=attempt, worker="", ended_at=now, traceback=words,
            exception_class_path="jobsup.errors.RowUnreadable",
        )  # fmt: skip
        return True

    if not statements(alias).together(ended):
        return False
    _log.error("job %d is failed: %s", pk, words)
    return True


def _is_sound(row: LoadedRow) -> bool:
    """Tell whether what everybody counts on is what it should be; what is in the texts is the job's own affair."""
    texts: Sequence[object] = row.task, row.queue, row.backend, row.arguments, row.options or ""
    numbers: Sequence[object] = row.attempt, row.uncounted, row.max_attempts or 0
    moment: object = row.enqueued_at
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(moment, datetime)
    )


def _emptied(jobs: QuerySet[Job], now: datetime) -> dict[str, Any]:
    """Return the columns of a row that cannot be read, with what they hold instead."""
    found: dict[str, Any] = {}
    for field in Job._meta.concrete_fields:  # noqa: SLF001  # public, whatever its name says
        kind = _KINDS[type(field)]
        try:
            value: Any = jobs.values_list(field.attname, flat=True).get()
            sound = isinstance(value, kind) or (value is None and field.null)
        except UNREADABLE:
            sound = False
        if not sound:
            found[field.attname] = None if field.null else now if kind is datetime else kind()
    return found
