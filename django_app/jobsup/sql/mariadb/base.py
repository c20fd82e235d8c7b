"""What MariaDB's statements share: transactions of their own, and moments, whose columns know no time zone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.utils import timezone

from jobsup.sql.base import Statements
from jobsup.sql.rows import LoadedRow

TIMES = (
    "run_after", "enqueued_at", "started_at", "last_attempted_at", "finished_at", "cancel_asked_at", "ready_at"
)  # fmt: skip

T = TypeVar("T")


class Common(Statements):
    """The ways of MariaDB's sessions and columns."""

    names_conflicts = False

    @property
    def clock(self) -> str:
        """Return the expression for the server's clock, as Django's columns have it.

        `NOW()` would follow the time zone of the session, which a project may set to whatever it likes.
        """
        zone = self.connection.timezone or timezone.get_default_timezone()
        offset = datetime.now(zone).utcoffset()
        offset_s = 0 if offset is None else int(offset.total_seconds())
        return f"(UTC_TIMESTAMP(6) + INTERVAL {offset_s} SECOND)" if offset_s else "UTC_TIMESTAMP(6)"

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.insisting(lambda: [*super(Common, self).rows(sql, params)])

    def run(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self.insisting(lambda: super(Common, self).run(sql, params))

    def together(self, action: Callable[[], T]) -> T:
        # A deadlock undoes the caller's whole transaction: a savepoint in it would be of no use.
        return action() if self.connection.in_atomic_block else super().together(action)

    def now(self) -> datetime:
        return self.moment(self.stored_now())

    def stored_now(self) -> datetime:
        """Return the server's clock as Django's columns have it."""
        found: datetime = self.rows(f"SELECT {self.clock}")[0][0]
        return found

    def moment(self, stored: Any) -> datetime:
        moment: datetime = stored
        zone = self.connection.timezone
        return moment if zone is None else moment.replace(tzinfo=zone).astimezone(UTC)

    def stored(self, moment: datetime | None) -> Any:
        """Return a moment in the form in which Django stores it."""
        return None if moment is None else self.connection.ops.adapt_datetimefield_value(moment)

    def loaded(self, row: LoadedRow) -> LoadedRow:
        """Return a row with moments and truth values as Django has them."""
        read: Any = {name: self.moment(value) for name in TIMES if (value := getattr(row, name)) is not None}
        return row._replace(awaited=bool(row.awaited), untold=bool(row.untold), **read)


def marks(values: Sequence[object]) -> str:
    """Return the place holders of a list that is not empty: IN takes no array."""
    return ", ".join(["%s"] * len(values))
