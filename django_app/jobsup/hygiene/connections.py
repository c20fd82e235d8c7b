"""Connections that a job left in the middle of something, or marked for longer than its own life.

A connection is dropped rather than mended: a new session costs some milliseconds and is clean for certain. Whether a
session was marked is told from the statements that pass through Django's cursors; what runs on a cursor of the
driver's own, by `callproc` or within a function of the database is out of sight.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from jobsup.hygiene.leftovers import Findings
from jobsup.hygiene.statements import QUESTIONS, WORDS, marks

_IDLE, _ABORTED, _UNKNOWN = 0, 3, 4
"""Of the states of a transaction, in psycopg 2 as in psycopg 3 (libpq: PQTRANS_IDLE, _INERROR, _UNKNOWN)."""

_IN_TRANSACTION = 1
"""The flag in the status that MariaDB and MySQL send with each answer (SERVER_STATUS_IN_TRANS)."""

_CONNECT = inspect.unwrap(BaseDatabaseWrapper.connect).__code__


class Watch:
    """The first of a connection's execute wrappers: notes the marks that statements leave on the session."""

    def __init__(self) -> None:
        self.marks: set[str] = set()

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001  # Django's signature
        """Execute a statement."""
        found = marks(sql if isinstance(sql, str) else _text(sql, context["connection"]))
        if found and not _is_connecting():
            self.marks |= found
        return execute(sql, params, many, context)


class Connections:
    """The connections of the main thread, from one job to the next."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._known: dict[str, tuple[BaseDatabaseWrapper, Watch]] = {}
        for connection in connections.all(initialized_only=True):
            self._watch(connection)
        connection_created.connect(self._created)

    def restore(self, findings: Findings) -> None:
        """Drop what the next job must not have."""
        for connection, watch in tuple(self._known.values()):
            if words := _why_unfit(connection, watch):
                drop(connection)
                findings.restored.append(words)
            connection.errors_occurred = False
            if connection.queries_log:
                connection.queries_log.clear()
            if watch not in connection.execute_wrappers:
                connection.execute_wrappers.insert(0, watch)

    def _created(self, connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
        if threading.get_ident() == self._thread:
            self._watch(connection).marks.clear()

    def _watch(self, connection: BaseDatabaseWrapper) -> Watch:
        """Have a connection's statements watched.

        The watch stands first: `execute_wrapper()`, which a connection may be opened within, takes the last one away.
        """
        watches = [wrapper for wrapper in connection.execute_wrappers if isinstance(wrapper, Watch)]
        if not watches:
            watches = [Watch()]
            connection.execute_wrappers.insert(0, watches[0])
        self._known[connection.alias] = connection, watches[0]
        return watches[0]


def check_connections() -> None:
    """Drop the connections that died while nobody used them."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and not connection.is_usable():
            drop(connection)


def is_aborted(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether an error has left a transaction that can only be rolled back."""
    return _status(connection) == _ABORTED


def drop(connection: BaseDatabaseWrapper) -> None:
    """Close a connection for certain, also inside of `atomic`, where `close()` alone only marks it."""
    connection.in_atomic_block = False
    connection.needs_rollback = False
    connection.closed_in_transaction = False
    connection.savepoint_ids = []
    connection.atomic_blocks = []
    connection.run_on_commit = []
    with contextlib.suppress(Exception):  # the server may be gone
        connection.close()
    connection.connection = None


def _why_unfit(connection: BaseDatabaseWrapper, watch: Watch) -> str | None:
    """Say why the next job must not have this connection, None if it may."""
    try:
        status = _status(connection)
        if connection.in_atomic_block or status not in (_IDLE, _UNKNOWN):
            words = "an open transaction on"
        elif connection.connection is None:
            return None
        elif not connection.autocommit:
            words = "autocommit off on"
        elif status == _UNKNOWN or (connection.errors_occurred and not connection.is_usable()):
            words = "a broken connection to"
        elif not watch.marks or not (mark := _mark(connection, watch)):
            return None
        else:
            words = f"{mark} on"
    except Exception:  # noqa: BLE001  # the job closed the driver's own connection, which answers no question any more
        words = "a broken connection to"
    return f"{words} {connection.alias!r}"


def _status(connection: BaseDatabaseWrapper) -> int:
    """Return the state of the transaction by the driver's account, in the numbers of libpq."""
    driver: Any = connection.connection
    if driver is None:
        return _IDLE
    if connection.vendor == "postgresql":
        if hasattr(driver, "get_transaction_status"):  # psycopg 2, where `info` is a new object each time
            return int(driver.get_transaction_status())
        return int(driver.info.transaction_status)
    if connection.vendor == "mysql":  # PyMySQL tells what the server said last, mysqlclient does not
        return int(getattr(driver, "server_status", _IDLE)) & _IN_TRANSACTION if driver.open else _UNKNOWN
    return int(driver.in_transaction) if connection.vendor == "sqlite" else _IDLE


def _mark(connection: BaseDatabaseWrapper, watch: Watch) -> str | None:
    """Say what lasting mark is on the session, None if all of them were undone."""
    found, watch.marks = watch.marks, set()
    lasting = [kind for kind in WORDS if kind in found and (kind not in QUESTIONS or _asked(connection, kind))]
    return WORDS[lasting[0]] if lasting else None


def _asked(connection: BaseDatabaseWrapper, kind: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(QUESTIONS[kind])
        return cursor.fetchone() is not None


def _text(sql: Any, connection: BaseDatabaseWrapper) -> str:
    """Return the text of a statement that is bytes or one of the driver's compositions."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    return str(sql.as_string(connection.connection) if hasattr(sql, "as_string") else sql)


def _is_connecting() -> bool:
    """Tell whether Django is opening a connection: what its receivers say then belongs to every session."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # the way that the inspect module goes, too
    while frame is not None and frame.f_code is not _CONNECT:
        frame = frame.f_back
    return frame is not None
