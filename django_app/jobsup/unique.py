"""Jobs of which there is only one: the key of a new job, the one that has it already, and giving way.

The partial unique indexes of the table decide, so that any number of enqueuers on any number of machines agree. A key
is held while its job waits, with `unique_while="running"` also while it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from inspect import signature
from typing import Any, TypeVar

from django.db import IntegrityError, OperationalError, connections, transaction
from django.db.models import Exists, OuterRef, Q

from jobsup.errors import JobsupError
from jobsup.models import Job, Status
from jobsup.sql import NewRow, Statements
from jobsup.sql.transactions import insisting
from jobsup.sql.trouble import is_changed, is_time_out
from jobsup.text import bounded, dump

KEY_CHARS_MAX = 255
"""As long as the column `Job.unique_key`."""
TRIES_MAX = 20
"""How often a job that has the key may end just when it is looked at, or another one take the key of one put back."""
WAITING = (Status.READY, Status.SCHEDULED)

T = TypeVar("T")


def key_of(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return what a job's row keeps as its key, None if any number of such jobs may wait.

    Args:
        task: its option `unique` says what the key is made of.
        args: the job's own arguments.
        kwargs: those by name.

    Raises:
        TypeError, ValueError: the task's callable returned what cannot be a key.
    """
    unique = getattr(task, "unique", None)
    value: Any = None
    if unique is True:
        value = _by_name(task, args, kwargs)
    elif unique:
        value = unique(*args, **kwargs) if callable(unique) else unique
    if value is None:
        return None
    if not isinstance(value, str):
        text = dump(value, f"the unique key of {task.module_path}")
        value = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    key = f"{task.module_path} {value}"
    if len(key) > KEY_CHARS_MAX or bounded(key) != key:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        key = f"{task.module_path[:180]} sha256:{digest}"
    return key


def _by_name(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by their parameters' names, so that f(1) and f(number=1) are the same call."""
    context = (None,) if task.takes_context else ()
    try:
        bound = signature(task.func).bind(*context, *args, **kwargs)
    except TypeError:  # it cannot be called so; the job will tell
        return {"args": list(args), "kwargs": dict(kwargs)}
    return dict([*bound.arguments.items()][len(context) :])


def insert(sql: Statements, row: NewRow, *, replace: bool, notify: bool) -> tuple[int, datetime | None]:
    """Insert a job unless another one has its key; joins the caller's transaction.

    What is found there instead is not begun before that transaction ends, so that it sees what the transaction wrote.

    Args:
        sql: the statements of its database.
        row: the job.
        replace: whether one that waits takes over this one's time, priority and arguments.
        notify: whether supervisors are woken.

    Returns:
        The id of the new job and when it was enqueued, or the id of the one that has the key, and None.

    Raises:
        OperationalError: at REPEATABLE READ or above, another transaction has just taken or given up the key.
    """
    try:
        for _ in range(TRIES_MAX):
            if (new := sql.insert(row, notify=notify)) is not None:
                return new
            held = not sql.connection.get_autocommit()
            if (found := sql.holder(row, hold=held)) is None:
                continue  # it was taken, or has ended, in this very moment
            pk, status = found
            replaced = replace and status in WAITING
            if replaced and not _replace(sql, pk, row):
                continue
            # Whoever looked for work while it was held did not see it.
            if notify and (held or replaced):
                sql.notify()
            return pk, None
    except OperationalError as error:
        if is_changed(error):
            error.add_note("Another transaction holds the unique key of this job; repeat this one from its beginning.")
        raise
    raise JobsupError(f"a job of {row.task} could neither be enqueued nor found: others keep taking its unique key")


def _replace(sql: Statements, pk: int, row: NewRow) -> bool:
    due = row.run_after is None or row.run_after <= sql.now()
    jobs = Job.objects.using(sql.alias).filter(pk=pk, status__in=WAITING)
    status = Status.READY if due else Status.SCHEDULED
    values = {"run_after": row.run_after, "priority": row.priority, "arguments": row.arguments}
    return sql.insisting(lambda: jobs.update(status=status, **values)) > 0


def giving_way(alias: str, pks: Collection[int], write: Callable[[], T]) -> T:
    """Do a write that puts jobs back to those that wait; one whose key another has by now goes on without it.

    Without a conflict, and outside of a transaction, this costs nothing.

    Args:
        alias: of their database.
        pks: the jobs that are put back.
        write: may be repeated; writes all or nothing.
    """
    if not pks:
        return write()
    for _ in range(TRIES_MAX):
        try:
            if not connections[alias].in_atomic_block:
                return write()
            with transaction.atomic(using=alias):
                return write()
        except (IntegrityError, OperationalError) as error:
            # One who has enqueued it and does not commit makes a supervisor wait until its session's limit.
            waited = is_time_out(error)
            if not (waited or isinstance(error, IntegrityError)) or not _give_way(alias, pks, all_of_them=waited):
                raise
    return write()


def _give_way(alias: str, pks: Collection[int], *, all_of_them: bool) -> bool:
    """Take the keys from those of these jobs that are in somebody's way; tell whether any of them has or had one.

    Who was in the way may be gone by now: then nobody has to give way, and the write can be repeated as it was.
    """
    jobs = Job.objects.using(alias)
    mine = jobs.filter(pk__in=pks, unique_key__isnull=False).exclude(status__in=WAITING)
    if not mine.exists():
        return False
    if not all_of_them:
        # Among those that are put back together, the latest keeps it.
        in_the_way = Q(status__in=WAITING) | Q(pk__in=pks, pk__gt=OuterRef("pk"))
        mine = mine.filter(
            Exists(jobs.filter(in_the_way, unique_key=OuterRef("unique_key")).exclude(pk=OuterRef("pk")))
        )
    # In two steps, since not every database updates a table by a look into itself.
    theirs = jobs.filter(pk__in=list(mine.values_list("pk", flat=True)))
    insisting(connections[alias], lambda: theirs.update(unique_key=None))
    return True
