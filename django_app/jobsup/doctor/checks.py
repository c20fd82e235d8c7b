"""The checks: pure functions of the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jobsup.doctor import mariadb
from jobsup.doctor.facts import Facts, QueueFacts
from jobsup.doctor.findings import Finding, Limits, Severity
from jobsup.doctor.holders import Holder
from jobsup.doctor.postgresql import Server
from jobsup.doctor.sqlite import NETWORK, SYNCHRONOUS_OFF, File

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
POSTGRESQL_MIN = 150_000
SQLITE_MIN = (3, 35)
SHOWN = 3
"""How many of a kind are named one by one."""

Check = Callable[[Facts, Limits], Iterator[Finding]]


# -- the project ------------------------------------------------------------------------------------------------------


def unmigrated(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """The tables are not those of this version."""
    if facts.unmigrated:
        yield Finding(
            "unmigrated", ERROR,
            f"the tables in database {facts.alias!r} lack {len(facts.unmigrated)} migrations: "
            f"{', '.join(facts.unmigrated)}",
            f"run manage.py migrate jobsup --database {facts.alias}; everything else is looked at after that",
        )  # fmt: skip


def settings(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """What Django's settings say."""
    if facts.bad_settings is not None:
        yield Finding("settings", ERROR, facts.bad_settings, "repair it: the supervisor refuses to start")
    if facts.debug:
        yield Finding(
            "debug", WARNING, "DEBUG is True: Django keeps the latest statements of every worker in memory",
            "set DEBUG = False where jobs are run for real",
        )  # fmt: skip


