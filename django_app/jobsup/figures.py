"""Figures of the queues and of the tasks: how much waits, runs and has ended lately, and how long jobs take.

Nothing is counted beyond a bound per queue and status; where it was reached the figure is marked as "at least".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from jobsup.models import Job, Status
from jobsup.queries import COUNTED_MAX
from jobsup.store import Store

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TIMED_MAX = 10_000
"""From how many of the latest jobs the durations are taken."""

# Literals, so that the partial indexes serve. The inner LIMIT is the bound; which rows it takes does not matter.
READY = """
    SELECT queue, task, count(*), min(CASE WHEN last_attempted_at > since THEN last_attempted_at ELSE since END) FROM (
        SELECT queue, task, last_attempted_at, CASE WHEN run_after > enqueued_at THEN run_after ELSE enqueued_at END
        AS since FROM jobsup_job WHERE status = 0 AND queue = %s LIMIT %s
    ) AS seen GROUP BY queue, task
"""
SCHEDULED = """
    SELECT queue, task, count(*) FROM (
        SELECT queue, task FROM jobsup_job WHERE status = 1 LIMIT %s
    ) AS seen GROUP BY queue, task
"""
CLAIMED = SCHEDULED.replace("status = 1", "status = 2")
# No index knows when jobs ended: it would cost every finish. Those that ended lately stand among the newest that did.
ENDED = """
    SELECT queue, task, status, sum(CASE WHEN finished_at >= %s THEN 1 ELSE 0 END),
           sum(CASE WHEN finished_at >= %s THEN 1 ELSE 0 END), count(*) FROM (
        SELECT queue, task, status, finished_at FROM jobsup_job WHERE status > 2 ORDER BY id DESC LIMIT %s
    ) AS seen GROUP BY queue, task, status
"""
_ENDED_AS = {Status.SUCCESSFUL: "done", Status.FAILED: "failed", Status.CANCELLED: "cancelled"}


class Count(NamedTuple):
    """One figure of the jobs of one task in one queue; `more` when it is only "at least"."""

    queue: str
    task: str
    what: str
    number: int
    more: bool = False


class Wait(NamedTuple):
    """For how long a ready job of a task has been waiting in a queue at most, in seconds.

    Since it could have run: what was enqueued for later or tried before did not wait until then.
    """

    queue: str
    task: str
    age_s: float


class Ran(NamedTuple):
    """How long a job took that ended well, in seconds."""

    queue: str
    task: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Counted:
    """What was read of the jobs at a moment."""

    at: datetime
    counts: Sequence[Count]
    waits: Sequence[Wait]
    ran: Sequence[Ran] = ()


@dataclass(slots=True)
class Figures:
    """What is known of one queue or one task.

    Args:
        name: of the queue, or path of the task.
        ready, scheduled, running: how many are at present; running counts from the claim.
        done_minute, done_hour: how many ended well in the last minute and hour.
        failed_hour, cancelled_hour: how many ended otherwise in the last hour.
        oldest_ready_s: since when the oldest ready one waits, in seconds.
        mean_s, p95_s: the mean and the 95th percentile of the durations of those that ended well in the last hour.
        at_least: which of the numbers may be larger.
    """

    name: str
    ready: int = 0
    scheduled: int = 0
    running: int = 0
    done_minute: int = 0
    done_hour: int = 0
    failed_hour: int = 0
    cancelled_hour: int = 0
    oldest_ready_s: float | None = None
    mean_s: float | None = None
    p95_s: float | None = None
    at_least: list[str] = field(default_factory=list)


def read(store: Store, *, most: int = COUNTED_MAX, timed: int = TIMED_MAX) -> Counted:
    """Read what the figures are made of.

    Args:
        store: the jobs.
        most: how far each queue and each status is counted.
        timed: from how many of the latest jobs the durations are taken.
    """
    now = store.sql.now()
    ready = [row for queue in store.sql.queues(None) for row in store.sql.rows(READY, (queue, most))]
    counts = [
        *_bounded(((queue, task, "ready", number) for queue, task, number, _ in ready), most, per_queue=True),
        *_bounded(((*names, "scheduled", number) for *names, number in store.sql.rows(SCHEDULED, (most,))), most),
        *_bounded(((*names, "running", number) for *names, number in store.sql.rows(CLAIMED, (most,))), most),
        *_ended(store, now, most),
    ]
    waits = [Wait(queue, task, (now - store.sql.moment(since)).total_seconds()) for queue, task, _, since in ready]
    return Counted(now, counts, waits, list(_ran(store, now, timed)) if timed else [])


def figures(counted: Counted, by: Literal["queue", "task"]) -> list[Figures]:
    """Return the figures of each queue or each task, by name."""
    found: dict[str, Figures] = {}

    def of(row: Count | Wait | Ran) -> Figures:
        name: str = getattr(row, by)
        return found.setdefault(name, Figures(name))

    for count in counted.counts:
        own = of(count)
        setattr(own, count.what, getattr(own, count.what) + count.number)
        if count.more and count.what not in own.at_least:
            own.at_least.append(count.what)
    for wait in counted.waits:
        own = of(wait)
        own.oldest_ready_s = round(max(wait.age_s, own.oldest_ready_s or 0.0), 3)
    durations: dict[str, list[float]] = {}
    for each in counted.ran:
        durations.setdefault(of(each).name, []).append(each.seconds)
    for name, values in durations.items():
        found[name].mean_s = round(sum(values) / len(values), 6)
        found[name].p95_s = round(percentile(values, 95), 6)
    return sorted(found.values(), key=lambda own: own.name)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the least value that is not exceeded by so many percent of the values (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _bounded(rows: Iterable[tuple[Any, ...]], most: int, *, per_queue: bool = False) -> list[Count]:
    """Return counts, marked where together they reach the bound."""
    found = [Count(*row) for row in rows]
    sums: dict[str, int] = {}
    for count in found:
        group = count.queue if per_queue else ""
        sums[group] = sums.get(group, 0) + count.number
    return [count._replace(more=sums[count.queue if per_queue else ""] >= most) for count in found]


def _ended(store: Store, now: datetime, most: int) -> Iterator[Count]:
    moments = [store.sql.connection.ops.adapt_datetimefield_value(now - ago) for ago in (MINUTE, HOUR)]
    rows = store.sql.rows(ENDED, (*moments, most))
    seen, recent = sum(row[5] for row in rows), sum(row[4] for row in rows)
    more = seen >= most and recent * 2 > seen  # as many as were looked at, and most of them young: more beyond them
    for queue, task, status, minute, hour, _ in rows:
        name = _ENDED_AS.get(status)
        if name is None:
            continue  # somebody has changed that row by hand
        if hour:
            yield Count(queue, task, f"{name}_hour", int(hour), more)
        if minute and status == Status.SUCCESSFUL:
            yield Count(queue, task, f"{name}_minute", int(minute), more)


def _ran(store: Store, now: datetime, timed: int) -> Iterator[Ran]:
    jobs = Job.objects.using(store.alias).filter(status=Status.SUCCESSFUL).order_by("-pk")
    for queue, task, began, ended in jobs.values_list("queue", "task", "last_attempted_at", "finished_at")[:timed]:
        if began is not None and ended is not None and ended >= now - HOUR:
            yield Ran(queue, task, (ended - began).total_seconds())
