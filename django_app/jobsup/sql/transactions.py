"""What the vendors' transactions have of their own: how they begin, and how they say that they lost against others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

CONFLICTS = frozenset({"40001", "40P01", 1020, 1213})
"""A serialization failure and a deadlock: SQLSTATE of PostgreSQL, error numbers of MariaDB and MySQL.

SQLite has neither, since whoever writes is alone from the beginning.
"""
GONE = ("08", "57P01", "57P02", "57P03")
"""How the SQLSTATE of an error begins by which PostgreSQL takes leave of a session that has done nothing for that."""

REPEATS_MAX = 10
REPEAT_S = 4.0
"""How often, and for how long, our own transactions are repeated that lost against others.

InnoDB finds a deadlock at once, PostgreSQL after a second; a supervisor has other duties, too.
"""

_CHAIN_MAX = 20
"""How many causes of an exception are looked at."""

T = TypeVar("T")


@contextmanager
def writing_from_the_start(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Have a transaction that begins in here be one that may write.

    On SQLite one that reads first and writes later fails at once if somebody else has written meanwhile.
    """
    if not has_one_writer(connection):
        yield
        return
    wrapper: Any = connection
    before, wrapper.transaction_mode = wrapper.transaction_mode, "IMMEDIATE"
    try:
        yield
    finally:
        wrapper.transaction_mode = before


def has_one_writer(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether nobody else can write anything while a transaction is open that may."""
    return connection.vendor == "sqlite"


def keeps_its_snapshot(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether transactions fail that write what another one has written since they began, as far as is known."""
    level = getattr(connection, "isolation_level", None)
    return connection.vendor == "postgresql" and getattr(level, "name", "") in {"REPEATABLE_READ", "SERIALIZABLE"}


def insisting(connection: BaseDatabaseWrapper, action: Callable[[], T]) -> T:
    """Do something of our own again if it lost against others, unless it is part of somebody else's transaction.

    A lock that is waited for too long is no such thing: to wait for it again would take as long again.

    Args:
        connection: where.
        action: one statement, or a whole transaction.
    """
    if connection.in_atomic_block or not connection.get_autocommit():
        return action()
    give_up_at = time.monotonic() + REPEAT_S
    for _ in range(REPEATS_MAX):
        try:
            return action()
        except DatabaseError as error:
            if not is_conflict(error) or time.monotonic() >= give_up_at:
                raise
    return action()


def is_conflict(error: BaseException) -> bool:
    """Tell whether an exception comes of a transaction that lost against others: repeated, it may go well."""
    return any(_code(each) in CONFLICTS for each in _causes(error))


def may_be_lost(error: BaseException) -> bool:
    """Tell whether an exception of a connection that is gone may come of that, by no fault of what was done there."""
    codes = [code for each in _causes(error) if isinstance(code := _code(each), str)]
    return all(code.startswith(GONE) for code in codes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, as a traceback shows it."""
    step: BaseException | None = error
    for _ in range(_CHAIN_MAX):
        if step is None:
            return
        yield step
        step = step.__cause__ if step.__suppress_context__ else step.__context__


def _code(error: BaseException) -> str | int | None:
    """Return the code of a driver's error: a SQLSTATE, or the number of MariaDB's and MySQL's."""
    state = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state
    number = error.args[0] if type(error).__module__.startswith(("pymysql", "MySQLdb")) and error.args else None
    return number if isinstance(number, int) else None
