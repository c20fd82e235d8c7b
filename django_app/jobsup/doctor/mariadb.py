"""What a MariaDB or MySQL server tells of itself, and what of that will hurt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connections

from jobsup.doctor.findings import Finding, Limits, Severity

if TYPE_CHECKING:
    from jobsup.doctor.facts import Facts

OLDEST = {"MariaDB": (10, 11), "MySQL": (8, 0, 17)}
PACKET_MIN = 8 << 20
"""What `max_allowed_packet` must take: a megabyte of arguments, each character of which may be escaped twice."""
HISTORY_MAX = 1_000_000
"""So many changes that are not purged make a look at the queue slow: each leaves an entry in the index."""

VARIABLES = """
    SELECT @@max_connections, @@innodb_flush_log_at_trx_commit, @@read_only, @@max_allowed_packet, @@log_bin,
           @@binlog_format
"""
TABLES = """
    SELECT table_name, engine FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name LIKE 'jobsup\\_%%'
"""
COLUMNS = """
    SELECT column_name, collation_name FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'jobsup_job' AND column_name IN ('queue', 'unique_key')
"""
USED = "SHOW GLOBAL STATUS LIKE 'Threads_connected'"
OLD = """
    SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()), COALESCE(LEFT(trx_query, 60), '')
    FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> CONNECTION_ID() ORDER BY trx_started LIMIT 100
"""
HISTORY = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'"


@dataclass(frozen=True, slots=True)
class Session:
    """A transaction that is open."""

    thread: int
    age_s: float
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server's account of itself; `sessions` and `history` are empty without the privilege PROCESS."""

    name: str
    version: tuple[int, ...]
    isolation: str
    max_connections: int
    used: int
    flushes: bool
    read_only: bool
    packet: int
    statement_log: bool
    foreign_engines: Sequence[tuple[str, str]]
    loose_columns: Sequence[str]
    sessions: Sequence[Session]
    history: int | None


def look(alias: str) -> Server:
    """Ask the server behind an alias."""
    connection: Any = connections[alias]

    def rows(sql: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(sql, ())
            return [*cursor.fetchall()]

    def allowed(sql: str) -> list[tuple[Any, ...]]:
        try:
            return rows(sql)
        except OperationalError:  # it takes the privilege PROCESS
            return []

    [(most, flush, read_only, packet, log_bin, log_format)] = rows(VARIABLES)
    variable = "tx_isolation" if connection.mysql_is_mariadb else "transaction_isolation"
    history = allowed(HISTORY)
    return Server(
        name="MariaDB" if connection.mysql_is_mariadb else "MySQL",
        version=connection.mysql_version,
        isolation=str(rows(f"SELECT @@{variable}")[0][0]).replace("-", " ").lower(),
        max_connections=most,
        used=int(rows(USED)[0][1]),
        flushes=flush == 1,
        read_only=bool(read_only),
        packet=packet,
        statement_log=bool(log_bin) and str(log_format).upper() == "STATEMENT",
        foreign_engines=[(table, engine) for table, engine in rows(TABLES) if engine != "InnoDB"],
        loose_columns=[
            column for column, collation in rows(COLUMNS) if collation not in ("utf8mb4_nopad_bin", "utf8mb4_0900_bin")
        ],
        sessions=[Session(thread, float(age_s), query) for thread, age_s, query in allowed(OLD)],
        history=int(history[0][0]) if history else None,
    )


def server(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """How the server is set up."""
    if (found := facts.mariadb) is None:
        return
    if found.version < (oldest := OLDEST[found.name]):
        version, wanted = (".".join(map(str, numbers)) for numbers in (found.version, oldest))
        yield Finding("old-server", Severity.ERROR, f"{found.name} {version} is older than {wanted}", "upgrade it")
    if found.read_only:
        yield Finding(
            "read-only", Severity.ERROR, f"database {facts.alias!r} takes no writes: read_only is on",
            "route jobsup to the primary server",
        )  # fmt: skip
    for table, engine in found.foreign_engines:
        yield Finding(
            "engine", Severity.ERROR, f"table {table} is in the engine {engine}, which knows no transactions",
            f"ALTER TABLE {table} ENGINE = InnoDB",
        )  # fmt: skip
    if found.statement_log:
        yield Finding(
            "binary-log", Severity.ERROR,
            "binlog_format is STATEMENT: InnoDB refuses to write at READ COMMITTED, which Django asks for",
            "set binlog_format = MIXED or ROW",
        )  # fmt: skip
    if found.loose_columns:
        yield Finding(
            "collation", Severity.ERROR,
            f"the columns {' and '.join(found.loose_columns)} of jobsup_job are not compared byte by byte: different "
            "queues or unique keys are taken for the same",
            "run manage.py migrate jobsup 0005 and migrate jobsup again, before there are jobs",
        )  # fmt: skip


def care(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """What will hurt some day."""
    if (found := facts.mariadb) is None:
        return
    if not found.flushes:
        yield Finding(
            "not-durable", Severity.WARNING,
            "innodb_flush_log_at_trx_commit is not 1: committed jobs may be lost when the machine goes down",
            "set innodb_flush_log_at_trx_commit = 1",
        )  # fmt: skip
    if found.packet < PACKET_MIN:
        yield Finding(
            "packet", Severity.WARNING,
            f"max_allowed_packet is {found.packet:,}: jobs with large arguments or results are refused",
            f"set max_allowed_packet to {PACKET_MIN >> 20}M or more",
        )  # fmt: skip
    if found.isolation not in ("read committed", "read uncommitted"):
        yield Finding(
            "isolation", Severity.WARNING,
            f"transactions are at {found.isolation.upper()}: claims lock the gaps between jobs, which means deadlocks",
            f"leave isolation_level out of DATABASES[{facts.alias!r}]['OPTIONS'], or set it to 'read committed'",
        )  # fmt: skip
    if found.used > limits.connections_used * found.max_connections:
        yield Finding(
            "connections", Severity.WARNING,
            f"{found.used} of the server's {found.max_connections} connections are in use",
            "fewer workers, or a higher max_connections",
        )  # fmt: skip


def transactions(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Old transactions: nothing that came after their beginning can be purged."""
    if (found := facts.mariadb) is None:
        return
    old = [session for session in found.sessions if session.age_s > limits.transaction_s]
    if old:
        query = f", last statement: {old[0].query}" if old[0].query else ""
        more = f"; {len(old) - 1} more are old" if len(old) > 1 else ""
        yield Finding(
            "old-transaction", Severity.WARNING,
            f"connection {old[0].thread} has had a transaction open for {old[0].age_s:.0f} s{query}: what it might "
            f"still read is not purged, and the queue slows down{more}",
            f"end it: KILL {old[0].thread}",
        )  # fmt: skip
    if (found.history or 0) > HISTORY_MAX:
        yield Finding(
            "history", Severity.WARNING, f"{found.history:,} changes wait to be purged: claims step over their remains",
            "look for old transactions; mysqldump --single-transaction is one",
        )  # fmt: skip
