"""Fixtures of the whole suite: databases of every vendor, and the proof that a test leaves nothing behind.

`alias` is for code that runs in this process: a Django alias on each database, emptied after the test.
`database` is for the real commands: a database of the test's own on SQLite and PostgreSQL, with the environment to find
it; the tests of `tests/system/test_mariadb.py` are those that run on MariaDB.
JOBSUP_TEST_DATABASES restricts both, such as to "sqlite,mariadb". Without a server MariaDB's tests are left out, except
in CI.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests import mariadb, support
from tests.postgres import Cluster
from tests.vendors import ALIASES, NO_MARIADB, wanted

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.databases import Database

collect_ignore = [] if wanted("mariadb") else ["db/test_mariadb.py", "system/test_mariadb.py"]
MUST_LEAVE_NOTHING = {"process", "system"}  # the folders whose tests start processes

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
directory = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Set Django up before test modules import models; SQLite is `default`, PostgreSQL joins when first wanted."""
    place = config.stash[directory] = tempfile.TemporaryDirectory(prefix="jobsup-tests-")
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["JOBSUP_TEST_SQLITE"] = str(Path(place.name) / "tests.sqlite3")
    support.become_subreaper()
    import django

    django.setup()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the databases in files."""
    if directory in config.stash:
        config.stash[directory].cleanup()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that is skipped in CI: there everything has to run."""
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped in CI."""
    return _no_skip_in_ci((yield))


def _no_skip_in_ci(report: Report) -> Report:
    reasons = ("got empty parameter set", NO_MARIADB)
    left_out = "JOBSUP_TEST_DATABASES" in os.environ and any(reason in str(report.longrepr) for reason in reasons)
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail") and not left_out:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure where CI=true: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A PostgreSQL server for the whole run."""
    with Cluster(max_connections=200) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sqlite_template(pytestconfig: pytest.Config) -> Iterator[Path]:
    """The migrated SQLite file, empty; `default` of this process is migrated with it."""
    from django.db import connections

    from tests import databases

    template = Path(pytestconfig.stash[directory].name) / "template.sqlite3"
    databases.migrate_sqlite(template)
    yield template
    connections["default"].close()


@pytest.fixture(scope="session")
def postgresql_template(postgres_cluster: Cluster) -> Iterator[Cluster]:
    """The server with its migrated database, empty; `postgresql` of this process is migrated with it."""
    from django.db import connections

    from tests import databases

    databases.migrate_postgresql(postgres_cluster)
    yield postgres_cluster
    connections["postgresql"].close()


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[mariadb.Server]:
    """A MariaDB server for the whole run."""
    with mariadb.Server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_template(mariadb_server: mariadb.Server) -> Iterator[mariadb.Server]:
    """The server with its migrated database, empty; `mariadb` of this process is migrated with it."""
    from django.db import connections

    from tests import databases

    databases.migrate_mariadb(mariadb_server)
    yield mariadb_server
    connections["mariadb"].close()


@pytest.fixture(params=[ALIASES[name] for name in wanted(*ALIASES)], ids=wanted(*ALIASES))
def alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Django alias of this process, on each database; its tables are emptied after the test."""
    from tests import databases

    request.getfixturevalue("sqlite_template")  # `default` is there for both: models without an alias go to it
    if request.param != "default":
        request.getfixturevalue(f"{request.param}_template")
    yield request.param
    databases.empty(request.param)
    if request.param != "default":
        databases.empty("default")


@pytest.fixture(params=wanted("sqlite", "postgresql"))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the test's own, on each vendor, which is also `default` in this process meanwhile."""
    from tests import databases

    make: Any = {
        "sqlite": databases.fresh_sqlite,
        "postgresql": databases.fresh_postgresql,
        "mariadb": databases.fresh_mariadb,
    }[request.param]
    with make(request.getfixturevalue(f"{request.param}_template"), tmp_path) as fresh:
        yield fresh


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """End every test that starts processes with the proof that they are gone."""
    if request.path.parent.name not in MUST_LEAVE_NOTHING:
        yield
        return
    before = support.processes_of(os.getpid())
    yield
    try:
        support.assert_nothing_left(besides=before)
    finally:
        support.kill(support.left_over(before))
