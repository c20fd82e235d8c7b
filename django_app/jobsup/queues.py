"""The TASKS setting as far as it is jobsup's, checked, and the queues that it names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from jobsup import conf, homes
from jobsup.backend import JobsupBackend
from jobsup.text import bounded
from spawnpool.pools import Pool


def backends() -> dict[str, Mapping[str, Any]]:
    """Return those entries of the TASKS setting that are jobsup's, checked.

    Raises:
        ImproperlyConfigured: something in it is wrong; the message begins with its path.
    """
    found: dict[str, Mapping[str, Any]] = {}
    given = getattr(settings, "TASKS", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"TASKS is {given!r}: expected a dict")
    for alias, params in given.items():
        path = f"TASKS[{alias!r}]"
        if not isinstance(params, Mapping) or not isinstance(params.get("BACKEND"), str):
            raise ImproperlyConfigured(f"{path}['BACKEND'] is missing: expected a dotted path")
        try:
            backend = import_string(params["BACKEND"])
        except ImportError as error:
            raise ImproperlyConfigured(f"{path}['BACKEND'] is {params['BACKEND']!r}: {error}") from None
        if isinstance(backend, type) and issubclass(backend, JobsupBackend):
            _check_backend(path, params)
            found[alias] = params
    if not found:
        raise ImproperlyConfigured(
            "TASKS names no backend of jobsup: expected "
            "{'default': {'BACKEND': 'jobsup.backend.JobsupBackend'}} or an entry like it"
        )
    return found


def _check_backend(path: str, params: Mapping[str, Any]) -> None:
    for key in params:
        if key not in ("BACKEND", "QUEUES", "OPTIONS"):
            raise ImproperlyConfigured(f"{path}[{key!r}] is unknown; there are BACKEND, OPTIONS, QUEUES")
    queues = params.get("QUEUES", [])
    if isinstance(queues, str) or not isinstance(queues, Iterable):
        raise ImproperlyConfigured(f"{path}['QUEUES'] is {queues!r}: expected a list of names")
    for queue in queues:
        if not isinstance(queue, str) or not 0 < len(queue) <= 64 or bounded(queue) != queue:
            raise ImproperlyConfigured(
                f"{path}['QUEUES'] contains {queue!r}: expected names of 1 to 64 characters, no NUL, no lone surrogates"
            )
    options = params.get("OPTIONS", {})
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured(f"{path}['OPTIONS'] is {options!r}: expected a dict")
    for key in options:
        if key != "database":
            raise ImproperlyConfigured(f"{path}['OPTIONS'][{key!r}] is unknown; there is database")
    if "database" in options and (alias := options["database"]) not in settings.DATABASES:
        raise ImproperlyConfigured(
            f"{path}['OPTIONS']['database'] is {alias!r}: expected one of DATABASES, {', '.join(settings.DATABASES)}"
        )


def served(chosen: Iterable[str]) -> tuple[str, ...] | None:
    """Return the queues to serve: those chosen, else all that TASKS names, else None for whatever queue there is.

    Of backends whose jobs are in the database that this process serves.

    Raises:
        ImproperlyConfigured: a chosen one, or one of a pool, is not named in TASKS; or the pools choose already.
    """
    asked, known, settings = tuple(dict.fromkeys(chosen)), named(homes.here()), conf.load()
    if asked and settings.pools:
        raise ImproperlyConfigured(
            f"--queue {asked[0]}: JOBSUP['POOLS'] says which queues are served, leave --queue out"
        )
    if known == ():
        raise ImproperlyConfigured(
            f"no backend in TASKS has its jobs in database {homes.here()!r}: name another one with --database, "
            f"there are {', '.join(homes.every())}"
        )
    pools(settings, known)
    for queue in asked:
        if known is not None and queue not in known:
            others = len(homes.every()) > 1
            where = f" with jobs in database {homes.here()!r}" if others else ""
            raise ImproperlyConfigured(
                f"--queue {queue}: no backend in TASKS{where} has that queue; there are {', '.join(known)}"
            )
    return asked or known


def named(database: str | None = None) -> tuple[str, ...] | None:
    """Return the queues that TASKS names, in the order of the alphabet; None where it allows any.

    Args:
        database: alias of the one with the jobs of the backends that are meant; None for all backends.

    Raises:
        ImproperlyConfigured: something in it is wrong.
    """
    found = backends()
    meant = [alias for alias in found if database in (None, homes.of(alias))]
    known = [tuple(found[alias].get("QUEUES", ["default"])) for alias in meant]
    return tuple(sorted({name for names in known for name in names})) if all(known) else None


def pools(settings: conf.Conf, served: Iterable[str] | None) -> tuple[Pool, ...]:
    """Return the pools of a supervisor: those of the settings, else one that serves these queues.

    Queues with jobs in another database than the one that this process serves are left out, and so are pools that serve
    nothing else.

    Args:
        settings: of the project.
        served: the queues of the only pool, None for all.

    Raises:
        ImproperlyConfigured: a pool has a queue that is not named in TASKS, or no pool has one of this database.
    """
    if not settings.pools:
        return (Pool(workers=settings.workers, feeds=None if served is None else tuple(served)),)
    known = named()
    for pool in settings.pools:
        for queue in (*(pool.feeds or ()), *pool.at_once):
            if known is not None and queue not in known:
                raise ImproperlyConfigured(
                    f"JOBSUP['POOLS'][{pool.name!r}] serves {queue!r}: no backend in TASKS has that queue; "
                    f"there are {', '.join(known)}"
                )
    own = named(homes.here())
    found = tuple(filter(None, (_within(pool, own) for pool in settings.pools)))
    if not found:
        raise ImproperlyConfigured(
            f"JOBSUP['POOLS'] serves no queue with jobs in database {homes.here()!r}; there are {', '.join(own or ())}"
        )
    return found


def _within(pool: Pool, own: Collection[str] | None) -> Pool | None:
    """Return a pool as far as it serves these queues, None for all; None if it serves none of them."""
    if own is None or pool.feeds is None:
        return pool
    feeds = tuple(queue for queue in pool.feeds if queue in own)
    at_once = {queue: most for queue, most in pool.at_once.items() if queue in own}
    return replace(pool, feeds=feeds, at_once=at_once) if feeds else None


def unserved(settings: conf.Conf) -> list[str]:
    """Return the queues that TASKS names and no pool of the settings serves."""
    if not settings.pools or any(pool.feeds is None for pool in settings.pools):
        return []
    served = {queue for pool in settings.pools for queue in pool.feeds or ()}
    return [queue for queue in named() or () if queue not in served]
