"""What keeps a supervisor from its database, in words: what cannot work at all, and what waiting may help against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, OperationalError, ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.models import Job
from jobsup.sql.trouble import code_of, is_crowded
from jobsup.store import Store
from spawnpool.errors import SourceCrowded, SourceRefused, SourceUnavailable

NOT_ALLOWED = "42501"
"""The SQLSTATE of a permission that is missing."""


def refuse_what_cannot_work(store: Store, listen_alias: str | None) -> None:
    """Look at the settings of the database.

    Args:
        store: in it.
        listen_alias: `JOBSUP["LISTEN_ALIAS"]`.

    Raises:
        SourceRefused: they cannot work.
    """
    connection = store.sql.connection
    if not connection.settings_dict["AUTOCOMMIT"]:
        raise SourceRefused(f"DATABASES[{store.alias!r}]['AUTOCOMMIT'] is False: jobsup needs it on")
    if connection.vendor == "sqlite" and connection.is_in_memory_db():  # type: ignore[attr-defined]
        raise SourceRefused(f"database {store.alias!r} lives in the memory of one process: give it a file name")
    if listen_alias is not None and {connection.vendor, connections[listen_alias].vendor} != {"postgresql"}:
        raise SourceRefused(
            f"JOBSUP['LISTEN_ALIAS'] is {listen_alias!r}: only PostgreSQL can be listened to, leave it out"
        )


def find_tables(store: Store) -> None:
    """Look for jobsup's tables.

    Raises:
        SourceUnavailable: they are not there.
    """
    connection = store.sql.connection
    connection.ensure_connection()
    if Job._meta.db_table not in connection.introspection.table_names():  # noqa: SLF001  # public, whatever its name says
        raise SourceUnavailable(
            f"waiting: database {store.alias!r} has no tables of jobsup; run: manage.py migrate jobsup"
        )


@contextmanager
def in_words(store: Store, disconnect: Callable[[], None]) -> Iterator[None]:
    """Turn the database's errors into the supervisor's.

    Args:
        store: in the database.
        disconnect: closes the connections; called when something went wrong.

    Raises:
        SourceUnavailable: instead of whatever error of the database's.
    """
    alias = store.alias
    try:
        yield
    except SourceUnavailable:
        disconnect()
        raise
    except (OperationalError, InterfaceError) as error:
        disconnect()
        if is_crowded(error):
            raise SourceCrowded(no_room(alias, error)) from error
        raise SourceUnavailable(f"waiting for the database {alias!r}: {_first_line(error)}{_file(store)}") from error
    except ProgrammingError as error:
        disconnect()
        if code_of(error) == NOT_ALLOWED:
            raise SourceUnavailable(f"waiting: the database {alias!r} refuses: {_first_line(error)}") from error
        raise SourceUnavailable(
            f"waiting: the tables of jobsup in {alias!r} are not those of this version, run manage.py migrate: "
            f"{_first_line(error)}"
        ) from error
    except DatabaseError as error:
        disconnect()
        raise SourceUnavailable(f"waiting: the database {alias!r} refuses: {_first_line(error)}") from error


def connect(connection: BaseDatabaseWrapper) -> None:
    """Connect a worker; where the database is away, its first job waits for it.

    Raises:
        SourceCrowded: the database is there, and has no connection left.
    """
    try:
        connection.ensure_connection()
    except (DatabaseError, InterfaceError) as error:
        if is_crowded(error):
            raise SourceCrowded(no_room(connection.alias, error)) from error


def no_room(alias: str, error: Exception) -> str:
    """Return why there is no connection, in words."""
    return f"the database {alias!r} has no connection left: {_first_line(error)}"


def _file(store: Store) -> str:
    """Return where a database in a file stands, to go on with: its errors do not say so."""
    connection = store.sql.connection
    return f" ({connection.settings_dict['NAME']})" if connection.vendor == "sqlite" else ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
