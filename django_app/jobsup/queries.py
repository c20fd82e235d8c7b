"""Reading jobs for people: filters, lists, tallies and the whole story of one job; nothing here writes.

All of it stays cheap on a table of a million jobs: what is shown is limited, what is counted is counted up to
`COUNTED_MAX`, and the statuses that the partial indexes know are found by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import Exists, OuterRef, Q, QuerySet

from jobsup.backend import pk_of
from jobsup.models import FailedAttempt, Job, Status, Supervisor, label_of
from jobsup.runs import OVER
from jobsup.store import Store

COUNTED_MAX = 100_000
"""How far anything is counted: that takes about 10 ms on PostgreSQL where an index has it."""
BATCH = 500
"""How many keys one statement takes."""
OPEN = (Status.READY, Status.SCHEDULED, Status.RUNNING)
ENDED = (Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED)
LISTED = (
    "id", "task", "queue", "status", "priority", "attempt", "uncounted", "max_attempts", "enqueued_at", "run_after",
    "started_at", "last_attempted_at", "finished_at", "cancel_asked_at", "worker",
)  # fmt: skip
"""What a list reads; arguments and results may be long."""
GROUPED = """
    SELECT task, status, count(*) AS number FROM ({jobs}) AS jobs GROUP BY task, status
    ORDER BY number DESC, task, status
"""
_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which jobs are meant; what is left empty leaves nothing out.

    Args:
        ids: these only.
        task: dotted path of the task or of what it stands in, or a pattern with `*` and `?`.
        queues: in one of these.
        statuses: in one of these.
        older_s: at least so old, in seconds.
        newer_s: at most so old, in seconds.
        error: a text in the class or the traceback of the latest error, in small or capital letters.
    """

    ids: tuple[int, ...] = ()
    task: str | None = None
    queues: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    older_s: float | None = None
    newer_s: float | None = None
    error: str | None = None

    def names_ids_only(self) -> bool:
        """Tell whether somebody named each job."""
        return bool(self.ids) and self == Filters(ids=self.ids)

    def of(self, statuses: Sequence[Status]) -> Filters:
        """Return the same, for jobs in these statuses."""
        return replace(self, statuses=tuple(statuses))

    def __bool__(self) -> bool:
        return self != Filters()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many jobs of which task and status; `more` when the counting was given up at `COUNTED_MAX`."""

    count: int
    more: bool
    groups: tuple[tuple[str, Status, int], ...]

    def by_status(self) -> dict[Status, int]:
        """Return how many there are of each status."""
        sums: dict[Status, int] = {}
        for _, status, number in self.groups:
            sums[status] = sums.get(status, 0) + number
        return sums


def matching(store: Store, filters: Filters, *, age_of: str = "enqueued_at") -> QuerySet[Job]:
    """Return the jobs that are meant.

    Args:
        store: where they are.
        filters: which.
        age_of: the column of the moment that their age counts from.
    """
    jobs = Job.objects.using(store.alias)
    if filters.ids:
        # A number may be too large to be an id at all.
        jobs = jobs.filter(pk__in=[pk for pk in filters.ids if pk_of(pk) is not None])
    if filters.task is not None:
        jobs = jobs.filter(_of_task(filters.task))
    for column, chosen in (("queue", filters.queues), ("status", filters.statuses)):
        if chosen:
            jobs = jobs.filter(**{column: chosen[0]} if len(chosen) == 1 else {f"{column}__in": chosen})
    if filters.older_s is not None or filters.newer_s is not None:
        now = store.sql.now()
        if filters.older_s is not None:
            jobs = jobs.filter(**{f"{age_of}__lte": _ago(now, filters.older_s)})
        if filters.newer_s is not None:
            jobs = jobs.filter(**{f"{age_of}__gte": _ago(now, filters.newer_s)})
    if filters.error is not None:
        jobs = jobs.filter(pk__in=_with_error(store, filters.error).values("job_id"))
    return jobs


def tally(jobs: QuerySet[Job], limit: int | None = None) -> Tally:
    """Count jobs by task and status, the most frequent first.

    Args:
        jobs: which.
        limit: no more than so many.
    """
    most = COUNTED_MAX if limit is None else min(limit, COUNTED_MAX)
    some = jobs.order_by() if limit is None else jobs.order_by("pk")
    rows = some.values_list("task", "status")[: most + 1 if limit is None else limit]
    # Django has no grouping of a slice, and MariaDB no slice within IN.
    sql, params = rows.query.get_compiler(jobs.db).as_sql()
    with connections[jobs.db].cursor() as cursor:
        cursor.execute(GROUPED.format(jobs=sql), params)
        groups = cursor.fetchall()
    found = tuple((task, Status(status), number) for task, status, number in groups if status in Status.values)
    count = sum(number for _, _, number in found)
    return Tally(count, count > COUNTED_MAX, found)


def keys(jobs: QuerySet[Job], limit: int | None = None) -> Iterator[list[int]]:
    """Yield the keys of jobs in batches, oldest first; those enqueued meanwhile are left out.

    Args:
        jobs: which; a batch may change them before the next one is read.
        limit: no more than so many.
    """
    newest = Job.objects.using(jobs.db).order_by("-pk").values_list("pk", flat=True).first() or 0
    after, left = 0, limit
    while left is None or left > 0:
        size = BATCH if left is None else min(BATCH, left)
        some = jobs.filter(pk__gt=after, pk__lte=newest).order_by("pk")
        if not (batch := list(some.values_list("pk", flat=True)[:size])):
            return
        yield batch
        after = batch[-1]
        left = None if left is None else left - len(batch)


def listed(jobs: QuerySet[Job], limit: int) -> list[dict[str, Any]]:
    """Return what a list shows of the newest jobs, the newest first."""
    found: list[dict[str, Any]] = list(jobs.order_by("-pk").values(*LISTED)[:limit])
    errors = _latest_errors(jobs.db, [job["id"] for job in found])
    return [{**job, "status": label_of(job["status"]), "error": errors.get(job["id"])} for job in found]


def story(store: Store, pk: int) -> dict[str, Any] | None:
    """Return everything that is known of a job, None if there is no such job."""
    row = Job.objects.using(store.alias).filter(pk=pk).values().first()
    if row is None:
        return None
    failures = list(FailedAttempt.objects.using(store.alias).filter(job_id=pk).order_by("attempt"))
    options, result = row["options"], row["result"]
    return {
        **row,
        "status": label_of(row["status"]),
        "arguments": _read(row["arguments"]),
        "options": _read(options) if options else {},
        "result": None if result is None else _read(result),
        "has_result": result is not None,
        "attempts": list(_attempts(row, failures)),
        "owner": _owner(store, row),
    }


def _read(text: Any) -> Any:
    """Return what JSON says; what is none, since somebody has changed it by hand, as it stands."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return str(text)


