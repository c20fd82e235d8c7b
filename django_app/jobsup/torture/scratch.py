"""A database for the torture alone, beside the project's own: made, and dropped when it is over."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from django.core.management.base import CommandError
from django.db import DatabaseError, connections

from jobsup.cli.filters import WRONG_USAGE
from jobsup.torture.effects import TABLE

PREFIX = "jobsup_torture_"
OURS = {TABLE, "django_migrations"}
"""Tables that jobsup's migrations do not make, and that are the torture's all the same."""


class Scratch(NamedTuple):
    """A database that may be hurt.

    Args:
        alias: which entry of DATABASES says how it is reached.
        name: its name there, or its file.
        words: how it is called.
    """

    alias: str
    name: str
    words: str


@contextmanager
def made(alias: str, directory: Path, *, keep: bool) -> Iterator[Scratch]:
    """Provide a new database beside that of an alias; it is dropped in the end unless it is to be kept.

    Raises:
        CommandError: the project's role may not make one.
    """
    connection = connections[alias]
    if connection.vendor == "sqlite":
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)) if keep else directory
        file = folder / "jobs.sqlite3"
        yield Scratch(alias, str(file), f"the file {file}")
        return
    name = PREFIX + secrets.token_hex(4)
    quoted = connection.ops.quote_name(name)
    kind = " CHARACTER SET utf8mb4" if connection.vendor == "mysql" else ""
    try:
        with connection._nodb_cursor() as cursor:  # noqa: SLF001  # as Django's test runner
            cursor.execute(f"CREATE DATABASE {quoted}{kind}")
    except DatabaseError as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CommandError(
            f"no database could be made beside that of {alias!r}: {why}; let its role make databases, or make an empty "
            "one yourself, give it an entry in DATABASES and say --database ALIAS"
        ) from error
    try:
        yield Scratch(alias, name, f"the database {name}")
    finally:
        if not keep:
            forced = " WITH (FORCE)" if connection.vendor == "postgresql" else ""
            with connection._nodb_cursor() as cursor:  # noqa: SLF001
                cursor.execute(f"DROP DATABASE IF EXISTS {quoted}{forced}")


@contextmanager
def given(alias: str, own: str, *, keep: bool) -> Iterator[Scratch]:
    """Provide the database of an alias that somebody has made for this; it is as empty in the end as it was before.

    Args:
        alias: an entry of DATABASES.
        own: the alias that the project's own jobs are in.
        keep: whether everything is left in it.

    Raises:
        CommandError: there is no such alias, or the database is not empty.
    """
    if alias not in connections:
        raise CommandError(
            f"--database {alias}: there is no such entry in DATABASES, there are {', '.join(connections)}",
            returncode=WRONG_USAGE,
        )
    if alias == own:
        raise CommandError(
            f"--database {alias} is the database of your own jobs: name one that was made for this and is empty",
            returncode=WRONG_USAGE,
        )
    connection = connections[alias]
    tables = sorted(_tables(connection))
    foreign = tables if TABLE not in tables else [name for name in tables if not _is_ours(name)]
    if foreign:
        raise CommandError(
            f"--database {alias} is not empty, the table {foreign[0]} stands in it: name a database that was made for "
            "this",
            returncode=WRONG_USAGE,
        )
    _clear(alias)
    yield Scratch(alias, str(connection.settings_dict["NAME"]), f"the database of {alias!r}")
    if not keep:
        _clear(alias)


def _clear(alias: str) -> None:
    """Drop every table that the torture has made, and what belongs to them."""
    from django.core.management import call_command

    connection = connections[alias]
    if TABLE not in _tables(connection):
        return
    call_command("migrate", "jobsup", "zero", database=alias, verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        for name in _tables(connection):
            if _is_ours(name):
                cursor.execute(f"DROP TABLE {connection.ops.quote_name(name)}")


def _tables(connection: Any) -> list[str]:
    connection.ensure_connection()
    names: list[str] = connection.introspection.table_names()
    return names


def _is_ours(table: str) -> bool:
    return table in OURS or table.startswith("jobsup_")
