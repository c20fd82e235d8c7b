"""Wake-ups by NOTIFY: hints; the poll is the truth.

A transaction that notifies takes a lock of the whole server before its commit and keeps it until that is on disk. So
such transactions commit one after the other, where others share one write to the disk. With 32 at once that is a tenth
of the rate. Therefore a supervisor that is woken all the time *hushes*: it takes an advisory lock, and whoever enqueues
wakes somebody only if that lock is free. It looks often meanwhile; see `jobsup.vigil`.

A lock and no row or sequence: it goes with its session however that ends, costs nobody a write, a migration or a
permission, and where it is not to be had everything is as if there were none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from django.db import connections

from jobsup import locks
from jobsup.sql.base import Statements
from jobsup.sql.postgresql.ear import Ear

CHANNEL = "jobsup"
DONE_CHANNEL = "jobsup_done"
CANCEL = "cancel"

HUSH = f"{locks.LOCKS}, {locks.HUSH}"

# Payloads that are equal are sent once per transaction. Whoever enqueues holds the lock for no time at all: it must not
# keep a supervisor from hushing until a long transaction has ended. A CASE, since that fixes the order.
WAKE = f"""
    CASE WHEN pg_try_advisory_lock_shared({HUSH}) THEN
        CASE WHEN pg_advisory_unlock_shared({HUSH}) THEN pg_notify('{CHANNEL}', '')::text END
    END
"""
HUSHED = f"NOT pg_try_advisory_xact_lock_shared({HUSH})"
"""Whether another session hushes; one's own lock is in nobody's way."""

HUSH_AGAIN_S = 0.1
"""How often to try to hush where another supervisor does."""

HUSH_KNOWN_S = 0.1
"""For how long those who enqueue need not ask again whether somebody hushes; asking costs the server some 10 us.

That is as if their transactions were longer by this, and is made good like that: by looks that become rarer slowly.
"""


class Wakeups(Statements):
    """What PostgreSQL tells the supervisors, and those who wait for a job."""

    # LISTEN wakes the supervisor at once; the poll only covers a notification that was lost.
    poll_interval_s = 5.0
    poll_shortest_s = 0.005
    wakes_everywhere = True

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._ear: Ear | None = None
        self._cancel_heard = False
        self._words: set[str] = set()  # told, and not asked for yet
        self._times = 0  # how often anything was told
        self._hushed: Any = None  # the driver's connection that holds the lock
        self._hush_at = 0.0  # when to try again
        self._known_until = 0.0  # until when it is known that nobody wants to be woken

    def notify(self, word: str = "") -> None:
        if word:  # to supervisors at work
            self.rows("SELECT pg_notify(%s, %s)", (CHANNEL, word))
        else:
            self.rows(f"SELECT {WAKE}")

    @property
    def may_wake(self) -> bool:
        """Whether somebody may want to be woken."""
        return monotonic() >= self._known_until

    def learn_of_hush(self) -> None:
        """Note that nobody wants to be woken now."""
        self._known_until = monotonic() + HUSH_KNOWN_S

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

    def woken(self) -> int:
        self.changed()
        times, self._times = self._times, 0
        return times

    @property
    def hushing(self) -> bool:
        return self._hushed is not None and self._hushed is connections[self._hears_by].connection

    def hush(self, *, wanted: bool) -> None:
        connection = connections[self._hears_by]
        if not wanted:
            if self.hushing:
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT pg_advisory_unlock({HUSH})")
            self._hushed = None
        elif self._ear is not None and monotonic() >= self._hush_at:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT pg_try_advisory_lock({HUSH})")
                took = cursor.fetchone()[0]
            self._hushed = connection.connection if took else None
            self._hush_at = 0.0 if took else monotonic() + HUSH_AGAIN_S

    @property
    def _hears_by(self) -> str:
        """The alias of the session that listens: where something is heard, it is a session of its own."""
        return self.listening_alias or self.alias

    def _heard_anything(self) -> bool:
        """Take in what was told; tell whether anything was."""
        heard = self._ear.heard() if self._ear is not None else []
        self._times += len(heard)
        self._cancel_heard |= CANCEL in heard
        self._words.update(word for word in heard if word)
        return bool(heard)
