"""The JOBSUP setting, checked: every mistake is told with its path, the value and what is expected."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
LEASE_MIN_S = 3.0


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
        notify: whether an enqueue wakes the supervisor by NOTIFY (PostgreSQL).
        crash_attempts: how many times a job whose task declares no `max_attempts` may be started, when its worker
            dies on it each time.
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
    "grace_s": (0, 7 * 86400),
    "lease_s": (LEASE_MIN_S, 86400),
    "boot_timeout_s": (1, 86400),
    "crash_attempts": (1, 1000),
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
        values[_KEYS[key].name] = checked(path, _KEYS[key].name, value)
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
    if name == "notify":
        if not isinstance(value, bool):
            raise ImproperlyConfigured(f"{path} is {value!r}: expected True or False")
    elif name in ("name", "node", "run_dir"):
        if value is None and default is None:
            return None
        if not isinstance(value, str):
            raise ImproperlyConfigured(f"{path} is {value!r}: expected a string")
        if name != "run_dir":
            check_name(path, value)
    else:
        whole = isinstance(default, int)
        if isinstance(value, timedelta) and not whole:
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            expected = "a whole number" if whole else "seconds or a timedelta"
            raise ImproperlyConfigured(f"{path} is {value!r}: expected {expected}")
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise ImproperlyConfigured(f"{path} is {value!r}: must lie between {low:g} and {high:g}")
    return value
