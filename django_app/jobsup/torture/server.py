"""What the torture asks of the database server, per vendor: sessions, a lock on the jobs, whether it answers."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import NamedTuple

from django.db import DatabaseError, InterfaceError, connection

ERRORS = DatabaseError, InterfaceError


class Vendor(NamedTuple):
    """The statements of a database server.

    Args:
        sessions: the sessions of this database besides the asking one, in a fixed order.
        idle: those of them that are idle in a transaction.
        end: ends one.
        lock: has others wait who want to read or write jobs, from within a transaction.
        unlock: ends that before the rollback; None if the rollback does.
    """

    sessions: str
    idle: str
    end: str
    lock: str
    unlock: str | None = None


_PG = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)
_MY = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
_VENDORS = {
    "postgresql": Vendor(
        f"{_PG} ORDER BY backend_start",
        f"{_PG} AND state LIKE 'idle in%'",
        "SELECT pg_terminate_backend({})",
        "LOCK TABLE jobsup_job IN ACCESS EXCLUSIVE MODE",
    ),
    "mysql": Vendor(
        f"{_MY} ORDER BY id",
        f"{_MY} AND command = 'Sleep' AND id IN "  # noqa: S608  # constants
        "(SELECT trx_mysql_thread_id FROM information_schema.innodb_trx)",
        "KILL {}",
        "LOCK TABLES jobsup_job WRITE",
        "UNLOCK TABLES",
    ),
    "sqlite": Vendor("", "", "", "BEGIN EXCLUSIVE"),
}


def has_sessions() -> bool:
    """Tell whether there is a server with sessions that can be ended."""
    return bool(_vendor().sessions)


def sessions() -> list[int]:
    """Return the sessions of this database besides our own."""
    return _ids(_vendor().sessions)


def idle_in_transaction() -> list[int]:
    """Return those of them that are idle in a transaction."""
    return _ids(_vendor().idle)


def end_session(session: int) -> None:
    """End one as an administrator would; that it has ended meanwhile is no error."""
    with suppress(*ERRORS), connection.cursor() as cursor:
        cursor.execute(_vendor().end.format(session))


def reconnect() -> None:
    """Have the next statement begin a new session."""
    try:
        connection.close()
    except ERRORS:
        connection.connection = None


def wait_for_answer(timeout_s: float) -> None:
    """Wait until the database answers.

    Raises:
        DatabaseError, InterfaceError: it does not within that time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except ERRORS:
            reconnect()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


class TableLock:
    """A lock on the table of jobs, as a migration or an administrator would hold it, on a connection of its own.

    The lock is waited for in a thread: there may be a long transaction in front of it.
    """

    def __init__(self) -> None:
        self._release = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="lock", daemon=True)

    def take(self) -> None:
        """Ask for it."""
        self._thread.start()

    def release(self) -> None:
        """Give it back."""
        self._release.set()
        self._thread.join(30)

    def _hold(self) -> None:
        vendor = _vendor()
        with suppress(*ERRORS):
            connection.ensure_connection()
            connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=False)
            with connection.cursor() as cursor:
                cursor.execute(vendor.lock)
                self._release.wait()
                if vendor.unlock is not None:
                    cursor.execute(vendor.unlock)
            connection.rollback()
        reconnect()


def _vendor() -> Vendor:
    return _VENDORS[connection.vendor]


def _ids(statement: str) -> list[int]:
    if not statement:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return [number for (number,) in cursor.fetchall()]
