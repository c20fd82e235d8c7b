"""What every vendor's statements offer, and what is the same for all."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.sql.rows import Finished, FinishRow, LoadedRow, NewRow
from jobsup.sql.transactions import insisting

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

HOLDERS = ("status IN (0, 1)", "status = 2 AND unique_running")
"""Who may have a unique key: a job that waits; one that runs has it only if it says so. Each has its own index."""

WAIT_MAX_S = 4.5
"""How long a supervisor lets any statement, lock or silent server keep it from its other duties, at most.

What goes wrong is known of within 10 s: it looks every 5 s at the latest.
"""

WAIT_LOOK_S = 0.01
WAIT_LOOK_MAX_S = 0.25
"""How often somebody who waits for a job looks where nobody can tell, at first and in the long run."""


T = TypeVar("T")


class Statements(ABC):
    """The statements of one vendor on one alias; on the calling thread's own connection."""

    poll_interval_s: float
    """How often the supervisor looks for work when nothing wakes it and there has been none for long, in seconds."""
    poll_shortest_s: float = 0.05
    """How often it looks at most, right after there was work."""
    wakes_everywhere: bool = False
    """Whether the database itself wakes supervisors, on whatever machine something was enqueued."""
    hushed_by_others: bool = False
    """Whether another supervisor asks those who enqueue to wake nobody, as of the last `next_due_s` or `glance`."""
    hold: str = ""
    """What keeps a row that is read from being claimed; nothing, where a transaction keeps away all who write."""
    listening_alias: str | None = None
    """Where else a supervisor listens, since a pooler stands before its own alias."""
    names_conflicts: bool = True
    """Whether an upsert says which unique index it means; else it means all of them."""
    several_may_write: bool = True
    """Whether two sessions may write at the same time."""
    keeps_types: bool = True
    """Whether a column holds nothing but what is of its type."""
    keeps_plans: bool = False
    """Whether the session is a supervisor's for as long as it wants it, so that it may keep statements ready there."""
    tells_every_change: bool = False
    """Whether `changed` is the truth, so that a look without a change can be left out; else it is a hint."""
    hears_unconnected: bool = False
    """Whether a supervisor is woken also while it has no connection."""

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

    def insisting(self, action: Callable[[], T]) -> T:
        """Do one statement; again, if others were in its way and it is no part of a transaction of the caller's."""
        return insisting(self.connection, action)

    def together(self, action: Callable[[], T]) -> T:
        """Do several statements in one transaction, the caller's or one of their own, which may then be repeated."""

        def whole() -> T:
            with transaction.atomic(using=self.alias):
                return action()

        return self.insisting(whole)

    def queues(self, queues: Sequence[str] | None) -> list[str]:
        """Return the queues to claim from; None stands for all that have ready jobs."""
        return list(queues) if queues is not None else [name for (name,) in self.rows(ANY_QUEUE)]

    def prepare(self) -> None:  # noqa: B027  # nothing to do is the usual case
        """Bring the database into the state that the supervisor relies on."""

    @abstractmethod
    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        """Insert a job and return its id and when it was enqueued; None if another job has its unique key."""

    @abstractmethod
    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        """Insert jobs that differ in their arguments only; return their ids in order and when they were enqueued."""

    def holder(self, row: NewRow, *, hold: bool) -> tuple[int, int] | None:
        """Return the id and the status of the job that has a new one's unique key.

        Args:
            row: the new job.
            hold: whether nobody may take that job before this transaction ends.
        """
        for condition in HOLDERS[: 1 + row.unique_running]:
            sql = f"SELECT id, status FROM jobsup_job WHERE unique_key = %s AND {condition} {self.hold if hold else ''}"  # noqa: S608
            if found := self.rows(sql, [row.unique_key]):
                return found[0][0], found[0][1]
        return None

    @abstractmethod
    def claim(self, run: int, queues: Sequence[str] | None, limit: int, *, ordered: bool = False) -> list[int]:
        """Claim ready jobs of queues that are not paused, best first: by priority, then by age.

        Args:
            run: for whom.
            queues: of which queues; None for every one.
            limit: how many at most.
            ordered: whether all jobs of an earlier queue go before those of a later one.
        """

    @abstractmethod
    def claim_within(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool = False
    ) -> list[tuple[int, str]]:
        """Claim as `claim` does, and of some queues only so many; return each job with its queue.

        Args:
            run: for whom.
            queues: of which queues; None for every one.
            rooms: how many at most of each queue that is named here.
            limit: how many at most in all.
            ordered: whether all jobs of an earlier queue go before those of a later one.
        """

    def put_back(self, pks: Iterable[int]) -> None:  # noqa: B027  # nothing to do where each claim sees everything
        """Take note of jobs that are ready again though later ones were claimed."""

    def look_again_s(self) -> float | None:
        """Return in how many seconds to claim again although nothing tells of work; None: not at all."""
        return None

    @abstractmethod
    def promote(self) -> int:
        """Make scheduled jobs ready whose time has come; return how many."""

    def glance(self, queues: Sequence[str] | None) -> tuple[bool, float | None]:
        """Look, by one statement that locks nothing, whether a claim is worth while, and in how many s the next is due.

        By default it is worth while, and the rest is not looked for.

        Args:
            queues: of which queues jobs would be claimed; None for every one.
        """
        del queues
        return True, None

    @abstractmethod
    def next_due_s(self) -> float | None:
        """Return in how many seconds the next scheduled job is due."""

    @abstractmethod
    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        """Return jobs as they stand."""

    @abstractmethod
    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        """End attempts that this run still owns and return them; of several, where one was refused, perhaps none.

        Then the rows tell which they are. A job that would be tried again becomes cancelled if that was asked for.
        """

    def finish_last(self, run: int, row: FinishRow) -> bool:
        """End an attempt as the last statement before the COMMIT of an open transaction; False if it was refused."""
        return bool(self.finish(run, [row]))

    @abstractmethod
    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        """Write down that a job has been running for a while."""

    def moment(self, stored: Any) -> datetime:
        """Return a moment as Django has it, of what a statement of no model's returned."""
        found: datetime = stored
        return found

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

    def tell_waiters(self, pks: Sequence[int]) -> None:  # noqa: B027  # where nobody can be told, they look
        """Wake those who wait for any of these jobs."""

    @contextmanager
    def hearing_of(self, _pk: int, *, listen: bool) -> Iterator[Callable[[float], bool]]:
        """Yield a function that waits until something may have become of a job, at most for some seconds, and tells it.

        Without being told: by looking again soon, and less often the longer it takes.

        Args:
            listen: whether to be told, where the database can do that.
        """
        pause_s = WAIT_LOOK_S
        look_at = time.monotonic() + pause_s

        def due(most_s: float) -> bool:
            nonlocal pause_s, look_at
            left_s = look_at - time.monotonic()
            time.sleep(max(0.0, min(left_s, most_s)))
            if left_s > most_s:
                return False
            pause_s = min(pause_s * 1.1, WAIT_LOOK_MAX_S)
            look_at = time.monotonic() + pause_s
            return True

        yield due

    def heard(self, _word: str) -> bool:
        """Tell whether this word was told since the last call; never, where nobody can tell."""
        return False

    def cancel_heard(self) -> bool:
        """Tell whether a job may have been cancelled since the last call; always, where nobody could tell."""
        return True

    def bound_waits(self, most_s: float) -> None:  # noqa: B027  # nothing to do where nothing waits for a network
        """Have this process's later connections give up on a silent server; for the supervisor.

        Args:
            most_s: how long it may wait for anything, in seconds.
        """

    def briefly(self) -> AbstractContextManager[None]:
        """Return a block in which no wait for the database is longer than `bound_waits` said."""
        return nullcontext()

    @property
    def deafness(self) -> str:
        """Why a supervisor that attends cannot be told of anything, in words; "" while it can, or nobody tells."""
        return ""

    @abstractmethod
    def attend(self, *, listen: bool) -> int | None:
        """Connect for the supervisor, whose statements must not wait for long, and ask to be woken.

        Args:
            listen: whether to be woken.

        Returns:
            The descriptor that becomes readable, None where there is no such thing.
        """

    def leave(self) -> None:  # noqa: B027  # a vendor that is woken through its connection has nothing else
        """Give back what a supervisor has here beside its connection."""

    @property
    def hears(self) -> bool:
        """Whether a supervisor that attends is told of what others do."""
        return not self.deafness

    def woken(self) -> int:
        """Return how often this supervisor was woken since the last call, without waiting."""
        return 0

    @property
    def hushing(self) -> bool:
        """Whether those who enqueue wake nobody, because this supervisor asked for that."""
        return False

    def hush(self, *, wanted: bool) -> None:  # noqa: B027  # nothing to do where nobody can be woken
        """Ask those who enqueue to wake nobody, since this supervisor looks often; or to do so again."""

    @abstractmethod
    def changed(self) -> bool:
        """Tell, without a statement, whether there may be new work since the last call."""

    def closing(self) -> AbstractContextManager[None]:
        """Return a block in which this process closes its connections, which is no change."""
        return nullcontext()
