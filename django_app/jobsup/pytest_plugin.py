"""The plugin for pytest: the fixture `jobs`. It does nothing for tests that do not ask for it.

It stands outside of `jobsup.testing`, whose modules need Django to be set up: pytest loads plugins before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobsup.testing.jobs import Jobs

DATABASE_FIXTURES = (
    "db",
    "transactional_db",
    "django_db_reset_sequences",
    "django_db_serialized_rollback",
    "live_server",
)
"""The fixtures of pytest-django that let a test use the database."""


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> Jobs:
    """Run, look for and assert jobs: `run_pending`, `enqueued`, `assert_enqueued`, `immediate`.

    With pytest-django it asks for the fixture `db`, unless the test has another one for the database.
    """
    if request.config.pluginmanager.has_plugin("django") and not set(DATABASE_FIXTURES) & set(request.fixturenames):
        request.getfixturevalue("db")
    from jobsup.testing.jobs import Jobs

    return Jobs()
