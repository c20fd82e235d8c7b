"""Fixtures of the whole suite: databases on both vendors, and the proof that a test leaves nothing behind.

`alias` is for code that runs in this process: a Django alias on each database, emptied after the test.
`database` is for the real commands: a database of the test's own on each vendor, with the environment to find it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests import support
from tests.postgres import Cluster

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.databases import Database

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
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
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


@pytest.fixture(params=["default", "postgresql"], ids=["sqlite", "postgresql"])
def alias(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Django alias of this process, on each database; its tables are emptied after the test."""
    from tests import databases

    request.getfixturevalue("sqlite_template")  # `default` is there for both: models without an alias go to it
    if request.param == "postgresql":
        request.getfixturevalue("postgresql_template")
    yield request.param
    databases.empty(request.param)
    if request.param != "default":
        databases.empty("default")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the test's own, on each vendor, which is also `default` in this process meanwhile."""
    from tests import databases

    if request.param == "sqlite":
        with databases.fresh_sqlite(request.getfixturevalue("sqlite_template"), tmp_path) as fresh:
            yield fresh
    else:
        with databases.fresh_postgresql(request.getfixturevalue("postgresql_template"), tmp_path) as fresh:
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
