"""Jobs in a database of their own: the router that puts them there, and tasks that work elsewhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.db import connections, transaction

from jobsup import task

from .models import Effect
from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext

JOBS = "jobs"


class JobsRouter:
    """Puts the tables of jobsup, and nothing else, into a database of their own."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return where a model is read."""
        return JOBS if model._meta.app_label == "jobsup" else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Return where a model is written."""
        return self.db_for_read(model)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Tell which tables are made where."""
        return (app_label == "jobsup") == (db == JOBS)


@task
def session(alias: str) -> dict[str, Any]:
    """Return which session a job finds (PostgreSQL)."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone() or (0,)
    return {"session": pid, "in transaction": connections[alias].in_atomic_block}


@task
def leave_transaction(alias: str) -> int:
    """Return from within a transaction; return the pid."""
    transaction.atomic(using=alias).__enter__()
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
    return os.getpid()


@task(takes_context=True)
def work(context: TaskContext[Any, Any]) -> dict[str, Any]:
    """Leave a trace in the database with the models, in a transaction; enqueue a job when that commits."""
    with transaction.atomic():
        leave_trace(context)
        transaction.on_commit(lambda: count.enqueue(int(context.task_result.id)))
    open_aliases = [each.alias for each in connections.all(initialized_only=True) if each.connection is not None]
    return {"pid": os.getpid(), "aliases": sorted(open_aliases)}


@task
def count(job: int) -> int:
    """Return how many traces a job has left."""
    return Effect.objects.filter(job=job).count()
