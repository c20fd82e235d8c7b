"""Help for the tests of projects whose jobs run on jobsup: no supervisor, no worker, no waiting.

Jobs run in the test's own process, on its own connection and inside its transaction, through the store and the code
that workers run them with.
"""

from jobsup.testing.assertions import assert_enqueued, assert_not_enqueued, enqueued
from jobsup.testing.immediately import immediate
from jobsup.testing.jobs import Jobs
from jobsup.testing.pending import run_pending

__all__ = ["Jobs", "assert_enqueued", "assert_not_enqueued", "enqueued", "immediate", "run_pending"]
