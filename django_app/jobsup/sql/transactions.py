"""What the vendors' transactions have of their own: how they begin, and how they say that they lost against others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

CONFLICTS = frozenset({"40001", "40P01", 1020, 1213})
"""A serialization failure and a deadlock: SQLSTATE of PostgreSQL, error numbers of MariaDB and MySQL.

SQLite has neither, since whoever writes is alone from the beginning.
"""
GONE = ("08", "57P01", "57P02", "57P03")
"""How the SQLSTATE of an error begins by which PostgreSQL takes leave of a session that has done nothing for that."""

_CHAIN_MAX = 20
"""How many causes of an exception are looked at."""


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
