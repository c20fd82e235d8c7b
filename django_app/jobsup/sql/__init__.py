"""The statements that need care, per vendor; each module says why its statements have the shape that they have.

Statuses stand as literals (0 ready, 1 scheduled, 2 running), or the planner could not use the partial indexes.
"""

from __future__ import annotations

from django.db import connections

from jobsup.sql.base import Finished, FinishRow, LoadedRow, NewRow, Statements
from jobsup.sql.mariadb import MariaDB
from jobsup.sql.postgresql import PostgreSQL
from jobsup.sql.sqlite import SQLite

__all__ = ["FinishRow", "Finished", "LoadedRow", "NewRow", "Statements", "UnsupportedDatabase", "statements"]

_VENDORS: dict[str, type[Statements]] = {"postgresql": PostgreSQL, "mysql": MariaDB, "sqlite": SQLite}
_NAMES = "PostgreSQL, MariaDB, MySQL and SQLite"


class UnsupportedDatabase(Exception):
    """jobsup has no statements for this database."""


def statements(alias: str) -> Statements:
    """Return the statements for the database behind an alias.

    Raises:
        UnsupportedDatabase: for a vendor that jobsup does not know.
    """
    vendor = connections[alias].vendor
    if vendor not in _VENDORS:
        raise UnsupportedDatabase(
            f"database {alias!r} is {vendor}: jobsup works with {_NAMES}; "
            "route the app jobsup to such a database with DATABASE_ROUTERS"
        )
    return _VENDORS[vendor](alias)
