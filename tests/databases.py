"""Databases for tests: migrated once, then copied for every test that wants one of its own.

Owns the SQLite file and the databases on the servers of a test run, and what Django in this process believes about
them.
"""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from django.apps import apps
from django.core.management import call_command
from django.db import connections, transaction

from tests import settings
from tests.support import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.mariadb import Server
    from tests.postgres import Cluster

Vendor = Literal["sqlite", "postgresql", "mariadb"]

IN_PROCESS = "jobsup_tests"
TEMPLATE = "jobsup_template"
_numbers = count(1)


@dataclass(frozen=True)
class Database:
    """A fresh, migrated database, which is also `default` in this process for as long as the test lasts."""

    vendor: Vendor
    env: dict[str, str] = field(hash=False)

    def supervisor(self, *args: str, prefix: Sequence[str] = (), **overrides: Any) -> Supervisor:
        """Return a supervisor of this database, not started; settings such as JOBSUP={...} replace the tests' own."""
        return Supervisor(self.with_settings(**overrides), *args, prefix=prefix)

    def with_settings(self, **overrides: Any) -> dict[str, str]:
        """Return the environment of a subprocess on this database with some settings replaced."""
        return {**self.env, "JOBSUP_TEST_SETTINGS": json.dumps(overrides)}


def migrate_sqlite(template: Path) -> None:
    """Migrate the file behind `default` and keep an empty copy of it."""
    _migrate("default")
    shutil.copy(connections["default"].settings_dict["NAME"], template)


def migrate_postgresql(cluster: Cluster) -> None:
    """Make the database of the alias `postgresql`, migrate it and keep an empty copy of it."""
    _declare("postgresql", settings.postgresql(cluster.create_database(IN_PROCESS)))
    _migrate("postgresql")
    cluster.create_database(TEMPLATE, template=IN_PROCESS)


def migrate_mariadb(server: Server) -> None:
    """Make the database of the alias `mariadb`, migrate it and keep an empty copy of it."""
    _declare("mariadb", settings.mariadb(server.create_database(IN_PROCESS)))
    _migrate("mariadb")
    server.create_database(TEMPLATE, template=IN_PROCESS)


@contextmanager
def fresh_sqlite(template: Path, directory: Path) -> Iterator[Database]:
    """Provide a copy of the migrated file, in a directory of the test's own."""
    file = directory / "jobsup.sqlite3"
    shutil.copy(template, file)
    with _as_default(settings.sqlite(str(file))):
        yield Database("sqlite", _env("sqlite", directory, JOBSUP_TEST_SQLITE=str(file)))


@contextmanager
def fresh_postgresql(cluster: Cluster, directory: Path) -> Iterator[Database]:
    """Provide a copy of the migrated database, and a directory of the test's own for run files."""
    if cluster.pid is None:  # ended from outside: told with its last words, and no reason for the other tests to fail
        print(f"the test server was gone; its log ends with\n{cluster.log()[-2000:]}", file=sys.__stderr__)
        cluster.start()
    name = f"test_{next(_numbers)}"
    with postgresql_at(cluster.create_database(name, template=TEMPLATE), directory) as database:
        yield database
    cluster.drop_database(name)


@contextmanager
def postgresql_at(url: str, directory: Path) -> Iterator[Database]:
    """Provide a database that is somewhere, and a directory of the test's own for run files."""
    with _as_default(settings.postgresql(url)):
        yield Database("postgresql", _env("postgresql", directory, JOBSUP_TEST_POSTGRES=url))


@contextmanager
def fresh_mariadb(server: Server, directory: Path, place: Path | None = None) -> Iterator[Database]:
    """Provide a copy of the migrated database, at some place, and a directory of the test's own for run files."""
    if server.pid is None:  # ended from outside, which is no reason for the other tests to fail
        print(f"the test server was gone; its log ends with\n{server.log()[-2000:]}", file=sys.__stderr__)
        server.start()
    name = f"test_{next(_numbers)}"
    url = server.create_database(name, template=TEMPLATE, place=place)
    with _as_default(settings.mariadb(url)):
        yield Database("mariadb", _env("mariadb", directory, JOBSUP_TEST_MARIADB=url))
    server.drop_database(name)


def empty(alias: str) -> None:
    """Delete every row of jobsup and of the test app, whatever state the test left its connection in."""
    connection = connections[alias]
    if connection.in_atomic_block or not connection.get_autocommit() or not connection.is_usable():
        connection.close()
        del connections[alias]
        connection = connections[alias]
    models = [model for label in ("jobsup", "testapp") for model in apps.get_app_config(label).get_models()]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        for model in reversed(models):  # attempts before their jobs: MariaDB looks at once, the others at the commit
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")


def _env(vendor: Vendor, directory: Path, **place: str) -> dict[str, str]:
    return {"JOBSUP_TEST_DEFAULT": vendor, "JOBSUP_TEST_RUN_DIR": str(directory), **place}


def _migrate(alias: str) -> None:
    call_command("migrate", database=alias, run_syncdb=True, verbosity=0, interactive=False)
    connections[alias].close()  # nobody may be connected to a template; SQLite writes its log back into the file


def _declare(alias: str, database: Mapping[str, Any]) -> None:
    """Tell Django in this process of a database."""
    connections.settings[alias] = connections.configure_settings({"default": dict(database)})["default"]


@contextmanager
def _as_default(database: Mapping[str, Any]) -> Iterator[None]:
    """Make a database the `default` of this process for a while."""
    before = connections.settings["default"]
    connections["default"].close()
    del connections["default"]
    _declare("default", database)
    try:
        yield
    finally:
        connections["default"].close()
        del connections["default"]
        connections.settings["default"] = before
