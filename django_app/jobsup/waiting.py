"""Waiting for a job: for its beginning, for its own word that it began well, or for its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Literal, NamedTuple, get_args

from django.db import transaction

from jobsup.models import FailedAttempt, Status, label_of
from jobsup.sql import LoadedRow
from jobsup.store import Store

Until = Literal["started", "ready", "finished"]
LOOK_S = 1.0
"""How often to look at the job though nothing was told: a notification may be lost on its way through a pooler."""
STOP_S = 0.02
"""How late a wait in another thread may notice that nobody wants it any more; a job's own must be over by its end."""
OVER = (Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED)


class Waited(NamedTuple):
    """What a wait came to; true if it is what was waited for.

    Args:
        ok: whether that has happened.
        why: why not, in one sentence; None if it has.
    """

    ok: bool
    why: str | None

    def __bool__(self) -> bool:
        return self.ok


def seconds(timeout: float | timedelta | None) -> float | None:
    """Return a time-out in seconds.

    Raises:
        TypeError: it is none.
        ValueError: it is negative or not a number.
    """
    given = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"timeout is {timeout!r}: expected seconds, a timedelta, or None for as long as it takes")
    if not given >= 0:
        raise ValueError(f"timeout is {timeout!r}: it must not be negative")
    return float(given)


def check(until: str) -> None:
    """Refuse what nobody can wait for.

    Raises:
        ValueError: says what there is.
    """
    if until not in get_args(Until):
        raise ValueError(f"until is {until!r}: expected one of {', '.join(map(repr, get_args(Until)))}")


def judge(until: Until, row: LoadedRow, failures: Sequence[FailedAttempt]) -> Waited | None:
    """Return what a wait comes to as a job stands, None while it goes on."""
    begun = row.status in OVER or (row.status == Status.RUNNING and bool(row.worker)) or bool(failures)
    if row.status == Status.CANCELLED:
        return Waited(until == "started" and bool(failures or row.started_at), "the job was cancelled")
    if until == "started":
        return Waited(ok=True, why=None) if begun else None
    if row.status == Status.SUCCESSFUL or (until == "ready" and row.ready_at is not None):
        return Waited(ok=True, why=None)
    if row.status == Status.FAILED:
        return Waited(ok=False, why=_words(failures))
    return None


def wait(store: Store, pk: int, until: Until, timeout_s: float | None, gone: threading.Event | None = None) -> Waited:
    """Wait for a job.

    Args:
        store: where it is.
        pk: the job.
        until: for what.
        timeout_s: for how long at most, in seconds; None for as long as it takes.
        gone: set when nobody wants to know any more.

    Raises:
        TransactionManagementError: called within a transaction, before it has happened: no worker sees what was
            enqueued there.
    """
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    if (found := _look(store, pk, until)) is not None:
        return found
    if not store.sql.connection.get_autocommit():
        raise transaction.TransactionManagementError(
            f"job {pk} cannot be waited for within atomic(): what was enqueued there is seen by no worker before the "
            "transaction has ended; wait after it"
        )
    with store.sql.hearing_of(pk, listen=store.notify) as heard:
        if store.notify:
            store.note_awaited(pk)
        while (found := _look(store, pk, until)) is None and not (gone and gone.is_set()):
            left_s = LOOK_S if give_up_at is None else min(LOOK_S, give_up_at - time.monotonic())
            if left_s <= 0:
                return Waited(ok=False, why=_late(store, pk, until, timeout_s or 0.0))
            _attend(heard, left_s, gone)
    return Waited(ok=False, why="nobody waits any more") if found is None else found


def _attend(heard: Callable[[float], bool], most_s: float, gone: threading.Event | None) -> None:
    """Wait until something may have become of the job, at most for some seconds, or until nobody wants to know."""
    if gone is None:
        heard(most_s)
        return
    give_up_at = time.monotonic() + most_s
    while not gone.is_set() and (left_s := give_up_at - time.monotonic()) > 0 and not heard(min(left_s, STOP_S)):
        pass


def _look(store: Store, pk: int, until: Until) -> Waited | None:
    found = store.get(pk)
    return judge(until, *found) if found is not None else Waited(ok=False, why="the job does not exist any more")


def _late(store: Store, pk: int, until: Until, timeout_s: float) -> str:
    """Return why it was not enough time, as far as that is known."""
    found = store.get(pk)
    if found is None:
        return "the job does not exist any more"
    row, failures = found
    words = f"not {until} after {timeout_s:g} s"
    if failures and row.status in (Status.READY, Status.SCHEDULED):
        return f"{words}: attempt {failures[-1].attempt} failed ({_words(failures)}) and another one follows"
    return f"{words}: the job is {label_of(row.status)}"


def _words(failures: Sequence[FailedAttempt]) -> str:
    """Return the last error as one line: its class with the first line of its message, or the sentence it has."""
    if not failures:
        return "the job failed"
    lines = failures[-1].traceback.strip().splitlines() or ["the job failed"]
    name = failures[-1].exception_class_path.removeprefix("builtins.")
    return [lines[-1].strip(), *(line for line in lines if line.startswith(name))][-1]
