"""What a task with `takes_context=True` gets as its first argument."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from jobsup import homes
from jobsup.compat import TaskContext
from jobsup.errors import JobsupError
from jobsup.sql import LoadedRow
from jobsup.store import Store
from jobsup.text import bounded

MESSAGE_CHARS_MAX = 10_000

SayReady = Callable[[LoadedRow, str | None], None]
"""Writes down that a job has begun well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext(TaskContext):  # type: ignore[type-arg,misc,unused-ignore]
    """The context of a job that runs: Django's, and what the job can say while it runs."""

    _row: LoadedRow = field(repr=False)
    _say_ready: SayReady = field(repr=False)

    def ready(self, message: str | None = None) -> None:
        """Say that this job has begun well; `result.wait(until="ready")` learns of it at once.

        It is committed at once, whatever transaction the job is in.

        Args:
            message: shown as `result.ready_message`; at most 10,000 characters of it are kept.

        Raises:
            TypeError: the message is no text.
            JobsupError: within atomic() on SQLite, where nobody but that transaction can write.
        """
        if message is not None and not isinstance(message, str):
            raise TypeError(f"context.ready: the message is {message!r}: expected text or None")
        self._say_ready(self._row, None if message is None else bounded(message, MESSAGE_CHARS_MAX))

    async def aready(self, message: str | None = None) -> None:
        """Do as `ready`."""
        await sync_to_async(self.ready)(message)


def say_ready(row: LoadedRow, message: str | None) -> None:
    """Write it down for a job of this worker, on a connection of its own where the job is in a transaction."""
    store = Store(homes.here())
    connection = store.sql.connection
    if not connection.in_atomic_block:
        store.note_ready(row, message)
    elif connection.vendor == "sqlite":
        raise JobsupError(
            "context.ready: SQLite has one writer at a time; call it before or after atomic(), not in an atomic job"
        )
    else:
        _elsewhere(lambda: store.note_ready(row, message))


def say_ready_here(row: LoadedRow, message: str | None) -> None:
    """Write it down on the caller's own connection and in its transaction."""
    Store(homes.of(row.backend)).note_ready(row, message)


def _elsewhere(write: Callable[[], object]) -> None:
    """Do it in a thread, which has connections of its own; raise what is raised there."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001  # raised again below, where it belongs
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, name="jobsup-ready", daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def said_once(say: SayReady) -> SayReady:
    """Return what writes down the same word of the same attempt once: an atomic job may be repeated within it."""
    said: set[str | None] = set()

    def say_unless_said(row: LoadedRow, message: str | None) -> None:
        if message not in said:
            say(row, message)
            said.add(message)

    return say_unless_said


def context_of(result: Any, row: LoadedRow, say: SayReady) -> JobContext:
    """Return the context of a job that is about to run."""
    return JobContext(task_result=result, _row=row, _say_ready=say)
