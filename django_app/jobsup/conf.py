"""The JOBSUP setting, checked: every mistake is told with its path, the value and what is expected."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from jobsup.keep import KEEP, Keep, keep_of
from jobsup.pools import parsed
from spawnpool.pools import Pool

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
LEASE_MIN_S = 3.0
WEEK_S = 7 * 86400
MEMORY_MIN = 2**20
MEMORY_MAX = 2**50
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE_PATTERN = re.compile(r"([0-9]{1,15})([KMGT]?)B?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """What the JOBSUP setting says; names in capitals there, durations in seconds here.

    Args:
        workers: how many worker processes.
        name: of the supervisor; two of one name cannot run on one node.
        node: name of this machine; None for its host name.
        grace_s: how long running jobs may go on after TERM.
        lease_s: how long a supervisor may be silent before its jobs are given to others.
        boot_timeout_s: how long a worker may take to start.
        run_dir: folder of the run file; None for $RUNTIME_DIRECTORY or a folder below the temporary one.
        notify: whether an enqueue wakes the supervisors, as far as the database can.
        crash_attempts: how many times a job whose task declares no `max_attempts` may be started, when its worker
            dies on it each time.
        timeout_s: after how long a job is interrupted whose task declares nothing else; None for never.
        timeout_grace_s: how long it may go on after that before its worker is ended.
        memory_limit: how much memory a worker may have while it runs a job whose task declares nothing else, in bytes;
            None for any.
        max_jobs: after about how many jobs a worker is replaced; None for never.
        max_rss: above how much memory a worker is replaced after its job, in bytes; None for never.
        max_age_s: after about how long a worker is replaced; None for never.
        cancel_ask_s: between asking a running job to end and interrupting it, when it is cancelled.
        cancel_grace_s: how long it may go on after that before its worker is ended.
        restarts: how many workers may die within `restarts_window_s` before they are replaced more slowly.
        restarts_window_s: see `restarts`.
        keep: how long jobs are kept once they have ended.
        schedules: whether this project's schedules are declared and their jobs enqueued.
        pools: a number of workers each, with the queues that they serve; none for one pool of `workers`.
        listen_alias: the entry of DATABASES that supervisors listen on, past a pooler; None for that of the jobs.
        task_modules: modules that workers import for their tasks, beside the module `tasks` of each app.

    Raises:
        ImproperlyConfigured: `workers` contradicts the pools.
    """

    workers: int = 2
    name: str = "default"
    node: str | None = None
    grace_s: float = 30.0
    lease_s: float = 30.0
    boot_timeout_s: float = 60.0
    run_dir: str | None = None
    notify: bool = True
    crash_attempts: int = 5
    timeout_s: float | None = None
    timeout_grace_s: float = 10.0
    memory_limit: int | None = None
    max_jobs: int | None = None
    max_rss: int | None = None
    max_age_s: float | None = None
    cancel_ask_s: float = 1.0
    cancel_grace_s: float = 10.0
    restarts: int = 20
    restarts_window_s: float = 60.0
    keep: Keep = KEEP
    schedules: bool = True
    pools: tuple[Pool, ...] = ()
    listen_alias: str | None = None
    task_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pools and self.workers != sum(pool.workers for pool in self.pools):
            raise ImproperlyConfigured(
                f"--workers {self.workers}: JOBSUP['POOLS'] says how many workers each pool has, leave --workers out"
            )

    @property
    def node_name(self) -> str:
        """The name of this machine."""
        return self.node or socket.gethostname()[:64]


def worker_id(node: str, number: int, pid: int) -> str:
    """Return how a worker is called in `TaskResult.worker_ids`."""
    return f"{node}:worker {number}:{pid}"


_KEYS = {field.name.removesuffix("_s").upper(): field for field in fields(Conf)}
_RANGES: dict[str, tuple[float, float]] = {
    "workers": (1, 1024),
    "grace_s": (0, WEEK_S),
    "lease_s": (LEASE_MIN_S, 86400),
    "boot_timeout_s": (1, 86400),
    "crash_attempts": (1, 1000),
    "timeout_s": (0.001, WEEK_S),
    "timeout_grace_s": (0, WEEK_S),
    "max_jobs": (1, 10**12),
    "max_age_s": (1, 366 * 86400),
    "cancel_ask_s": (0, 86400),
    "cancel_grace_s": (0, 86400),
    "restarts": (1, 10**6),
    "restarts_window_s": (1, 86400),
}


def load() -> Conf:
    """Return the checked JOBSUP setting.

    Raises:
        ImproperlyConfigured: something in it is wrong; the message begins with its path.
    """
    given = getattr(settings, "JOBSUP", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"JOBSUP is {given!r}: expected a dict")
    values: dict[str, Any] = {}
    for key, value in given.items():
        path = f"JOBSUP[{key!r}]"
        if key not in _KEYS:
            raise ImproperlyConfigured(f"{path} is no setting of jobsup; there are {', '.join(sorted(_KEYS))}")
        values[_KEYS[key].name] = parsed(path, value) if key == "POOLS" else checked(path, _KEYS[key].name, value)
    if pools := values.get("pools"):
        if "workers" in values:
            raise ImproperlyConfigured(
                "JOBSUP['WORKERS'] does not go with JOBSUP['POOLS'], where each pool has its own: leave it out"
            )
        values["workers"] = sum(pool.workers for pool in pools)
    return Conf(**values)


def check_name(path: str, value: str) -> str:
    """Return a supervisor's name if it can be one.

    Raises:
        ImproperlyConfigured: it cannot.
    """
    if not NAME_PATTERN.fullmatch(value):
        raise ImproperlyConfigured(
            f"{path} is {value!r}: expected at most 40 letters, digits, dots, dashes and underscores"
        )
    return value


def checked(path: str, name: str, value: Any) -> Any:
    """Return one value converted to what the field `name` of `Conf` holds.

    Raises:
        ImproperlyConfigured: it cannot be that.
    """
    default = getattr(Conf(), name)
    if value is None and name in OPTIONAL:
        return None
    if name in ("notify", "schedules"):
        if not isinstance(value, bool):
            raise ImproperlyConfigured(f"{path} is {value!r}: expected True or False")
        return value
    if name in ("name", "node", "run_dir"):
        return _text(path, name, value)
    try:
        if (convert := _CONVERSIONS.get(name)) is not None:
            return convert(value)
        low, high = _RANGES[name]
        if name in WHOLE or isinstance(default, int):
            return number(value, low, high, whole=True)
        return number(value, low, high)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{path} is {value!r}: {error}") from error


def _text(path: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ImproperlyConfigured(f"{path} is {value!r}: expected a string")
    if name != "run_dir":
        return check_name(path, value)
    if not value.startswith("/") or "\0" in value:
        raise ImproperlyConfigured(f"{path} is {value!r}: expected an absolute path")
    return value


WHOLE = ("max_jobs",)
OPTIONAL = tuple(field.name for field in fields(Conf) if getattr(Conf(), field.name) is None)
"""What may be None."""


def number(value: Any, low: float, high: float, *, whole: bool = False) -> Any:
    """Return a whole number, or a duration in seconds, which may be given as a timedelta.

    Raises:
        TypeError: it is none.
        ValueError: it is out of its range.
    """
    if isinstance(value, timedelta) and not whole:
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError("expected a whole number" if whole else "expected seconds or a timedelta")
    if not low <= value <= high:
        raise ValueError(f"must lie between {low:.15g} and {high:.15g}")
    return value


def size(value: Any) -> int:
    """Return a size in bytes, which may be given as "512M"; the units are K, M, G and T, powers of 1024.

    Raises:
        TypeError: it is none.
        ValueError: it is below 1M, or no machine has so much.
    """
    found = _SIZE_PATTERN.fullmatch(value.strip()) if isinstance(value, str) else None
    count = int(found[1]) * _UNITS[found[2].upper()] if found else value
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError('expected bytes or a size such as "512M"')
    if not MEMORY_MIN <= count <= MEMORY_MAX:
        raise ValueError("must lie between 1M and 1024T")
    return count


def _module_names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError('expected a list of modules such as ["shop.jobs"]')
    for name in value:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f'{name!r} is no name of a module such as "shop.jobs"')
    return tuple(value)


def _alias(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected the name of an entry of DATABASES")
    if value not in settings.DATABASES:
        raise ValueError(f"DATABASES has no such entry, only {', '.join(settings.DATABASES)}")
    return value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "keep": keep_of,
    "listen_alias": _alias,
    "memory_limit": size,
    "max_rss": size,
    "task_modules": _module_names,
}
