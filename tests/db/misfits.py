"""Jobs for the backend's tests that tests/testapp does not have: each shows or spoils one thing."""

from __future__ import annotations

import asyncio
import decimal
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import DatabaseError, connections, router, transaction

from jobsup import Discard, Retry, Snooze, task
from jobsup.compat import TASKS_APPS
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from jobsup.compat import TaskContext

if TYPE_CHECKING or not TASKS_APPS:
    from django.tasks import task as django_task
else:
    from django_tasks import task as django_task

hold = threading.Event()
"""What `held` waits for."""
seen: list[Any] = []
"""What `look` saw."""


class HostileError(Exception):
    """Answers every question with another error."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("no reduce")


@django_task
def plain(number: int) -> int:
    """Be a task of django.tasks' own decorator."""
    return number + 1


@task(priority=10, queue_name="slow", max_attempts=4)
def declared() -> None:
    """Declare every option."""


@task(takes_context=True)
def attempts(context: TaskContext[Any, Any], fail_until: int) -> list[int]:
    """Fail until an attempt; return what the context says."""
    if context.attempt < fail_until:
        raise ValueError(f"attempt {context.attempt}")
    return [context.attempt, context.task_result.attempts]


@task(takes_context=True)
def look(context: TaskContext[Any, Any]) -> None:
    """Show the result that the job sees, and as anybody else sees it."""
    seen.append(context.task_result)


@task
async def wrong_async() -> None:
    """Fail in a coroutine."""
    raise LookupError("in a coroutine")


@task
async def async_database() -> int:
    """Use the database from a coroutine, in the way that Django offers."""
    await Effect.objects.acreate(job=1, attempt=1, pid=1)
    return await Effect.objects.acount()


@task
def enqueue_another() -> str:
    """Enqueue from within a job."""
    return str(plain.enqueue(1).id)


@task
def held() -> None:
    """Go on until the test lets go."""
    assert hold.wait(30)


@task
def raises(name: str) -> None:
    """Raise one of the exceptions that are no Exception."""
    errors: dict[str, BaseException] = {
        "SystemExit": SystemExit(),
        "SystemExit(0)": SystemExit(0),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "BaseException": BaseException("plain"),
        "HostileError": HostileError(),
        "StopIteration": StopIteration(1),
        "MemoryError": MemoryError(),
        "Surrogate": ValueError("before\0after \ud800"),
    }
    raise errors[name]


@task
def long_chain(length: int) -> None:
    """Fail with a chain of causes."""
    error: Exception | None = None
    for number in range(length):
        following = ValueError(f"link {number}")
        following.__cause__ = error
        error = following
    assert error is not None
    raise error


@task
def group(width: int, depth: int) -> None:
    """Fail with many errors at once."""
    errors: list[Exception] = [ValueError(str(number)) for number in range(width)]
    for _ in range(depth):
        errors = [ExceptionGroup("several", errors)]
    raise ExceptionGroup("all", errors)


@task
def returns(name: str) -> Any:
    """Return what cannot be stored, or only just."""
    circular: list[Any] = []
    circular.append(circular)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return {
        "object": object(),
        "NaN": float("nan"),
        "infinity": [float("-inf")],
        "circular": circular,
        "deep": deep,
        "set": {1},
        "datetime": datetime.now(UTC),
        "decimal": decimal.Decimal(1),
        "uuid": uuid.uuid4(),
        "too large": "x" * (1 << 20),
        "not utf-8": b"\xff",
        "huge number": 10**5000,
        "tuple": (1, (2, b"three")),
        "text": "before\0after \ud800 \u00e9 \U0001f600",
        "keys": {1: "one", "two": 2},
    }[name]


@task
def leave(name: str) -> None:
    """Leave the connection in a bad state, with a write that must not survive."""
    alias = router.db_for_write(Effect)
    if name == "atomic":
        transaction.atomic(using=alias).__enter__()
    elif name == "nested atomic":
        transaction.atomic(using=alias).__enter__()
        transaction.atomic(using=alias).__enter__()
    elif name == "broken atomic":
        transaction.atomic(using=alias).__enter__()
        with suppress(DatabaseError), connections[alias].cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        return
    elif name == "autocommit off":
        transaction.set_autocommit(False, using=alias)
    elif name == "begin":
        with connections[alias].cursor() as cursor:
            cursor.execute("BEGIN")
    elif name == "closed":
        connections[alias].close()
        return
    elif name == "driver closed":
        driver: Any = connections[alias].connection
        driver.close()
        return
    elif name == "close in atomic":
        transaction.atomic(using=alias).__enter__()
        connections[alias].close()
        return
    Effect.objects.create(job=0, attempt=0, pid=0)


@task
def session_of() -> list[Any]:
    """Return what the next job finds: whether a transaction is open, and the session."""
    database = connections[router.db_for_write(Effect)]
    database.ensure_connection()
    Effect.objects.create(job=1, attempt=1, pid=1)
    session = 0
    if database.vendor == "postgresql":
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            session = cursor.fetchone()[0]
    return [database.in_atomic_block, database.get_autocommit(), session]


@task
def use_database() -> int:
    """Ask the database something."""
    return Effect.objects.count()


@task
def end_own_session() -> None:
    """Have the server end the session, then try to use it."""
    database = connections[router.db_for_write(Effect)]
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def no_task() -> None:
    """Be a plain function."""


snoozes: list[int] = []
"""How often `snooze_then_fail` has run."""


@task(max_attempts=2)
def snooze_then_fail() -> None:
    """Snooze and fail in turn."""
    snoozes.append(1)
    if len(snoozes) % 2:
        raise Snooze(1)
    raise ValueError


@task
async def async_word(word: str) -> None:
    """Say what is to become of it, from a coroutine."""
    await asyncio.sleep(0)
    raise {"retry": Retry(30), "snooze": Snooze(30), "discard": Discard("no use")}[word]
