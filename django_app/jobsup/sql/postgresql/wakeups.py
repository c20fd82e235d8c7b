"""Wake-ups by NOTIFY: hints; the poll is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jobsup.sql.base import Statements
from jobsup.sql.postgresql.ear import Ear

CHANNEL = "jobsup"
DONE_CHANNEL = "jobsup_done"
CANCEL = "cancel"


class Wakeups(Statements):
    """What PostgreSQL tells the supervisors, and those who wait for a job."""

    # LISTEN wakes the supervisor at once; the poll only covers a notification that was lost.
    poll_interval_s = 5.0

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._ear: Ear | None = None
        self._cancel_heard = False
        self._words: set[str] = set()  # told, and not asked for yet

    def notify(self, word: str = "") -> None:
        self.rows("SELECT pg_notify(%s, %s)", (CHANNEL, word))

    def tell_waiters(self, pks: Sequence[int]) -> None:
        self.rows(
            "SELECT pg_notify(%s, id::text) FROM jobsup_job WHERE id = ANY(%s::bigint[]) AND awaited",
            (DONE_CHANNEL, list(pks)),
        )

    @contextmanager
    def hearing_of(self, pk: int, *, listen: bool) -> Iterator[Callable[[float], bool]]:
        if not listen:
            with super().hearing_of(pk, listen=False) as due:
                yield due
            return
        self.run(f"LISTEN {DONE_CHANNEL}")
        driver: Any = self.connection.connection
        ear = Ear(driver, DONE_CHANNEL)

        def heard(most_s: float) -> bool:
            with self.connection.wrap_database_errors:
                return ear.wait(str(pk), most_s)

        try:
            yield heard
        finally:
            ear.close()
            if self.connection.connection is driver and not driver.closed:
                self.run(f"UNLISTEN {DONE_CHANNEL}")

    def heard(self, word: str) -> bool:
        found = word in self._words
        self._words.discard(word)
        return found

    def cancel_heard(self) -> bool:
        heard, self._cancel_heard = self._cancel_heard, False
        return heard

    def _heard_anything(self) -> bool:
        """Take in what was told; tell whether anything was."""
        heard = self._ear.heard() if self._ear is not None else []
        self._cancel_heard |= CANCEL in heard
        self._words.update(word for word in heard if word)
        return bool(heard)
