"""Poolers between a client and PostgreSQL: whether one is there, what it keeps, and statements that bear it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from typing import Any

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.sql.postgresql.driver import to_last_result, told_pid
from jobsup.sql.postgresql.ear import Ear

HEARD_WITHIN_S = 1.0
"""How long a notification to oneself may take; a direct connection has it within a millisecond."""


def is_pooled(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether something answers for the server: the process that serves us is not the one we were told."""
    connection.ensure_connection()
    return _pid(connection) != told_pid(connection)


def keeps_sessions(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a pooler leaves a client its session for as long as it stays, by what a second client sees.

    Whoever pools by transactions gives another client the session that the first one has just used, or else hears no
    notification for the first one while that has nothing to ask.
    """
    with closing(connections[connection.alias].copy()) as other:
        try:
            pid = _pid(connection)
            other.set_autocommit(False)
            if _pid(other) == pid:
                return False
            other.rollback()
            other.set_autocommit(True)
            return arrives(other, connection)
        except Error:
            if not connection.is_usable():
                raise
            return False  # no second connection is to be had


def arrives(speaking: BaseDatabaseWrapper, listening: BaseDatabaseWrapper) -> bool:
    """Tell whether what is notified on one connection arrives at another one, which has nothing to ask meanwhile."""
    channel = f"jobsup_probe_{secrets.token_hex(8)}"
    _run(listening, f"LISTEN {channel}")
    ear = Ear(listening.connection, channel)
    _run(speaking, f"NOTIFY {channel}")
    heard = ear.wait("", HEARD_WITHIN_S)
    ear.close()
    _run(listening, f"UNLISTEN {channel}")
    return heard


class LocalTimeouts:
    """An execute wrapper that bounds each statement for the length of its own transaction.

    A SET would stay on a session that belongs to another client a moment later.

    Args:
        most_ms: how long a statement, or its waiting for a lock, may take.
    """

    def __init__(self, most_ms: int) -> None:
        self._bounds = f"SET LOCAL statement_timeout = {most_ms}; SET LOCAL lock_timeout = {most_ms}; "

    def use(self, connection: BaseDatabaseWrapper, *, wanted: bool) -> None:
        """Bound the statements of a connection from now on, or leave them alone."""
        wrappers = connection.execute_wrappers
        # What is bound on the server is one statement by nature.
        wanted = wanted and connection.settings_dict["OPTIONS"].get("server_side_binding") is not True
        if wanted and self not in wrappers:
            wrappers.append(self)
        elif not wanted and self in wrappers:
            wrappers.remove(self)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001  # Django's signature
        """Execute a statement."""
        if many or not isinstance(sql, str):
            return execute(sql, params, many, context)
        result = execute(self._bounds + sql, params, many, context)
        to_last_result(context["cursor"])
        return result


def _pid(connection: BaseDatabaseWrapper) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _run(connection: BaseDatabaseWrapper, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
