"""The exceptions of jobsup."""

from __future__ import annotations


class JobsupError(Exception):
    """Something about a job or its supervisor went wrong."""


class WorkerLost(JobsupError):
    """The worker process ended while it had the job; the traceback of the error is a sentence that says how."""


class TaskNotFound(JobsupError):
    """The path of a job leads to no task."""