def broken_tasks(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """Waiting jobs that will fail."""
    for path, why in facts.broken:
        yield Finding(
            "broken-task", ERROR, f"jobs wait for a task that cannot be imported: {why}",
            f"bring it back before they run, or cancel them: manage.py jobs cancel --task {path}",
        )  # fmt: skip


def schedules(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """Schedules that enqueue nothing."""
    for name, why in facts.schedules:
        yield Finding(
            "broken-schedule", WARNING, f"schedule {name} is in use and cannot run: {why}",
            "repair it where it is declared, or switch it off in the admin",
        )  # fmt: skip


# -- supervisors and queues -------------------------------------------------------------------------------------------


def supervisors(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Those that are not there, that have gone silent, that were lost."""
    if not facts.living and not facts.unmigrated:
        waiting = any(not queue.paused for queue in facts.queues)
        yield Finding(
            "no-supervisor", ERROR if waiting else WARNING,
            "no supervisor is alive" + (", and jobs are ready" if waiting else ""),
            "start one: manage.py jobsupervisor",
        )  # fmt: skip
    for run in facts.runs:
        who = f"supervisor {run.name} on {run.node} (pid {run.pid})"
        if run.lost and run.silent_s <= limits.lost_s:
            yield Finding(
                "lost-supervisor", WARNING,
                f"{who} was lost {_ago(run.silent_s)}: it said nothing for longer than its lease",
                "look into its log and the machine's: was it killed, suspended, or cut off from the database?",
            )  # fmt: skip
        elif not run.lost and run.silent_s > run.lease_s:
            yield Finding(
                "silent-supervisor", WARNING,
                f"{who} was heard of last {_ago(run.silent_s)}, its lease is {run.lease_s:g} s: its jobs wait until "
                "another supervisor takes them over",
                "start it again, or another one",
            )  # fmt: skip


def versions(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """Supervisors that share the tables by different rules."""
    by_protocol = {run.protocol: f"{run.name} on {run.node}" for run in facts.living}
    if len(by_protocol) > 1:
        named = ", ".join(f"{protocol} (such as {who})" for protocol, who in sorted(by_protocol.items()))
        yield Finding(
            "versions", NOTE, f"supervisors of several versions share the queues, by protocol {named}",
            "that is well while they are being upgraded: finish it",
        )  # fmt: skip


def unserved(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Queues from which nobody takes jobs."""
    for queue in facts.queues if facts.living else ():
        if queue.paused:
            yield Finding(
                "paused-queue", NOTE, f"queue {queue.name} is paused and has {_ready(queue)}",
                f"manage.py jobs resume {queue.name}, when it is time",
            )  # fmt: skip
        elif not queue.named or (queue.oldest_s > limits.oldest_ready_s and not queue.moving):
            why = "no supervisor that is alive has it" if not queue.named else "nothing of it runs"
            yield Finding(
                "unserved-queue", ERROR,
                f"nobody seems to serve queue {queue.name}: {_ready(queue)}, the oldest since {_for(queue.oldest_s)}, "
                f"and {why}",
                "name it in TASKS and in the POOLS or --queue of a supervisor, or cancel its jobs",
            )  # fmt: skip


def oldest(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Queues that are served and fall behind."""
    for queue in facts.queues if facts.living else ():
        if queue.oldest_s > limits.oldest_ready_s and queue.moving and queue.named and not queue.paused:
            yield Finding(
                "old-ready-job", WARNING,
                f"the oldest of {_ready(queue)} in queue {queue.name} waits since {_for(queue.oldest_s)}",
                "more workers, a pool of its own for this queue, or a higher priority for what must not wait",
            )  # fmt: skip


# -- the database -----------------------------------------------------------------------------------------------------


def clock(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Clocks that differ."""
    skew_s = facts.clock_skew_s
    if skew_s is not None and abs(skew_s) > limits.clock_skew_s:
        where = "before" if skew_s > 0 else "behind"
        yield Finding(
            "clock-skew", WARNING,
            f"this machine's clock is {_for(abs(skew_s))} {where} the database's: jobs with a run_after made here are "
            f"due by so much too {'late' if skew_s > 0 else 'early'}",
            "let both keep time by NTP (timedatectl)",
        )  # fmt: skip


def vacuum(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Dead rows, which every claim has to step over."""
    if (server := facts.postgresql) is None:
        return
    if not server.autovacuum:
        yield Finding(
            "autovacuum-off", ERROR, "autovacuum is off on this server: the tables of a queue grow for ever",
            "set autovacuum = on and track_counts = on",
        )  # fmt: skip
    for table in server.tables:
        if server.autovacuum and table.autovacuum_off:
            yield Finding(
                "autovacuum-off", ERROR, f"autovacuum is off for table {table.name}",
                f"ALTER TABLE {table.name} RESET (autovacuum_enabled)",
            )  # fmt: skip
        if table.dead >= limits.dead_rows and table.dead * 2 > table.live:
            when = "never" if table.vacuumed_s is None else f"last {_ago(table.vacuumed_s)}"
            yield Finding(
                "dead-rows", WARNING,
                f"table {table.name} has {table.dead:,} dead rows beside {table.live:,}, and was vacuumed {when}",
                f"VACUUM (ANALYZE) {table.name}; if they come back, a lower autovacuum_vacuum_scale_factor for it, and "
                "look for old transactions",
            )  # fmt: skip


def transactions(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """Old transactions: no dead row that came after their beginning can be removed."""
    holders = [] if facts.postgresql is None else facts.postgresql.holders
    old = [holder for holder in holders if _is_old(holder, limits)]
    old.sort(key=lambda each: (each.holds, each.age_s or 0.0, each.behind), reverse=True)
    for holder in old[:SHOWN]:
        since = holder.age_s is not None and holder.age_s != float("inf")
        age = f" has been open since {_for(holder.age_s or 0.0)} and" if since else ""
        behind = f", {holder.behind:,} transactions behind" if holder.behind else ""
        does = (
            f"keeps dead rows from being removed{behind}, and the queue slows down" if holder.holds else
            "may keep dead rows from being removed by what it does next"
        )  # fmt: skip
        yield Finding(
            "old-transaction", WARNING,
            f"{holder.who}:{age} {does}"
            + (f"; {len(old) - SHOWN} more are as old" if holder is old[0] and len(old) > SHOWN else ""),
            holder.remedy,
        )  # fmt: skip


def _is_old(holder: Holder, limits: Limits) -> bool:
    return holder.behind > limits.transactions_behind if holder.age_s is None else holder.age_s > limits.transaction_s


def pooler(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """A pooler between us and the server."""
    found = None if facts.postgresql is None else facts.postgresql.pooler
    if found is None:
        return
    if found.past is not None:
        yield Finding(
            "pooler", NOTE,
            f"a pooler stands between this process and PostgreSQL; supervisors listen on {found.past!r}, past it",
            "nothing: notifications arrive there",
        )  # fmt: skip
        return
    if found.hears:
        yield Finding(
            "pooler", NOTE, "a pooler stands between this process and PostgreSQL; notifications come through it",
            "nothing, as long as it pools by sessions",
        )  # fmt: skip
        return
    cursors = "" if found.cursors_off else '; for web processes set "DISABLE_SERVER_SIDE_CURSORS": True as well'
    yield Finding(
        "pooler", WARNING,
        "a pooler such as PgBouncer stands between this process and PostgreSQL and pools by transactions: "
        "notifications are lost in silence, so that a supervisor behind it finds jobs only once a second",
        "let JOBSUP['LISTEN_ALIAS'] name an entry of DATABASES that leads past it, or the supervisors connect to "
        f"PostgreSQL itself{cursors}",
    )  # fmt: skip


def notifications(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """Enqueues that wake nobody."""
    if facts.postgresql is not None and not facts.notify:
        yield Finding(
            "no-notify", NOTE, "JOBSUP['NOTIFY'] is False: jobs begin up to a second after they were enqueued",
            "leave it out, unless that is meant",
        )  # fmt: skip


def postgres(facts: Facts, _limits: Limits) -> Iterator[Finding]:
    """The server itself."""
    if (server := facts.postgresql) is None:
        return
    if server.version < POSTGRESQL_MIN:
        yield Finding(
            "old-server", ERROR, f"PostgreSQL {server.version // 10_000} is older than 15", "upgrade the server"
        )  # fmt: skip
    if server.read_only:
        yield Finding(
            "read-only", ERROR, f"database {facts.alias!r} takes no writes: it is a replica, or read-only by a setting",
            "route jobsup to the primary server",
        )  # fmt: skip
    for name, off in (("fsync", not server.fsync), ("synchronous_commit", server.synchronous_commit == "off")):
        if off:
            yield Finding(
                "not-durable", WARNING, f"{name} is off: committed jobs may be lost when the server goes down",
                f"set {name} = on",
            )  # fmt: skip


def connections(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """The server's connections beside those that supervisors need."""
    if (server := facts.postgresql) is None:
        return
    number = max(1, len(facts.living))
    needed = number * needed_connections(facts.workers, facts.aliases)
    sum_ = f"{number} x ({facts.workers} workers x ({facts.aliases} + 1) + 1) = {needed}"
    remedy = "fewer workers, a higher max_connections, or a pooler for the web processes"
    if needed > server.available or (not facts.living and server.used + needed > server.available):
        yield Finding(
            "connections", ERROR,
            f"supervisors need {sum_} connections, the server has {_connections(server)}", remedy,
        )  # fmt: skip
    elif server.used > limits.connections_used * server.available:
        yield Finding(
            "connections", WARNING, f"the server has {_connections(server)}; supervisors need {sum_} of them", remedy
        )


def needed_connections(workers: int, aliases: int) -> int:
    """Return how many connections a supervisor and its workers need: one per alias and one to record, and its own."""
    return workers * (aliases + 1) + 1


def sqlite(facts: Facts, limits: Limits) -> Iterator[Finding]:
    """How SQLite is set up."""
    if (file := facts.sqlite) is None:
        return
    options = f"DATABASES[{facts.alias!r}]['OPTIONS']"
    if file.version < SQLITE_MIN:
        version = ".".join(map(str, file.version))
        yield Finding("old-sqlite", ERROR, f"SQLite {version} is older than 3.35", "a newer Python or libsqlite3")
    if file.in_memory:
        yield Finding(
            "sqlite-in-memory", ERROR, f"database {facts.alias!r} is in memory: no other process sees its jobs",
            "a file, or PostgreSQL",
        )  # fmt: skip
        return
    if file.filesystem in NETWORK:
        yield Finding(
            "sqlite-on-network", ERROR,
            f"the file of database {facts.alias!r} is on a network filesystem ({file.filesystem}), where SQLite's "
            "locks cannot be relied on",
            "a local disk, or PostgreSQL",
        )  # fmt: skip
    yield from _sqlite_modes(file, options, limits)


def _sqlite_modes(file: File, options: str, limits: Limits) -> Iterator[Finding]:
    if file.journal_mode != "wal":
        yield Finding(
            "sqlite-journal", WARNING,
            f"the journal mode is {file.journal_mode}: readers and writers keep each other out",
            f'"init_command": "PRAGMA journal_mode=WAL" in {options}; a supervisor switches to it at its start',
        )  # fmt: skip
    if file.synchronous == SYNCHRONOUS_OFF:
        yield Finding(
            "not-durable", WARNING, "synchronous is off: a power cut may break the database",
            f'leave PRAGMA synchronous=OFF out of {options}["init_command"]',
        )  # fmt: skip
    if file.busy_timeout_ms < limits.busy_timeout_ms:
        yield Finding(
            "sqlite-timeout", WARNING,
            f"writers wait for each other for {file.busy_timeout_ms} ms only, then they fail with 'database is locked'",
            f'"timeout": 20 in {options}',
        )  # fmt: skip
    if file.transaction_mode != "IMMEDIATE":
        yield Finding(
            "sqlite-transactions", WARNING,
            "transactions begin by reading: one that writes later may fail at once with 'database is locked'",
            f'"transaction_mode": "IMMEDIATE" in {options}',
        )  # fmt: skip


CHECKS: tuple[Check, ...] = (
    unmigrated, settings, supervisors, versions, unserved, oldest, broken_tasks, schedules, clock, postgres,
    connections, transactions, vacuum, pooler, notifications, sqlite, mariadb.server, mariadb.care,
    mariadb.transactions,
)  # fmt: skip


def _ready(queue: QueueFacts) -> str:
    return f"{'>= ' * queue.at_least}{queue.ready:,} ready job{'s' * (queue.ready != 1)}"


def _connections(server: Server) -> str:
    return f"{server.available} for ordinary users, {server.used} in use"


def _for(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} d"


def _ago(seconds: float) -> str:
    return f"{_for(seconds)} ago"
