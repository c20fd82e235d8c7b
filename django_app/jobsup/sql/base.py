"""What every vendor's statements offer, the rows that go in and out, and what is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

ANY_QUEUE = """
    WITH RECURSIVE queue(name) AS (
        SELECT (SELECT min(queue) FROM jobsup_job WHERE status = 0)
        UNION ALL
        SELECT (SELECT min(queue) FROM jobsup_job WHERE status = 0 AND queue > queue.name)
        FROM queue WHERE queue.name IS NOT NULL
    )
    SELECT name FROM queue WHERE name IS NOT NULL
"""
"""The names of all queues with ready jobs by one index probe each; DISTINCT would read the whole index."""

LOADED = (
    "id, task, queue, backend, priority, arguments, run_after, max_attempts, attempt, claimed_by, worker, status, "
    "enqueued_at, started_at, last_attempted_at, finished_at, result, limits, cancel_asked_at"
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
    limits: str | None = None


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
    limits: str | None = None
    cancel_asked_at: datetime | None = None


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


class Finished(NamedTuple):
    """An attempt whose end was accepted, with its times by the database's clock."""

    pk: int
    started_at: datetime | None
    ended_at: datetime


class Statements(ABC):
    """The statements of one vendor on one alias; on the calling thread's own connection."""

    poll_interval_s: float
    """How often the supervisor looks for work when nothing wakes it, in seconds."""
    tells_every_change: bool = False
    """Whether `changed` is the truth, so that a look without a change can be left out; else it is a hint."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """Return this thread's connection."""
        return connections[self.alias]

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def run(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Execute a statement and return how many rows it touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            count: int = cursor.rowcount
            return count

    def queues(self, queues: Sequence[str] | None) -> list[str]:
        """Return the queues to claim from; None stands for all that have ready jobs."""
        return list(queues) if queues is not None else [name for (name,) in self.rows(ANY_QUEUE)]

    def prepare(self) -> None:  # noqa: B027  # nothing to do is the usual case
        """Bring the database into the state that the supervisor relies on."""

    @abstractmethod
    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime]:
        """Insert a job and return its id and when it was enqueued."""

    @abstractmethod
    def claim(self, run: int, queues: Sequence[str] | None, limit: int) -> list[int]:
        """Claim ready jobs, in the order of their priority and age."""

    @abstractmethod
    def promote(self) -> int:
        """Make scheduled jobs ready whose time has come; return how many."""

    @abstractmethod
    def next_due_s(self) -> float | None:
        """Return in how many seconds the next scheduled job is due."""

    @abstractmethod
    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        """Return jobs as they stand."""

    @abstractmethod
    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        """End attempts that this run still owns; what is not returned was refused.

        A job that would be tried again becomes cancelled if that was asked for.
        """

    @abstractmethod
    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        """Write down that a job has been running for a while."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the database's clock."""

    @abstractmethod
    def beat(self, run: int, state: str) -> bool:
        """Note that a run lives; False if somebody declared it lost."""

    @abstractmethod
    def expire(self, run: int, runfile: str) -> int:
        """Declare those runs lost whose lease is over or whose run file this run holds; return how many."""

    def notify(self, word: str = "") -> None:  # noqa: B027  # a vendor without wake-ups needs none
        """Wake the supervisors at the commit: a job was put back, or "cancel": one was cancelled."""

    def cancel_heard(self) -> bool:
        """Tell whether a job may have been cancelled since the last call; always, where nobody could tell."""
        return True

    def bound_waits(self) -> None:  # noqa: B027  # nothing to do where nothing waits for a network
        """Have this process's later connections give up on a silent server; for the supervisor."""

    @abstractmethod
    def attend(self, *, listen: bool) -> int | None:
        """Connect for the supervisor, whose statements must not wait for long, and ask to be woken.

        Args:
            listen: whether to be woken.

        Returns:
            The descriptor that becomes readable, None where there is no such thing.
        """

    @abstractmethod
    def changed(self) -> bool:
        """Tell, without waiting, whether there may be new work since the last call."""
