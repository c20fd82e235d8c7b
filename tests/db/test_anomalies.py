"""Fault 49: the n-th statement fails, for every n, before or after it was done; then the operation is repeated.

Whatever the n, the end is the same as without the fault: nothing is lost, nothing is counted twice.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections

from jobsup import runs
from jobsup.hygiene import drop
from jobsup.models import FailedAttempt, Job, Schedule, Status
from jobsup.schedules.ticking import Ticking
from jobsup.store import Store
from tests import databases
from tests.db.rows import NO_ARGUMENTS, begin, failure, loss, new_row, put, silent_for, success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATEMENTS_MAX = 20


class World:
    """A run with four jobs: three claimed, one ready."""

    def __init__(self, alias: str) -> None:
        databases.empty(alias)
        self.store = Store(alias)
        self.run, self.other = begin(self.store), begin(self.store, runfile="mine")
        self.pks = put(self.store, 4)
        assert self.store.claim(self.run, ["default"], 3) == self.pks[:3]

    def release(self) -> None:
        """Give two back."""
        self.store.release(self.run, self.pks[:2])

    def claim(self) -> None:
        """Claim what is left."""
        self.store.claim(self.run, ["default"], 3)

    def finish(self) -> None:
        """End two in one statement."""
        self.store.finish(self.run, [success(pk) for pk in self.pks[:2]])

    def fail(self) -> None:
        """End three, with failures among them."""
        first, second, third = self.pks[:3]
        self.store.finish(self.run, [success(first), failure(second), failure(third, retry_in_s=60)])

    def lose(self) -> None:
        """Account for a death."""
        self.store.lost(self.run, [loss(pk) for pk in self.pks[:2]])

    def cancel(self) -> None:
        """Cancel one that waits and one that runs."""
        self.store.cancel(self.pks[2:])

    def recover(self) -> None:
        """Take over from a silent run."""
        runs.recover(self.store, self.other, "mine")

    def picture(self) -> list[Any]:
        """Return what anybody can see afterwards, but for times."""
        jobs = Job.objects.using(self.store.alias).order_by("id").values_list("status", "attempt", "result")
        told = FailedAttempt.objects.using(self.store.alias).order_by("job", "attempt")
        first = self.pks[0]
        asked = Job.objects.using(self.store.alias).filter(cancel_asked_at=None).count()
        return [*jobs, asked, *((job - first, attempt) for job, attempt in told.values_list("job", "attempt"))]


OPERATIONS: dict[str, Callable[[World], None]] = {
    name: getattr(World, name) for name in ("release", "claim", "finish", "fail", "lose", "cancel", "recover")
}


@contextmanager
def fault_at(alias: str, number: int, *, done: bool) -> Iterator[list[str]]:
    """Have the n-th statement raise, `done` after it was executed; yield the statements that there were."""
    seen: list[str] = []

    def execute(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
        seen.append(sql)
        hit = len(seen) == number
        if hit and not done:
            raise OperationalError("the connection is gone")
        answer = execute(sql, params, many, context)
        if hit:
            raise OperationalError("the connection is gone, and with it the answer")
        return answer

    with connections[alias].execute_wrapper(execute):
        yield seen


def attempted(world: World, operation: Callable[[World], None]) -> None:
    """Do an operation; when it fails, once more over a new connection, as supervisors and workers do."""
    try:
        operation(world)
    except OperationalError:
        drop(connections[world.store.alias])
        operation(world)


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_f49_every_operation_can_be_repeated(alias: str, name: str, done: bool) -> None:  # noqa: FBT001
    """Release, finish, fail, lose and recover; a claim whose answer was lost is the supervisor's to ask about."""
    operation = OPERATIONS[name]
    world = World(alias)
    if name == "recover":
        silent_for(world.store, world.run, 60)
    operation(world)
    expected = world.picture()
    for number in range(1, STATEMENTS_MAX):
        world = World(alias)
        if name == "recover":
            silent_for(world.store, world.run, 60)
        with fault_at(alias, number, done=done) as seen:
            attempted(world, operation)
        assert world.picture() == expected, (number, seen)
        if len(seen) < number:
            return
    pytest.fail(f"{name} needs more than {STATEMENTS_MAX} statements")


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_f49_an_enqueue_is_there_whole_or_not_at_all(alias: str, done: bool) -> None:  # noqa: FBT001
    """Whatever the caller is told, a job that is there is ready and complete (promise 1)."""
    world = World(alias)
    with fault_at(alias, 1, done=done), pytest.raises(OperationalError):
        put(world.store)
    statuses = list(Job.objects.using(alias).order_by("id").values_list("status", flat=True))
    assert statuses == [Status.RUNNING] * 3 + [Status.READY] * (2 if done else 1)


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_f49_many_jobs_are_there_all_or_none(alias: str, done: bool) -> None:  # noqa: FBT001
    """Whichever statement fails on the way."""
    for number in range(1, STATEMENTS_MAX):
        world, failed = World(alias), False
        with fault_at(alias, number, done=done) as seen:
            try:
                world.store.enqueue_many(new_row(), [[NO_ARGUMENTS] * 3] * 2, lambda *_batch: None)
            except OperationalError:
                failed = True
        drop(connections[alias])
        assert Job.objects.using(alias).count() - len(world.pks) == (0 if failed else 6), (number, seen)
        if not failed:
            return
    pytest.fail(f"it needs more than {STATEMENTS_MAX} statements")


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_f49_a_moment_of_a_schedule_is_enqueued_once(hourly: Store, done: bool) -> None:  # noqa: FBT001
    """Whichever statement fails on the way, and whoever looks after that."""
    alias = hourly.alias
    Ticking(hourly, told=True).turn()
    for number in range(1, STATEMENTS_MAX):
        Job.objects.using(alias).all().delete()
        Schedule.objects.using(alias).update(next_at=hourly.sql.now() - timedelta(minutes=1))
        with fault_at(alias, number, done=done) as seen, suppress(OperationalError):
            Ticking(hourly, told=True).turn()
        drop(connections[alias])
        Ticking(hourly, told=True).turn()
        assert Job.objects.using(alias).filter(schedule="hourly").count() == 1, (number, seen)
        if len(seen) < number:
            return
    pytest.fail(f"it needs more than {STATEMENTS_MAX} statements")
