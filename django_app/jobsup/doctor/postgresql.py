"""What a PostgreSQL server tells of itself, over connections as the project makes them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

HEARD_WITHIN_S = 1.0
"""How long a notification to oneself may take; a direct connection has it within a millisecond."""
TABLES = ("jobsup_job", "jobsup_failedattempt", "jobsup_supervisor")

LIMITS = """
    SELECT current_setting('server_version_num')::int,
           current_setting('max_connections')::int,
           current_setting('superuser_reserved_connections')::int,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int,
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
           (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
           current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
           current_setting('fsync')::bool,
           current_setting('synchronous_commit'),
           pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool
"""

VACUUM = """
    SELECT stat.relname, stat.n_live_tup, stat.n_dead_tup,
           extract(epoch FROM clock_timestamp() - greatest(stat.last_vacuum, stat.last_autovacuum))::float8,
           coalesce('autovacuum_enabled=false' = ANY(class.reloptions)
                    OR 'autovacuum_enabled=off' = ANY(class.reloptions), false)
    FROM pg_stat_user_tables AS stat JOIN pg_class AS class ON class.oid = stat.relid
    WHERE stat.relname = ANY(%s) AND pg_table_is_visible(stat.relid)
"""

# What keeps VACUUM from removing dead rows: transactions, prepared ones, and slots of replicas that went away.
HOLDERS = """
    SELECT format('%%s of %%s (pid %%s, %%s), last statement: %%s', coalesce(nullif(application_name, ''), 'a session'),
                  usename, pid, state, left(regexp_replace(query, '\\s+', ' ', 'g'), 60)),
           extract(epoch FROM clock_timestamp() - xact_start)::float8
    FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()
      AND (datname = current_database() AND backend_type = 'client backend' OR backend_type = 'walsender')
    UNION ALL
    SELECT format('the prepared transaction %%s of %%s', gid, owner),
           extract(epoch FROM clock_timestamp() - prepared)::float8
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT format('the unused replication slot %%s', slot_name), 'infinity'::float8
    FROM pg_replication_slots WHERE NOT active AND xmin IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Table:
    """How a table is vacuumed; `vacuumed_s` ago, None for never."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    autovacuum_off: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps old rows from being removed, for how long already."""

    who: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Pooler:
    """What stands between us and the server.

    Args:
        hears: whether a notification comes through, so that it keeps a server connection per client.
        cursors_off: whether the settings have no cursors on the server.
    """

    hears: bool
    cursors_off: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server's account of itself; a connection limit of -1 is none."""

    version: int
    max_connections: int
    reserved: int
    used: int
    role_limit: int
    database_limit: int
    autovacuum: bool
    fsync: bool
    synchronous_commit: str
    read_only: bool
    tables: Sequence[Table]
    holders: Sequence[Holder]
    pooler: Pooler | None

    @property
    def available(self) -> int:
        """How many connections there are for those who are no superusers."""
        limits = (self.max_connections - self.reserved, self.role_limit, self.database_limit)
        return min(limit for limit in limits if limit >= 0)


def look(alias: str) -> Server:
    """Ask the server behind an alias."""
    with connections[alias].cursor() as cursor:
        cursor.execute(LIMITS)
        (
            version, most, reserved, used, role_limit, database_limit, autovacuum, fsync, synchronous_commit, read_only,
        ) = cursor.fetchone()  # fmt: skip
        cursor.execute(VACUUM, [list(TABLES)])
        tables = [Table(*row) for row in cursor.fetchall()]
        cursor.execute(HOLDERS, [])
        holders = [Holder(*row) for row in cursor.fetchall()]
    return Server(
        version=version,
        max_connections=most,
        reserved=reserved,
        used=used,
        role_limit=role_limit,
        database_limit=database_limit,
        autovacuum=autovacuum,
        fsync=fsync,
        synchronous_commit=synchronous_commit,
        read_only=read_only,
        tables=sorted(tables, key=lambda table: table.name),
        holders=holders,
        pooler=_pooler(alias),
    )


def _pooler(alias: str) -> Pooler | None:
    """Look for a pooler by a connection of our own: it makes up the process that it tells a client it talks to."""
    own: BaseDatabaseWrapper = connections[alias].copy()
    try:
        own.ensure_connection()
        driver: Any = own.connection
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        if pid == driver.info.backend_pid:
            return None
        cursors_off = bool(own.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))
        return Pooler(hears=_hears(own, driver, alias), cursors_off=cursors_off)
    finally:
        own.close()


def _hears(own: BaseDatabaseWrapper, driver: Any, alias: str) -> bool:
    """Tell whether a connection hears what another one says; its own words reach it behind any pooler."""
    channel = f"jobsup_doctor_{secrets.token_hex(8)}"
    with own.cursor() as listening, connections[alias].cursor() as speaking:
        listening.execute(f"LISTEN {channel}")
        heard = _listener(driver)
        speaking.execute("SELECT pg_notify(%s, '')", [channel])
        give_up_at = time.monotonic() + HEARD_WITHIN_S
        while not (found := heard()) and time.monotonic() < give_up_at:
            time.sleep(0.01)
        listening.execute(f"UNLISTEN {channel}")
    return found


def _listener(driver: Any) -> Callable[[], bool]:
    """Return what tells whether a notification has come, by psycopg 2 or 3."""
    if isinstance(getattr(driver, "notifies", None), list):

        def heard() -> bool:
            driver.poll()
            return bool(driver.notifies)

        return heard
    caught: list[Any] = []
    driver.add_notify_handler(caught.append)

    def caught_some() -> bool:
        driver.pgconn.consume_input()
        while (notification := driver.pgconn.notifies()) is not None:
            caught.append(notification)
        return bool(caught)

    return caught_some
