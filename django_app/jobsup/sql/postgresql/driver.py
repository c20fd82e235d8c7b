"""What differs between psycopg 2 and psycopg 3; asked only where there is PostgreSQL: neither may be installed."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


@cache
def is_psycopg3() -> bool:
    """Tell which of them Django uses: psycopg 3 where both are installed."""
    from django.db.backends.postgresql import psycopg_any

    return bool(psycopg_any.is_psycopg3)


def told_pid(connection: BaseDatabaseWrapper) -> int:
    """Return the server process that a client was told it talks to; a pooler makes one up."""
    driver: Any = connection.connection
    return int(driver.info.backend_pid)


def to_last_result(cursor: Any) -> None:
    """Move to what the last of several statements returned; psycopg 2 knows of no other."""
    if is_psycopg3():
        while cursor.nextset():
            pass
