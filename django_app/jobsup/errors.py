"""The exceptions of jobsup."""

from __future__ import annotations

from typing import Any


class JobsupError(Exception):
    """Something about a job or its supervisor went wrong."""


class WorkerLost(JobsupError):
    """The worker process ended while it had the job; the traceback of the error is a sentence that says how."""


class TaskNotFound(JobsupError):
    """The path of a job leads to no task."""


class TransactionBroken(JobsupError):
    """What an atomic job wrote cannot be committed together with its end."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the transaction of the job cannot be committed: {why}")


class RowUnreadable(JobsupError):
    """What stands in a job's row is nothing that jobsup wrote: somebody has changed it by hand."""


class AlreadyEnqueued(JobsupError):
    """There is a job with this unique key already.

    Args:
        result: of that job, as it stands.
    """

    def __init__(self, result: Any) -> None:
        super().__init__(f"job {result.id} of {result.task.module_path} has this unique key")
        self.result = result


class JobInterrupted(BaseException):
    """The job is to end now: raised in the job itself; no `Exception`, so that `except Exception` lets it through."""


class JobTimeout(JobInterrupted):
    """The job has used up its time-out."""


class JobCancelled(JobInterrupted):
    """The job was cancelled."""


class MemoryLimitExceeded(JobsupError):
    """The worker was ended, since it used more memory than the job may have."""


class EnqueueOutsideTransaction(UserWarning):
    """A job was enqueued in a transaction of another database than the jobs', and so is no part of it."""
