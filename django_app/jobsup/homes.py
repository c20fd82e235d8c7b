"""Which database a backend's jobs are in, and which one this process serves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import router

VARIABLE = "JOBSUP_DATABASE"
"""The alias that a supervisor serves, in its environment and that of its workers."""


def default() -> str:
    """Return the alias of the database where the router puts jobsup's tables."""
    from jobsup.models import Job

    return router.db_for_write(Job)


def of(backend: str) -> str:
    """Return the alias of the database with the jobs of a backend.

    Args:
        backend: its alias in the TASKS setting.
    """
    given = getattr(settings, "TASKS", {})
    return declared(given.get(backend, {})) or default()


def declared(params: Mapping[str, Any]) -> str | None:
    """Return the alias that the entry of a backend in TASKS names; None if it leaves that to the router."""
    alias: str | None = params.get("OPTIONS", {}).get("database")
    return alias


def every() -> list[str]:
    """Return the aliases of all databases with jobs of this project, that of the router first if it is one.

    Raises:
        ImproperlyConfigured: something in TASKS is wrong.
    """
    from jobsup.queues import backends

    found = {of(backend) for backend in backends()}
    return sorted(found, key=lambda alias: (alias != default(), alias))


def checked(alias: str | None) -> str:
    """Return which database is meant by an option `--database`; the router's if it was not given.

    Raises:
        ImproperlyConfigured: DATABASES has no such entry.
    """
    if alias is not None and alias not in settings.DATABASES:
        raise ImproperlyConfigured(
            f"--database {alias}: DATABASES has no such entry, only {', '.join(settings.DATABASES)}"
        )
    return alias or default()


def here() -> str:
    """Return the alias of the database that this process serves; the router's in one that serves none."""
    return os.environ.get(VARIABLE) or default()


@contextmanager
def at(alias: str) -> Iterator[None]:
    """Serve a database for the length of the block, and with all processes that are started in it.

    Args:
        alias: of the database.
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = alias
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
