"""The tasks that the checks enqueue; what they are given as `tag` stands in the journal once they ran."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

from tests.conformance import journal, values
from tests.conformance.api import async_task, bare_task, retried_task, task

GATE_S = 60.0  # how long a job waits to be looked at


@task()
def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


@bare_task
def bare() -> str:
    """Be decorated without parentheses."""
    return "bare"


@task()
def add(one: int, two: int = 2) -> int:
    """Return a sum."""
    return one + two


@task()
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what came."""
    return {"args": list(args), "kwargs": kwargs}


@task()
def arrive(tag: str, value: Any) -> None:
    """Write down what came, as it came."""
    journal.write("arrived", tag, value=value)


@task()
def mark(tag: str) -> None:
    """Write down that it ran."""
    journal.write("ran", tag, thread=threading.current_thread().name)


@task(queue_name="other", priority=0)
def on_other_queue(tag: str) -> None:
    """Write down that it ran."""
    journal.write("ran", tag)


@task()
def give(what: str) -> Any:
    """Return a value that has to be made plain."""
    return values.NORMALISED[what][0]()


@task()
def give_plain(what: str) -> Any:
    """Return a plain value."""
    return values.PLAIN[what]


@task()
def give_no_json(what: str) -> Any:
    """Return a value that is no JSON."""
    return values.NO_JSON[what]()


@task()
def give_odd(what: str) -> Any:
    """Return a value that Django lets pass but not every store takes."""
    return values.ODD[what]


@task()
def give_bad_bytes() -> Any:
    """Return bytes that are no text."""
    return b"\xff\xfe"


@task()
def give_circle() -> Any:
    """Return a list that contains itself."""
    return values.circle()


@task()
def fail(what: str, tag: str = "") -> None:
    """Raise."""
    journal.write("ran", tag or what)
    raise values.failures()[what]


@task()
def fail_deeply() -> int:
    """Raise a RecursionError."""
    return values.recurse()


@task()
def swallow() -> str:
    """Raise and swallow."""
    values.swallowing()
    return "fine"


@task(takes_context=True)
def tell(context: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what the context says."""
    result = context.task_result
    return {
        "kind": type(context).__mro__[-2].__name__,
        "attempt": context.attempt,
        "id": result.id,
        "status": str(result.status),
        "attempts": result.attempts,
        "worker_ids": result.worker_ids,
        "args": result.args,
        "kwargs": result.kwargs,
        "name": result.task.name,
        "enqueued": result.enqueued_at is not None,
        "started": result.started_at is not None,
        "attempted": result.last_attempted_at is not None,
        "finished": result.finished_at is not None,
        "errors": len(result.errors),
        "given": [list(args), kwargs],
    }


@async_task(takes_context=True)
async def tell_async(context: Any, value: Any) -> list[Any]:
    """Return what the context says, from a coroutine."""
    await asyncio.sleep(0)
    return [context.attempt, context.task_result.id, value]


@async_task()
async def add_async(one: int, two: int) -> int:
    """Return a sum from a coroutine."""
    await asyncio.sleep(0.001)
    return one + two


@async_task()
async def fail_async() -> None:
    """Raise in a coroutine."""
    await asyncio.sleep(0)
    raise ValueError("this failed, in a coroutine")


@task()
def gate(tag: str) -> str:
    """Wait until the one who watches has seen enough."""
    journal.write("began", tag)
    deadline = time.monotonic() + GATE_S
    while not (journal.directory() / "open").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return tag


@task()
def looked_up() -> str:
    """Have the receivers of its signals look it up in the store."""
    return "found"


@task()
def receiver_of_started_raises(tag: str) -> str:
    """Have a receiver of task_started raise."""
    journal.write("ran", tag)
    return tag


@task()
def receiver_of_finished_raises(tag: str) -> str:
    """Have a receiver of task_finished raise."""
    journal.write("ran", tag)
    return tag


@task(takes_context=True)
def kills_its_worker(context: Any, tag: str) -> list[Any]:
    """End the worker as the kernel would when memory is short; the second time be gentle."""
    first = not journal.read("ran", tag=tag)
    journal.write("ran", tag)
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
    return [context.attempt, len(context.task_result.worker_ids)]


@task()
def kills_every_worker(tag: str) -> None:
    """End the worker each time."""
    journal.write("ran", tag)
    os.kill(os.getpid(), signal.SIGKILL)


@retried_task
def fails_at_first(tag: str) -> int:
    """Raise the first time; return how often it ran."""
    journal.write("ran", tag)
    if (runs := len(journal.read("ran", tag=tag))) == 1:
        raise values.Custom("the first time", 1)
    return runs
