"""The exceptions of jobsup."""

from __future__ import annotations


class JobsupError(Exception):
    """Something about a job or its supervisor went wrong."""


class WorkerLost(JobsupError):
    """The worker process ended while it had the job; the traceback of the error is a sentence that says how."""


class TaskNotFound(JobsupError):
    """The path of a job leads to no task."""


class JobInterrupted(BaseException):
    """The job is to end now: raised in the job itself; no `Exception`, so that `except Exception` lets it through."""


class JobTimeout(JobInterrupted):
    """The job has used up its time-out."""


class JobCancelled(JobInterrupted):
    """The job was cancelled."""


class MemoryLimitExceeded(JobsupError):
    """The worker was ended, since it used more memory than the job may have."""
