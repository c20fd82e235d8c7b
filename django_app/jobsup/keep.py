"""JOBSUP["KEEP"]: how long jobs are kept once they have ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

DAY_S = 86400.0
KEEP_MAX_S = 100 * 366 * DAY_S


class Keep(NamedTuple):
    """How long jobs are kept after their end, in seconds by how they ended; None for ever.

    Args:
        successful: those that returned.
        failed: those that did not, and are not tried again.
        cancelled: those that somebody cancelled.
    """

    successful: float | None = 7 * DAY_S
    failed: float | None = 30 * DAY_S
    cancelled: float | None = 30 * DAY_S

    def __str__(self) -> str:
        times = zip(self._fields, self, strict=True)
        return ", ".join(f"{end}: " + ("for ever" if s is None else f"{s / DAY_S:g} days") for end, s in times)


KEEP = Keep()
"""Without a setting."""


def keep_of(value: Any) -> Keep:
    """Return what the setting says: a dict by how jobs ended, one duration for all of them, or None.

    Raises:
        TypeError: it is none of these.
        ValueError: a duration is out of its range, or there is no such end.
    """
    if not isinstance(value, Mapping):
        return Keep(*[_duration(value)] * len(Keep._fields))
    if unknown := [key for key in value if key not in Keep._fields]:
        raise ValueError(f"{unknown[0]!r} is no end of a job; there are {', '.join(Keep._fields)}")
    return Keep(**{key: _duration(duration) for key, duration in value.items()})


def _duration(value: Any) -> float | None:
    from jobsup.conf import number

    return None if value is None else float(number(value, 0, KEEP_MAX_S))
