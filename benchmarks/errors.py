"""What can keep one contender, or one row, from being measured; the others are measured all the same."""

from __future__ import annotations


class NotMeasured(Exception):
    """A contender has no figure; the message says why."""


class Unavailable(NotMeasured):
    """Something that it needs is not on this machine."""


class Failed(NotMeasured):
    """It did not do its jobs."""
