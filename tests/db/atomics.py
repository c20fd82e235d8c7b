"""Atomic jobs that do what a test says, and what is to be seen of them."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections

from jobsup import task
from jobsup.models import FailedAttempt, Job, Status
from tests.testapp.models import Effect
from tests.testapp.traces import leave_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobsup.compat import TaskContext

    Deed = Callable[["TaskContext[Any, Any]"], Any]

deeds: dict[str, Deed] = {}
"""What the job does after it has left its trace."""
begun: Counter[str] = Counter()
"""How often the function of each job was entered."""


@task(atomic=True, takes_context=True)
def act(context: TaskContext[Any, Any], name: str = "") -> Any:
    """Leave a trace and do a deed."""
    begun[name] += 1
    leave_trace(context)
    return deeds[name](context) if name else None


@task(atomic=True, takes_context=True, max_attempts=5, backoff=60)
def act_again(context: TaskContext[Any, Any], name: str = "") -> Any:
    """Do the same, and be tried again."""
    return act.func(context, name)


@task(atomic=True, takes_context=True)
def read_and_write(context: TaskContext[Any, Any], name: str) -> None:
    """Do a deed and leave a trace."""
    deeds[name](context)
    leave_trace(context)


@task(takes_context=True)
def ordinary(context: TaskContext[Any, Any]) -> None:
    """Leave a trace."""
    leave_trace(context)


@pytest.fixture(autouse=True)
def no_deeds() -> Iterator[None]:
    """Begin without any; for modules that import it."""
    deeds.clear()
    begun.clear()
    yield
    deeds.clear()


def do(name: str) -> Callable[[Deed], Deed]:
    """Have a function be a deed."""

    def keep(deed: Deed) -> Deed:
        deeds[name] = deed
        return deed

    return keep


def effects(alias: str) -> int:
    """Return how many traces there are."""
    return Effect.objects.using(alias).count()


def status(result: Any) -> Status:
    """Return what stands in the row."""
    return Status(Job.objects.get(pk=int(result.id)).status)


def words(result: Any) -> str:
    """Return what is told of the only failure of a job."""
    return FailedAttempt.objects.get(job_id=int(result.id)).traceback


def raise_sqlstate(state: str) -> None:
    """Have PostgreSQL raise an error."""
    with connections["postgresql"].cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'made by a test' USING ERRCODE = '{state}'; END $$")


class Nth:
    """Has the n-th statement or COMMIT fail, `done` after it was executed."""

    def __init__(self, alias: str, number: int, *, done: bool) -> None:
        self.number, self.done = number, done
        self.connection: Any = connections[alias]
        self.seen: list[str] = []

    def call(self, what: str, execute: Callable[[], Any]) -> Any:
        """Execute something, or have it fail."""
        self.seen.append(what)
        hit = len(self.seen) == self.number
        if hit and not self.done:
            raise OperationalError("the connection is gone")
        answer = execute()
        if hit:
            raise OperationalError("the connection is gone, and with it the answer")
        return answer

    @contextmanager
    def injected(self) -> Iterator[list[str]]:
        """Have it happen meanwhile."""
        commit = self.connection._commit

        def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
            return self.call(sql, lambda: execute(sql, params, many, context))

        self.connection._commit = lambda: self.call("COMMIT", commit)
        try:
            with self.connection.execute_wrapper(execute):
                yield self.seen
        finally:
            del self.connection._commit
