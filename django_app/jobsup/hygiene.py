"""What a job must not leave to the next one: open transactions and unusable connections."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

_IDLE = 0  # TRANSACTION_STATUS_IDLE of psycopg 2, TransactionStatus.IDLE of psycopg 3 (libpq: PQTRANS_IDLE)


def tidy_connections() -> list[str]:
    """Drop the connections that a job left in the middle of something; return the aliases that were dropped."""
    dropped = []
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if _is_unfit(connection):
            drop(connection)
            dropped.append(connection.alias)
        connection.errors_occurred = False
        if connection.queries_logged:
            connection.queries_log.clear()
    return dropped


def check_connections() -> None:
    """Drop the connections that died while nobody used them."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and not connection.is_usable():
            drop(connection)


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


def _is_unfit(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the next job must not have this connection."""
    try:
        return _is_dirty(connection) or (connection.errors_occurred and not connection.is_usable())
    except Exception:  # noqa: BLE001  # the job closed the driver's own connection, which answers no question any more
        return True


def _is_dirty(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a transaction is open, by Django's account or by the driver's."""
    if connection.in_atomic_block or not connection.get_autocommit():
        return True
    driver: Any = connection.connection
    if connection.vendor == "postgresql":
        if hasattr(driver, "get_transaction_status"):  # psycopg 2, where `info` is a new object each time
            return bool(driver.get_transaction_status() != _IDLE)
        return bool(driver.info.transaction_status != _IDLE)
    if connection.vendor == "sqlite":
        return bool(driver.in_transaction)
    return False
