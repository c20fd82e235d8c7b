"""The statements that need care, per vendor; each module says why its statements have the shape that they have.

Statuses stand as literals (0 ready, 1 scheduled, 2 running), or the planner could not use the partial indexes.
"""

from __future__ import annotations

from django.db import connections
from django.utils.module_loading import import_string

from jobsup.sql.base import Statements
from jobsup.sql.rows import Finished, FinishRow, LoadedRow, NewRow

__all__ = ["FinishRow", "Finished", "LoadedRow", "NewRow", "Statements", "UnsupportedDatabase", "statements"]

# By name: what is for other databases costs a process neither time nor memory.
_VENDORS = {
    "postgresql": "jobsup.sql.postgresql.PostgreSQL",
    "mysql": "jobsup.sql.mariadb.MariaDB",
    "sqlite": "jobsup.sql.sqlite.SQLite",
}
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
    found: Statements = import_string(_VENDORS[vendor])(alias)
    return found
