"""Background jobs for Django with nothing but the database.

`from jobsup import task` is the decorator of `django.tasks` with the options of this backend. A job that is interrupted
finds `JobTimeout` or `JobCancelled` raised in it; `cancel_requested()` tells a job that looks, before that. One that
raises `Retry`, `Snooze` or `Discard` says itself what is to become of it.
"""

from jobsup.errors import JobCancelled, JobInterrupted, JobTimeout, MemoryLimitExceeded, WorkerLost
from jobsup.interrupts import cancel_requested
from jobsup.retries import Backoff, Discard, Retry, Snooze
from jobsup.schedules.declared import Schedule
from jobsup.task import task

__all__ = [
    "Backoff",
    "Discard",
    "JobCancelled",
    "JobInterrupted",
    "JobTimeout",
    "MemoryLimitExceeded",
    "Retry",
    "Schedule",
    "Snooze",
    "WorkerLost",
    "__version__",
    "cancel_requested",
    "task",
]
__version__ = "0.1.0"
