"""The limits of a job: its own options, completed by the setting JOBSUP."""

from __future__ import annotations

from functools import lru_cache

from jobsup.conf import Conf
from jobsup.errors import RowUnreadable
from jobsup.options import options_of
from spawnpool.bounds import Bounds


def defaults(conf: Conf) -> Bounds:
    """Return the limits of a job whose task declares none."""
    return Bounds(conf.timeout_s, conf.timeout_grace_s, conf.memory_limit)


@lru_cache(maxsize=1024)
def bounds_of(text: str | None, default: Bounds) -> Bounds:
    """Return the limits in force for a job.

    Args:
        text: the options that its row keeps.
        default: for what that leaves open.
    """
    try:
        given = {name: value for name, value in options_of(text).items() if value is not None}
    except RowUnreadable:
        return default  # the job fails by it when it begins
    return Bounds(
        given.get("timeout", default.timeout_s) or None,
        given.get("timeout_grace", default.grace_s),
        given.get("memory_limit", default.memory_bytes) or None,
    )