def supervisors(store: Store) -> list[dict[str, Any]]:
    """Return the runs of supervisors that are not over, oldest first; `silent_s` is the age of the latest beat."""
    now = store.sql.now()
    runs = Supervisor.objects.using(store.alias).exclude(state__in=OVER).order_by("pk")
    return [_run(run, now) for run in runs.values()]


def _of_task(text: str) -> Q:
    if not _WILD.search(text):
        return Q(task=text) | Q(task__startswith=f"{text.removesuffix('.')}.")
    first, *_, last = _WILD.split(text)
    pattern = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in text)
    # The ends are compared first: that is many times faster than the pattern.
    return Q(task__startswith=first, task__endswith=last) & Q(task__regex=f"^{pattern}$")


def _ago(now: datetime, seconds: float) -> datetime:
    try:
        return now - timedelta(seconds=seconds)
    except OverflowError:
        return now.replace(year=1)


def _with_error(store: Store, text: str) -> QuerySet[FailedAttempt]:
    """Return the latest failed attempts of jobs whose error contains a text."""
    failures = FailedAttempt.objects.using(store.alias)
    later = failures.filter(job_id=OuterRef("job_id"), attempt__gt=OuterRef("attempt"))
    said = Q(exception_class_path__icontains=text) | Q(traceback__icontains=text)
    return failures.filter(said).exclude(Exists(later))


def _latest_errors(alias: str, pks: Sequence[int]) -> dict[int, str]:
    failures = FailedAttempt.objects.using(alias).filter(job_id__in=pks).order_by("attempt")
    return dict(failures.values_list("job_id", "exception_class_path"))


def _attempts(row: Mapping[str, Any], failures: Sequence[FailedAttempt]) -> Iterator[dict[str, Any]]:
    for failure in failures:
        yield {
            "attempt": failure.attempt,
            "outcome": "failed",
            "worker": failure.worker,
            "started_at": failure.started_at,
            "ended_at": failure.ended_at,
            "error": failure.exception_class_path,
            "traceback": failure.traceback,
        }
    told = any(failure.attempt == row["attempt"] for failure in failures)
    if row["worker"] and not told and row["status"] in (Status.RUNNING, Status.SUCCESSFUL):
        yield {
            "attempt": row["attempt"],
            "outcome": label_of(row["status"]),
            "worker": row["worker"],
            "started_at": row["last_attempted_at"],
            "ended_at": row["finished_at"],
            "error": None,
            "traceback": None,
        }


def _owner(store: Store, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the supervisor that has a job, None if it waits or has ended."""
    if row["status"] != Status.RUNNING or row["claimed_by"] is None:
        return None
    run = Supervisor.objects.using(store.alias).filter(pk=row["claimed_by"]).values().first()
    return {"run": row["claimed_by"]} if run is None else _run(run, store.sql.now())


def _run(run: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    known = {name: value for name, value in run.items() if name != "id"}
    return {"run": run["id"], **known, "silent_s": round((now - run["beat_at"]).total_seconds(), 3)}
