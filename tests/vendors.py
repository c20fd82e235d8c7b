"""Which databases the tests run on."""

from __future__ import annotations

import os

import pytest

from tests import mariadb

ALIASES = {"sqlite": "default", "postgresql": "postgresql", "mariadb": "mariadb"}


def wanted(*vendors: str) -> list[str]:
    """Return those of these databases that tests are to run on.

    Raises:
        pytest.UsageError: JOBSUP_TEST_DATABASES names none that there is.
    """
    chosen = [name.strip() for name in os.environ.get("JOBSUP_TEST_DATABASES", ",".join(ALIASES)).split(",")]
    if unknown := set(chosen) - set(ALIASES):
        raise pytest.UsageError(f"JOBSUP_TEST_DATABASES: {unknown.pop()!r} is none of {', '.join(ALIASES)}")
    there = mariadb.is_installed() or os.environ.get("CI") == "true"
    return [name for name in vendors if name in chosen and (name != "mariadb" or there)]


ON_ONE_STATEMENT = pytest.mark.parametrize(
    "alias", [ALIASES[name] for name in wanted("sqlite", "postgresql")], indirect=True
)
"""For tests of what needs an UPDATE that returns rows."""

NO_MARIADB = "MariaDB is not installed or was not asked for"
ON_MARIADB = pytest.mark.skipif(not wanted("mariadb"), reason=NO_MARIADB)
"""For tests with a MariaDB server of their own; in CI only what was not asked for is left out."""
