"""When a schedule's moments are. Pure: no clock and no database in here.

All moments are aware and in UTC. Cron expressions are cronsim's, which treats a change of the clocks as Debian's cron
does; an interval's moments are its multiples since 1970, so that all machines agree on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
INTERVAL_MAX_S = 366 * 86400
CRON_CHARS_MAX = 100
CATCH_UP = ("latest", "all", "none")

CATCH_UP_MAX = 100
"""How many missed moments are made up for at most; the newest ones."""

LATE_S = 60.0
"""How late a moment may be noticed and still be no missed one, where nothing is made up for."""

_LOOK_BACK_S = 60.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rhythm(NamedTuple):
    """What a schedule's moments follow: a cron expression in a time zone, or an interval.

    Args:
        cron: the expression; empty where there is an interval.
        interval_s: whole seconds; None where there is an expression.
        timezone: name of the zone that the expression means.
    """

    cron: str = ""
    interval_s: int | None = None
    timezone: str = "UTC"

    def __str__(self) -> str:
        if self.interval_s is None:
            return self.cron
        return f"every {timedelta(seconds=self.interval_s)}"

    def check(self) -> None:
        """Refuse what has no moments.

        Raises:
            ValueError: says why.
        """
        if bool(self.cron) == (self.interval_s is not None):
            raise ValueError("expected either a cron expression or an interval")
        if self.interval_s is not None:
            if not 1 <= self.interval_s <= INTERVAL_MAX_S:
                raise ValueError("expected an interval from 1 second to 366 days")
            return
        if len(self.cron) > CRON_CHARS_MAX:
            raise ValueError(f"expected a cron expression of at most {CRON_CHARS_MAX} characters")
        zone_of(self.timezone)
        try:
            next(self._cron(datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"{self.cron!r} is no cron expression: {error}") from None
        except StopIteration:
            raise ValueError(f"{self.cron!r} is no moment of any year") from None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments after this one, in order, each once.

        Args:
            moment: aware.
        """
        if self.interval_s is not None:
            yield from _multiples(moment, timedelta(seconds=self.interval_s))
        last = moment
        for found in self._cron(moment):
            # Of an hour that the clocks repeat, a moment by the wall is told as the first of the two.
            if (tick := found.astimezone(UTC)) > last:
                yield tick
                last = tick

    def _cron(self, moment: datetime) -> Iterator[datetime]:
        expression = NICKNAMES.get(self.cron.strip().lower(), self.cron)
        return CronSim(expression, moment.astimezone(zone_of(self.timezone)))


def _multiples(moment: datetime, interval: timedelta) -> Iterator[datetime]:
    count = (moment - _EPOCH) // interval
    while True:
        count += 1
        yield _EPOCH + count * interval


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):
        raise ValueError(f"{name!r} is no time zone that this machine knows") from None


class Due(NamedTuple):
    """What is to be done at a moment.

    Args:
        ticks: the moments to enqueue jobs for, in order.
        missed: how many were left out, as far as they were counted.
        last_at: the newest of them all; None if none was due.
        next_at: the next moment; None if there is none any more.
    """

    ticks: list[datetime]
    missed: int
    last_at: datetime | None
    next_at: datetime | None


def due(rhythm: Rhythm, next_at: datetime, now: datetime, catch_up: str) -> Due:
    """Decide what becomes of the moments from `next_at` to `now`.

    Args:
        rhythm: of the schedule.
        next_at: the first moment that nobody has seen to yet.
        now: the present.
        catch_up: one of `CATCH_UP`.
    """
    if next_at > now:
        return Due([], 0, None, next_at)
    ticks, more = _newest(rhythm, next_at, now)
    following = next(rhythm.after(now), None)
    if catch_up == "all":
        kept = ticks
    elif catch_up == "none" and ticks[-1] < now - timedelta(seconds=LATE_S):
        kept = []
    else:
        kept = ticks[-1:]
    return Due(kept, len(ticks) - len(kept) + more, ticks[-1], following)


def _newest(rhythm: Rhythm, first: datetime, now: datetime) -> tuple[list[datetime], bool]:
    """Return the newest moments from `first` to `now`, `CATCH_UP_MAX` at most, and whether there are older ones.

    Looks back further and further, so that a year without supervisors costs no more than a day.
    """
    back_s = _LOOK_BACK_S
    while True:
        begin = max(first, now - timedelta(seconds=back_s))
        found = [first] if begin == first else []  # it is due whatever its rhythm has become since
        ticks = [tick for tick in _until(rhythm, begin, now) if tick > begin]
        found += ticks[-CATCH_UP_MAX - 1 :]
        if begin == first or len(found) > CATCH_UP_MAX:
            return found[-CATCH_UP_MAX:], len(found) > CATCH_UP_MAX
        back_s *= 4


def _until(rhythm: Rhythm, begin: datetime, now: datetime) -> Iterator[datetime]:
    for tick in rhythm.after(begin):
        if tick > now:
            return
        yield tick


def upcoming(rhythm: Rhythm, now: datetime, count: int) -> list[datetime]:
    """Return the next moments after `now`."""
    return list(islice(rhythm.after(now), count))
