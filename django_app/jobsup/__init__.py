"""Background jobs for Django with nothing but the database.

`from jobsup import task` is the decorator of `django.tasks` with the options of this backend. A job that is interrupted
finds `JobTimeout` or `JobCancelled` raised in it; `cancel_requested()` tells a job that looks, before that.
"""

from jobsup.errors import JobCancelled, JobInterrupted, JobTimeout
from jobsup.interrupts import cancel_requested
from jobsup.tasks import task

__all__ = ["JobCancelled", "JobInterrupted", "JobTimeout", "__version__", "cancel_requested", "task"]
__version__ = "0.1.0"
