"""What the doctor knows: gathered here, from the settings and the database, and judged elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from jobsup import queue_control, queues
from jobsup.conf import Conf
from jobsup.doctor import mariadb, postgresql, sqlite
from jobsup.errors import TaskNotFound
from jobsup.figures import Counted, Figures, figures, read
from jobsup.models import Supervisor
from jobsup.neighbours import status_of
from jobsup.registry import find_task
from jobsup.runs import PROTOCOL
from jobsup.schedules.overview import overview
from jobsup.store import Store

SEEN_MAX = 10_000
"""How far each queue is looked at."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a supervisor: alive by its own account, or lost."""

    name: str
    node: str
    pid: int
    lost: bool
    silent_s: float
    lease_s: float
    protocol: int = PROTOCOL

    @property
    def alive(self) -> bool:
        """Whether it was heard of within its lease."""
        return not self.lost and self.silent_s <= self.lease_s


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue with ready jobs.

    Args:
        name: of the queue.
        ready: how many; `at_least` when the counting was given up.
        at_least: see `ready`.
        oldest_s: for how long the oldest one has been waiting, in seconds.
        named: whether a living supervisor serves it; where that cannot be known: whether the settings let it.
        moving: whether something of it runs, or ended within the last minute.
        paused: whether nobody is to take from it.
    """

    name: str
    ready: int
    at_least: bool
    oldest_s: float
    named: bool
    moving: bool
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that is judged; what the tables tell is missing while they are not there.

    Args:
        alias: of the database.
        debug: the setting DEBUG.
        bad_settings: what is wrong with TASKS, None for nothing.
        unmigrated: the migrations that were not run.
        workers: the worker processes of one supervisor.
        aliases: how many of the project's databases are on the same server as the jobs.
        notify: whether an enqueue wakes the supervisors.
        clock_skew_s: this machine's clock minus the database's, in seconds; None where they are the same.
        runs: of supervisors that are alive by their own account or were lost.
        queues: those with ready jobs.
        broken: the tasks of waiting jobs that cannot be imported, with the reason.
        schedules: the names of those that are in use and cannot run, with the reason.
        postgresql: what that server tells, None for another database.
        sqlite: the same of SQLite.
    """

    alias: str
    debug: bool = False
    bad_settings: str | None = None
    unmigrated: Sequence[str] = ()
    workers: int = 1
    aliases: int = 1
    notify: bool = True
    clock_skew_s: float | None = None
    runs: Sequence[Run] = ()
    queues: Sequence[QueueFacts] = ()
    broken: Sequence[tuple[str, str]] = ()
    schedules: Sequence[tuple[str, str]] = ()
    postgresql: postgresql.Server | None = None
    sqlite: sqlite.File | None = None
    mariadb: mariadb.Server | None = None

    @property
    def living(self) -> list[Run]:
        """The supervisors that were heard of within their lease."""
        return [run for run in self.runs if run.alive]


def gather(store: Store, settings: Conf) -> Facts:
    """Gather everything.

    Args:
        store: the jobs.
        settings: the setting JOBSUP.
    """
    vendor = connections[store.alias].vendor
    known: dict[str, Any] = {
        "alias": store.alias,
        "debug": django_settings.DEBUG,
        "bad_settings": _bad_settings(),
        "unmigrated": _unmigrated(store.alias),
        "workers": settings.workers,
        "aliases": _aliases(store.alias),
        "notify": settings.notify,
        "postgresql": postgresql.look(store.alias, settings.listen_alias) if vendor == "postgresql" else None,
        "sqlite": sqlite.look(store.alias) if vendor == "sqlite" else None,
        "mariadb": mariadb.look(store.alias) if vendor == "mysql" else None,
    }
    if known["unmigrated"]:
        return Facts(**known)
    counted, runs = read(store, most=SEEN_MAX, timed=0), _runs(store)
    return Facts(
        **known,
        clock_skew_s=_clock_skew_s(store) if vendor != "sqlite" else None,
        runs=runs,
        queues=_queues(store, counted, _served(settings, [run for run in runs if run.alive])),
        broken=_broken(counted),
        schedules=[(each.name, each.trouble) for each in overview(store, count=1) if each.enabled and each.trouble],
    )


def _bad_settings() -> str | None:
    try:
        queues.backends()
    except ImproperlyConfigured as error:
        return str(error)
    return None


def _unmigrated(alias: str) -> list[str]:
    executor = MigrationExecutor(connections[alias])
    targets = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "jobsup"]
    return [migration.name for migration, _ in executor.migration_plan(targets)]


def _aliases(alias: str) -> int:
    """Count the databases of the project that are on the server where the jobs are."""

    def place(name: str) -> tuple[Any, ...]:
        database = connections.settings[name]
        return tuple(database.get(key) for key in ("ENGINE", "HOST", "PORT"))

    return sum(place(name) == place(alias) for name in connections)


def _clock_skew_s(store: Store) -> float:
    """Return how far this machine's clock is before the database's; half the round trip is taken off."""
    best: tuple[float, float] | None = None
    for _ in range(3):
        asked = time.monotonic()
        theirs = store.sql.now()
        ours, took_s = timezone.now(), time.monotonic() - asked
        skew_s = (ours - theirs).total_seconds() - took_s / 2
        if best is None or took_s < best[0]:
            best = took_s, skew_s
    assert best is not None
    return best[1]


def _runs(store: Store) -> list[Run]:
    now = store.sql.now()
    runs = Supervisor.objects.using(store.alias).exclude(state="stopped").order_by("pk")
    return [
        Run(
            run.name,
            run.node,
            run.pid,
            run.state == "lost",
            (now - run.beat_at).total_seconds(),
            run.lease_s,
            run.protocol,
        )
        for run in runs
    ]


def _served(settings: Conf, living: Sequence[Run]) -> set[str] | None:
    """Return the queues that are served, None for every queue.

    The supervisors of this host tell it; where others live, or one cannot be asked, the settings say it.
    """
    found: set[str] = set()
    for run in living:
        status = status_of(settings, run.name) if run.node == settings.node_name else None
        for pool in (status or {}).get("pools") or [None]:
            if pool is None:
                return _by_settings(settings)
            if pool["feeds"] is None:
                return None
            found.update(pool["feeds"])
    return found if living else _by_settings(settings)


def _by_settings(settings: Conf) -> set[str] | None:
    """Return the queues that a supervisor with these settings serves, None for every queue."""
    try:
        named = queues.named()
    except ImproperlyConfigured:
        return None
    feeds = [pool.feeds for pool in settings.pools] or [named]
    return None if None in feeds else {queue for feed in feeds for queue in feed or ()}


def _queues(store: Store, counted: Counted, served: set[str] | None) -> list[QueueFacts]:
    paused = queue_control.paused(store)
    return [
        QueueFacts(
            name=own.name,
            ready=own.ready,
            at_least="ready" in own.at_least,
            oldest_s=own.oldest_ready_s or 0.0,
            named=served is None or own.name in served,
            moving=_moving(own),
            paused=own.name in paused,
        )
        for own in figures(counted, "queue")
        if own.ready
    ]


def _moving(own: Figures) -> bool:
    return own.running > 0 or own.done_minute > 0


def _broken(counted: Counted) -> list[tuple[str, str]]:
    found = []
    waiting = {count.task for count in counted.counts if count.what in ("ready", "scheduled")}
    for path in sorted(waiting):
        try:
            find_task(path)
        except TaskNotFound as error:
            found.append((path, str(error)))
    return found
