"""Which transaction an enqueue belongs to: that of the database with the jobs, and of no other."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import asgiref
import django
from django.db import connections

from jobsup.compat import Task
from jobsup.errors import EnqueueOutsideTransaction

_MACHINERY = tuple(
    f"{Path(file).parent}/" for file in (__file__, inspect.getfile(Task), inspect.getfile(django), asgiref.__file__)
)
"""Where the call of an enqueue passes through; whoever called it stands elsewhere."""


def warn_outside(task: Any, alias: str) -> None:
    """Warn if a transaction is open that a job enqueued now will not be part of; looks at known connections only.

    Nothing is said when there is a transaction on the database with the jobs, too: then somebody thought of it.

    Args:
        task: what is enqueued.
        alias: of the database with the jobs.
    """
    others = []
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            if connection.alias == alias:
                return
            others.append(connection.alias)
    if others:
        message = (
            f"{task.module_path} is enqueued in a transaction of {' and '.join(map(repr, others))}, but jobs are in "
            f"{alias!r}: the job is there at once, whatever becomes of that transaction. Enqueue it when that commits: "
            f"transaction.on_commit(lambda: {task.name}.enqueue(...), using={others[-1]!r})."
        )
        warnings.warn(message, EnqueueOutsideTransaction, stacklevel=_level())


def _level() -> int:
    """Return how far from `warn_outside` the call in the project's own code is, for `warnings.warn`."""
    frame: FrameType | None = inspect.currentframe()
    level = 0
    while frame is not None and frame.f_code.co_filename.startswith(_MACHINERY):
        frame, level = frame.f_back, level + 1
    return max(level, 2)
