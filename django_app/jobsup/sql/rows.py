"""The rows that go into the statements and come out of them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

LOADED = (
    "id, task, queue, backend, priority, arguments, run_after, max_attempts, attempt, claimed_by, worker, status, "
    "enqueued_at, started_at, last_attempted_at, finished_at, result, options, cancel_asked_at, awaited, ready_at, "
    "ready_message, untold, uncounted"
)


class NewRow(NamedTuple):
    """A job to be inserted."""

    task: str
    queue: str
    backend: str
    priority: int
    arguments: str
    run_after: datetime | None
    max_attempts: int | None
    options: str | None = None
    keep_s: int | None = None
    unique_key: str | None = None
    unique_running: bool = False
    schedule: str | None = None
    tick_at: datetime | None = None


class LoadedRow(NamedTuple):
    """A job as it stands in the database; the columns of `LOADED`."""

    id: int
    task: str
    queue: str
    backend: str
    priority: int
    arguments: str
    run_after: datetime | None
    max_attempts: int | None
    attempt: int
    claimed_by: int | None
    worker: str
    status: int
    enqueued_at: datetime
    started_at: datetime | None
    last_attempted_at: datetime | None
    finished_at: datetime | None
    result: str | None
    options: str | None = None
    cancel_asked_at: datetime | None = None
    awaited: bool = False
    ready_at: datetime | None = None
    ready_message: str | None = None
    untold: bool = False
    uncounted: int = 0


class FinishRow(NamedTuple):
    """The end of one attempt.

    Args:
        pk: the job.
        attempt: the attempt that ends; the fence.
        status: what the job becomes.
        result: JSON of the result, None unless it was successful.
        worker: who ran it.
        started_ago_s: how long ago it began, in seconds; None if unknown.
        ended_ago_s: how long ago it ended, in seconds.
        delay_s: for a job that becomes scheduled: in how many seconds it is due.
        left_behind: what it left to the next job, in words; None for nothing.
        uncounted: 1 if the attempt does not count against the limit.
        untold: whether the receivers of `task_finished` are still to be told, since no worker ended it.
    """

    pk: int
    attempt: int
    status: int
    result: str | None
    worker: str
    started_ago_s: float | None
    ended_ago_s: float
    delay_s: float
    left_behind: str | None = None
    uncounted: int = 0
    untold: bool = False


class Finished(NamedTuple):
    """An attempt whose end was accepted, with its times by the database's clock; those of a success may be left out."""

    pk: int
    started_at: datetime | None
    ended_at: datetime | None
