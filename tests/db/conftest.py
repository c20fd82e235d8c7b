"""Fixtures of the store's and the backend's tests; imports of models stand inside: Django is not set up here yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsup.store import Store
    from tests.db.bench import Bench
    from tests.db.rows import Session

JOBSUP = "jobsup.backend.JobsupBackend"
TASKS = {
    "default": {"BACKEND": JOBSUP, "QUEUES": ["default", "other", "slow"]},
    "any queue": {"BACKEND": JOBSUP, "QUEUES": []},
}


class Everything:
    """Routes every model to one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Return the database."""
        return self.alias

    def db_for_write(self, model: Any, **hints: Any) -> str:
        """Return the database."""
        return self.alias


@pytest.fixture
def postgresql(postgresql_template: object, sqlite_template: object) -> Iterator[str]:
    """The alias of PostgreSQL, for what only it has; emptied after the test."""
    from tests import databases

    yield "postgresql"
    databases.empty("postgresql")


@pytest.fixture
def sqlite(sqlite_template: object) -> Iterator[str]:
    """The alias of SQLite, for what only it has; emptied after the test."""
    from tests import databases

    yield "default"
    databases.empty("default")


@pytest.fixture
def store(alias: str) -> Store:
    """The store on each database."""
    from jobsup.store import Store

    return Store(alias)


@pytest.fixture
def session() -> Iterator[Session]:
    """Another session."""
    from tests.db.rows import Session

    with Session() as other:
        yield other


@pytest.fixture
def routed(alias: str) -> Iterator[str]:
    """Each database in turn, where the tasks' backend and every model go to; a new setting makes new backends."""
    from django.test import override_settings

    with override_settings(DATABASE_ROUTERS=[Everything(alias)], TASKS=TASKS):
        yield alias


@pytest.fixture
def bench(routed: str) -> Bench:
    """A worker without its process, on each database."""
    from tests.db.bench import Bench

    return Bench(routed)


@pytest.fixture
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test leave its schedules to the workers of other tests."""
    from jobsup.schedules import declared

    monkeypatch.setattr(declared, "_declared", {})


@pytest.fixture
def hourly(routed: str, nothing_declared: None) -> Store:
    """A store with a schedule that has a moment each hour, and which has not been looked at."""
    from jobsup import Schedule
    from jobsup.schedules.sync import sync
    from jobsup.store import Store
    from tests.db.agenda import declare, half_an_hour_away

    declare(Schedule(half_an_hour_away(), args=[5], name="hourly"))
    store = Store(routed)
    sync(store)
    return store
