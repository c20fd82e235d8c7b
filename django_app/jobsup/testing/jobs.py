"""All of it in one object: for a TestCase to inherit from, and what the fixture `jobs` is."""

from __future__ import annotations

from jobsup.testing.assertions import assert_enqueued, assert_not_enqueued, enqueued
from jobsup.testing.immediately import immediate
from jobsup.testing.pending import run_pending


class Jobs:
    """The functions of this package as methods."""

    run_pending = staticmethod(run_pending)
    enqueued = staticmethod(enqueued)
    assert_enqueued = staticmethod(assert_enqueued)
    assert_not_enqueued = staticmethod(assert_not_enqueued)
    immediate = staticmethod(immediate)
