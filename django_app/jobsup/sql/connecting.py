"""How jobsup's own processes connect to PostgreSQL: without pools, and without waiting for servers that are gone.

Needs no driver: a project may have its jobs elsewhere, or have no PostgreSQL at all.
"""

from __future__ import annotations

import contextlib
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

GONE_S = 30
"""After how long a worker takes a server for gone that acknowledges nothing, in seconds; a supervisor's usual lease."""
WORKER = {
    "connect_timeout": 10,
    "keepalives_idle": GONE_S // 3,
    "keepalives_interval": GONE_S // 3,
    "keepalives_count": 2,
    "tcp_user_timeout": GONE_S * 1000,
}
"""By default a job would wait for a server that has gone for two hours (keepalives), or for 15 minutes."""


def for_supervisor(alias: str, most_s: float) -> None:
    """Have later connections to a database, in this process, wait for a short time at most, and have no pool.

    Args:
        alias: of the database.
        most_s: how long a wait may be, in seconds.
    """
    leave_out_pools()
    options = connections[alias].settings_dict["OPTIONS"]
    whole_s = max(2, int(most_s))  # the least that libpq and psycopg 3 take
    options["connect_timeout"] = min(whole_s, int(options.get("connect_timeout") or whole_s))
    options.setdefault("tcp_user_timeout", int(most_s * 1000))
    options.setdefault("keepalives_idle", whole_s)


def for_worker() -> None:
    """Have later connections to any PostgreSQL, in this process, notice a server that is gone, and have no pool."""
    leave_out_pools()
    for alias in _aliases():
        options: dict[str, Any] = connections[alias].settings_dict["OPTIONS"]
        for name, value in WORKER.items():
            options.setdefault(name, value)


def leave_out_pools() -> None:
    """Connect without the pools that DATABASES asks for, in this process, and close those that are there.

    A supervisor must not have a connection, or a thread, that it cannot close before it spawns; a worker has one
    connection for each alias and needs no more, and what a job leaves on it must not come back out of a pool.
    """
    for alias in _aliases():
        connection: Any = connections[alias]
        if alias in connection._connection_pools:  # noqa: SLF001  # asking for `pool` would make one
            connection.close()  # gives it back
            connection.close_pool()
        connection.settings_dict["OPTIONS"].pop("pool", None)


def _aliases() -> list[str]:
    found = []
    for alias in connections:
        with contextlib.suppress(ImproperlyConfigured):  # one that is never used may have no driver here
            if connections[alias].vendor == "postgresql":
                found.append(alias)
    return found
