"""Jobs for the store's tests: how to put them there, end them and look at them, and other sessions to do it from."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import connections, transaction
from django.db.models import F

from jobsup import runs
from jobsup.models import FailedAttempt, Job, Status, Supervisor
from jobsup.sql import FinishRow, LoadedRow, NewRow
from jobsup.store import Failure, LostAttempt, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from types import TracebackType

    from jobsup.store import Store

T = TypeVar("T")

NOOP = "tests.testapp.tasks.noop"
WORKER = "node:worker 1:100"
NO_ARGUMENTS = '{"args":[],"kwargs":{}}'
TIMEOUT_S = 30
_files = count(1)


def new_row(
    task: str = NOOP,
    *,
    queue: str = "default",
    priority: int = 0,
    arguments: str = NO_ARGUMENTS,
    run_after: datetime | None = None,
    max_attempts: int | None = None,
) -> NewRow:
    """Return a job that is not there yet."""
    return NewRow(task, queue, "default", priority, arguments, run_after, max_attempts)


def put(store: Store, number: int = 1, **values: Any) -> list[int]:
    """Enqueue jobs and return their keys, oldest first."""
    return [store.enqueue(new_row(**values))[0] for _ in range(number)]


def begin(store: Store, *, lease_s: float = 30, runfile: str = "") -> int:
    """Begin the run of a supervisor, each with a run file of its own."""
    return runs.begin(store, "one", "node", runfile or f"file {next(_files)}", 100, lease_s)


def claimed(store: Store, run: int, **values: Any) -> int:
    """Enqueue a job, have the run claim it and return its key."""
    [pk] = put(store, **values)
    assert store.claim(run, None, 1) == [pk]
    return pk


def row(store: Store, pk: int) -> LoadedRow:
    """Return a job as it stands."""
    [found] = store.sql.load([pk])
    return found


def success(pk: int, attempt: int = 1, result: str = "null") -> Outcome:
    """Return the end of a job that ran for two seconds and returned one second ago."""
    return Outcome(FinishRow(pk, attempt, Status.SUCCESSFUL, result, WORKER, 3.0, 1.0, 0.0))


def failure(pk: int, attempt: int = 1, *, retry_in_s: float | None = None, words: str = "Trouble") -> Outcome:
    """Return the end of a job that raised; `retry_in_s` has it tried again."""
    status = Status.FAILED if retry_in_s is None else Status.SCHEDULED
    return Outcome(
        FinishRow(pk, attempt, status, None, WORKER, 3.0, 1.0, retry_in_s or 0.0), Failure("builtins.ValueError", words)
    )


def loss(pk: int, *, at_once: bool = False, ran_s: float | None = 2.0) -> LostAttempt:
    """Return the account of a worker that was killed."""
    return LostAttempt(pk, WORKER, "worker 1 (pid 100) was killed by SIGKILL", ran_s, at_once)


def failures_of(store: Store, pk: int) -> list[FailedAttempt]:
    """Return the failed attempts of a job, in order."""
    return list(FailedAttempt.objects.using(store.alias).filter(job_id=pk).order_by("attempt"))


def silent_for(store: Store, run: int, seconds: float) -> None:
    """Put a run's last beat into the past."""
    runs = Supervisor.objects.using(store.alias).filter(pk=run)
    assert runs.update(beat_at=F("beat_at") - timedelta(seconds=seconds)) == 1


def make_due(store: Store, pk: int) -> None:
    """Put the time of a scheduled job into the past and make it ready."""
    due_at = store.sql.now() - timedelta(seconds=1)
    assert Job.objects.using(store.alias).filter(pk=pk, status=Status.SCHEDULED).update(run_after=due_at) == 1
    assert store.sql.promote() == 1


@contextmanager
def statements_of(alias: str) -> Iterator[list[str]]:
    """Collect every statement on this thread's connection, those that begin and end transactions too."""
    connection = connections[alias]
    connection.ensure_connection()
    before = connection.force_debug_cursor
    connection.force_debug_cursor = True
    connection.queries_log.clear()
    found: list[str] = []
    try:
        yield found
    finally:
        connection.force_debug_cursor = before
        found += [str(query["sql"]) for query in connection.queries_log]


class Session:
    """Another session: what is done through it runs in a thread of its own, over that thread's connections."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="session")

    def __call__(self, action: Callable[[], T]) -> T:
        """Do something there and return what it returned."""
        return self.begin(action).result(TIMEOUT_S)

    def begin(self, action: Callable[[], T]) -> Future[T]:
        """Begin something there that may have to wait."""
        return self._thread.submit(action)

    @contextmanager
    def atomic(self, alias: str) -> Iterator[None]:
        """Have a transaction open there; it commits at the end of the block."""
        block = transaction.atomic(using=alias)
        self(block.__enter__)
        yield
        self(lambda: block.__exit__(None, None, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self(connections.close_all)
        self._thread.shutdown()


def at_once(actions: Sequence[Callable[[], T]]) -> list[T]:
    """Do all of this at the same time, each over a connection of its own; return what each returned."""
    barrier = threading.Barrier(len(actions), timeout=TIMEOUT_S)

    def do(action: Callable[[], T]) -> T:
        try:
            barrier.wait()
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(actions)) as threads:
        futures = [threads.submit(do, action) for action in actions]
        return [future.result(TIMEOUT_S) for future in futures]


def crowd(store: Store, status: int, claimed_by: int | None = None, count: int = 2000) -> None:
    """Insert jobs of one kind, and let PostgreSQL learn of them.

    What it knows of a table that is nearly empty changes whenever it is vacuumed, and with it the plans.
    """
    sql = """
        INSERT INTO jobsup_job (task, queue, backend, priority, arguments, status, claimed_by, attempt, worker,
                                enqueued_at)
        SELECT 'tests.testapp.tasks.noop', 'default', 'default', 0, '{"args":[],"kwargs":{}}', %s, %s, 1, '', now()
        FROM generate_series(1, %s)
    """
    store.sql.run(sql, (status, claimed_by, count))
    store.sql.run("ANALYZE jobsup_job")
