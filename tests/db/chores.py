"""Tasks for the tests of `jobsup.testing`: each does what users' tasks do to the transaction that they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.db import DatabaseError, connections, router, transaction

from jobsup import Retry, Snooze, task
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from jobsup.compat import TaskContext
    from jobsup.context import JobContext


def home() -> str:
    """Return the alias that the test in hand is about."""
    return router.db_for_write(Effect)


@task
def add(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@task
async def aadd(a: int, b: int) -> int:
    """Return the sum, from a coroutine that asks the database."""
    await Effect.objects.acreate(job=0, attempt=a + b, pid=0)
    return a + b


@task(queue_name="other", priority=7)
def mail(to: str, *, copies: int = 1) -> str:
    """Pretend to send mail."""
    return f"{copies} to {to}"


@task
def pass_on(depth: int) -> int:
    """Enqueue a job like this one until that is deep enough."""
    if depth:
        pass_on.enqueue(depth - 1)
    return depth


@task
def again() -> None:
    """Enqueue itself without end."""
    again.enqueue()


@task(takes_context=True, max_attempts=3)
def third_time(context: TaskContext[Any, Any]) -> int:
    """Be successful at the third attempt."""
    if context.attempt < 3:
        raise ValueError(f"attempt {context.attempt} fails")
    return context.attempt


@task(takes_context=True, max_attempts=2)
def ask_back(context: TaskContext[Any, Any]) -> str:
    """Say that all is well; ask to be run later, then to be tried again, and end well the third time."""
    cast("JobContext", context).ready("begun")
    Effect.objects.create(job=0, attempt=0, pid=0)
    match Effect.objects.count():
        case 1:
            raise Snooze(after=60)
        case 2:
            raise Retry(after=60)
    return "done"


@task
def fail(message: str) -> None:
    """Fail in an ordinary way."""
    raise LookupError(message)


@task
def give_up() -> None:
    """Raise what a Ctrl-C raises."""
    raise KeyboardInterrupt


@task
def break_down(*, caught: bool) -> str:
    """Leave a trace, then have the database refuse a statement."""
    Effect.objects.create(job=0, attempt=1, pid=1)
    try:
        with connections[home()].cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")
    except DatabaseError:
        if not caught:
            raise
    return "caught"


@task
def roll_back() -> None:
    """Fail within a block that has no savepoint of its own."""
    with transaction.atomic(using=home(), savepoint=False):
        Effect.objects.create(job=0, attempt=1, pid=1)
        raise LookupError("rolled back")


@task
def after_commit() -> None:
    """Enqueue a job with the commit of this one's work; another block's is rolled back."""
    with transaction.atomic(using=home()):
        transaction.on_commit(lambda: add.enqueue(1, 1), using=home())
    try:
        with transaction.atomic(using=home()):
            transaction.on_commit(lambda: add.enqueue(2, 2), using=home())
            raise LookupError  # noqa: TRY301  # the block is to be rolled back
    except LookupError:
        pass
