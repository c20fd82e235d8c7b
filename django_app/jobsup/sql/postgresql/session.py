"""The supervisor's session: no wait of it is long, and what it hears is proven."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractContextManager
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.sql import connecting
from jobsup.sql.base import WAIT_MAX_S
from jobsup.sql.postgresql.deadline import bounded
from jobsup.sql.postgresql.driver import told_pid
from jobsup.sql.postgresql.ear import Ear
from jobsup.sql.postgresql.poolers import HEARD_WITHIN_S, LocalTimeouts, keeps_sessions
from jobsup.sql.postgresql.wakeups import CHANNEL, Wakeups

SERVER_FIRST = 0.9
"""A statement is given up by the server after this share of what the client waits: then the connection is kept."""
PROVE_EVERY_S = 60.0
"""How often a session that listens has to hear itself, and one that did not tries again."""
PROBE_EVERY_S = 600.0
"""How often a pooler is asked what it keeps; that takes a second connection."""

# The condition keeps the settings off sessions that a pooler gives to others. No DO: a new process of the server would
# have to load PL/pgSQL first, which takes longer than all the rest.
BEGIN = """
    SELECT pg_backend_pid(), CASE WHEN {condition} THEN
        set_config('statement_timeout', '{most_ms}', false) || set_config('lock_timeout', '{most_ms}', false) END
"""

BY_TRANSACTIONS = (
    "a pooler that pools by transactions, such as PgBouncer, stands before database {alias!r}: notifications do not "
    "come through it, and new jobs are looked for once a second; let JOBSUP['LISTEN_ALIAS'] name an entry of DATABASES "
    "that leads past it"
)
UNHEARD = (
    "notifications from database {alias!r} do not arrive, and new jobs are looked for once a second: does a pooler "
    "stand in between?"
)
UNHEARD_THERE = (
    "notifications in database {alias!r} do not arrive at {listening!r} (JOBSUP['LISTEN_ALIAS']), and new jobs are "
    "looked for once a second: are both the same database, and does no pooler stand before {listening!r}?"
)
UNREACHABLE = (
    "database {listening!r} (JOBSUP['LISTEN_ALIAS']) cannot be reached, and new jobs are looked for once a second: "
    "{error}"
)


class Session(Wakeups):
    """The session of PostgreSQL."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._attended: Any = None  # the driver's connection that was prepared
        self._wait_s: float | None = None  # until `bound_waits` says otherwise
        self._local: LocalTimeouts | None = None
        self._kept = False  # whether the pooler keeps sessions, as it was when last asked
        self._probe_at = self._prove_at = 0.0
        self._deafness = ""
        self._own: Any = None  # the driver's connection whose session is ours alone

    @property
    def keeps_plans(self) -> bool:  # type: ignore[override]
        return self._own is not None and self._own is self.connection.connection

    @property
    def deafness(self) -> str:
        return self._deafness

    def bound_waits(self, most_s: float) -> None:
        self._wait_s = most_s
        for alias in filter(None, (self.alias, self.listening_alias)):
            connecting.for_supervisor(alias, most_s)

    def briefly(self) -> AbstractContextManager[None]:
        return super().briefly() if self._wait_s is None else bounded(self._wait_s)

    def attend(self, *, listen: bool) -> int | None:
        self.connection.ensure_connection()
        driver = self.connection.connection
        if self._attended is not driver:
            self._attended = self._ear = None
            self._begin(listen=listen)
            self._attended = driver
            self._cancel_heard = True  # while nobody listened it may have been told
        return None if self._ear is None else self._ear.fileno()

    def changed(self) -> bool:
        driver = self.connection.connection
        return driver is not None and driver is self._attended and self._heard_anything()

    # ---- the beginning of a connection

    def _begin(self, *, listen: bool) -> None:
        """Bound the statements of a new connection, and listen where that can be heard."""
        own, here = self.connection, listen and self.listening_alias is None
        proof = f"{CHANNEL}_proof_{secrets.token_hex(8)}" if time.monotonic() >= self._prove_at else None
        direct = self._bound(own, listen=here, proof=proof)
        kept = direct or self._keeps_sessions(own)
        if kept and not direct:
            self._bound(own, listen=here, proof=proof, pooled=True)
        self._own = own.connection if kept else None
        if self._local is None:
            self._local = LocalTimeouts(self._most_ms)
        self._local.use(own, wanted=not kept)
        if not listen:
            self._deafness = ""
        elif not here:
            self._listen_there(proof)
        elif not kept:
            self._deafness = BY_TRANSACTIONS.format(alias=self.alias)
        else:
            self._listen(own, proof, UNHEARD.format(alias=self.alias))

    def _keeps_sessions(self, own: BaseDatabaseWrapper) -> bool:
        now = time.monotonic()
        if now >= self._probe_at:
            self._kept = keeps_sessions(own)
            self._probe_at = now + PROBE_EVERY_S
        return self._kept

    def _listen_there(self, proof: str | None) -> None:
        """Listen on the other alias; one that did not hear, or was not there, is left alone for a while."""
        if self._deafness and proof is None:
            return
        assert self.listening_alias is not None
        listening = connections[self.listening_alias]
        words = {"alias": self.alias, "listening": self.listening_alias}
        try:
            listening.ensure_connection()
            self._bound(listening, listen=True, proof=proof, pooled=True)
        except Error as error:
            listening.close()
            self._deaf(UNREACHABLE.format(**words, error=str(error).strip().partition("\n")[0]))
        else:
            self._listen(listening, proof, UNHEARD_THERE.format(**words))

    def _listen(self, listening: BaseDatabaseWrapper, proof: str | None, else_: str) -> None:
        """Take in what a connection is notified of; where a proof is due, once it has heard what we say."""
        if proof is not None:
            ear = Ear(listening.connection, proof)
            self.rows("SELECT pg_notify(%s, '')", [proof])
            heard = ear.wait("", HEARD_WITHIN_S)
            ear.close()
            self._deaf("" if heard else else_)
        if not self._deafness:
            self._ear = Ear(listening.connection, CHANNEL)

    def _deaf(self, why: str) -> None:
        self._deafness = why
        self._prove_at = time.monotonic() + PROVE_EVERY_S

    def _bound(self, connection: BaseDatabaseWrapper, *, listen: bool, proof: str | None, pooled: bool = False) -> bool:
        """Set a session up that belongs to us alone, and tell whether it does; `pooled` says that it is known to."""
        told = told_pid(connection)
        channels = [CHANNEL, *([proof] if proof else [])] if listen else []
        with connection.cursor() as cursor:
            cursor.execute(
                BEGIN.format(condition="true" if pooled else f"pg_backend_pid() = {told}", most_ms=self._most_ms)
            )
            direct = int(cursor.fetchone()[0]) == told
            if channels and (direct or pooled):
                cursor.execute("; ".join(f"LISTEN {channel}" for channel in channels))
            return direct

    @property
    def _most_ms(self) -> int:
        return int((self._wait_s or WAIT_MAX_S) * SERVER_FIRST * 1000)
