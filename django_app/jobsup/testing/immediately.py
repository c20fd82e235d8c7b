"""The immediate mode: an enqueue runs its job at once, in the caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobsup.backend import JobsupBackend, pk_of
from jobsup.compat import task_enqueued
from jobsup.results import JobsupResult
from jobsup.testing.inprocess import in_process, the_store


@contextmanager
def immediate(*, raise_errors: bool = False) -> Iterator[list[JobsupResult]]:
    """Have each job run inside of the call that enqueues it, as context manager or decorator.

    It runs at once also inside of `atomic()`, in that transaction, and does not wait for the commit. One with a
    `run_after` that is still to come stays scheduled, as does one that failed and is to be tried again.

    Args:
        raise_errors: whether a job's exception is raised from the call that enqueued it, once it is recorded.

    Yields:
        The results of the jobs that have run, as they stood then, in the order in which they ended.
    """
    ran: list[JobsupResult] = []

    def run(sender: type, task_result: Any, **_kwargs: Any) -> None:
        pk = pk_of(task_result.id) if issubclass(sender, JobsupBackend) else None
        if pk is None:
            return
        with in_process(the_store(task_result.backend), raise_errors=raise_errors) as here:
            if not here.claim_this(pk):
                return
            try:
                here.run(pk)
            finally:
                task_result.refresh()
                ran.append(task_result)

    task_enqueued.connect(run, weak=False)
    try:
        yield ran
    finally:
        task_enqueued.disconnect(run)
