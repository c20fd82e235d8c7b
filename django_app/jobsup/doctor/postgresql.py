"""What a PostgreSQL server tells of itself, over connections as the project makes them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from jobsup.doctor import holders
from jobsup.sql.postgresql.poolers import arrives, is_pooled, keeps_sessions

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


@dataclass(frozen=True, slots=True)
class Table:
    """How a table is vacuumed; `vacuumed_s` ago, None for never."""

    name: str
    live: int
    dead: int
    vacuumed_s: float | None
    autovacuum_off: bool


@dataclass(frozen=True, slots=True)
class Pooler:
    """What stands between us and the server.

    Args:
        hears: whether a notification comes through, so that it keeps a server connection per client.
        cursors_off: whether the settings have no cursors on the server.
        past: the alias that supervisors listen on instead, if notifications arrive there.
    """

    hears: bool
    cursors_off: bool
    past: str | None = None


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
    holders: Sequence[holders.Holder]
    pooler: Pooler | None

    @property
    def available(self) -> int:
        """How many connections there are for those who are no superusers."""
        limits = (self.max_connections - self.reserved, self.role_limit, self.database_limit)
        return min(limit for limit in limits if limit >= 0)


def look(alias: str, listen_alias: str | None = None) -> Server:
    """Ask the server behind an alias.

    Args:
        alias: of the database.
        listen_alias: where supervisors listen, if not there.
    """
    with connections[alias].cursor() as cursor:
        cursor.execute(LIMITS)
        (
            version, most, reserved, used, role_limit, database_limit, autovacuum, fsync, synchronous_commit, read_only,
        ) = cursor.fetchone()  # fmt: skip
        cursor.execute(VACUUM, [list(TABLES)])
        tables = [Table(*row) for row in cursor.fetchall()]
        found = holders.look(cursor)
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
        holders=found,
        pooler=_pooler(alias, listen_alias),
    )


def _pooler(alias: str, listen_alias: str | None) -> Pooler | None:
    """Look for a pooler by connections of our own."""
    with closing(connections[alias].copy()) as own:
        if not is_pooled(own):
            return None
        cursors_off = bool(own.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))
        past = listen_alias if listen_alias is not None and _hears_at(listen_alias, own) else None
        return Pooler(hears=keeps_sessions(own), cursors_off=cursors_off, past=past)


def _hears_at(listen_alias: str, own: BaseDatabaseWrapper) -> bool:
    try:
        with closing(connections[listen_alias].copy()) as listening:
            listening.ensure_connection()
            return arrives(own, listening)
    except Error:
        return False
