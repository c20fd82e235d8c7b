"""The limits of a job: declared with its task, kept with the job as text, completed by the setting JOBSUP."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from jobsup.conf import MEMORY_MAX, WEEK_S, Conf, number, size
from spawnpool.bounds import Bounds

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "timeout": lambda value: number(value, 0, WEEK_S),
    "timeout_grace": lambda value: number(value, 0, WEEK_S),
    "memory_limit": lambda value: number(value, 0, MEMORY_MAX, whole=True) if value == 0 else size(value),
}
OPTIONS = tuple(_CHECKS)
"""The task options that are limits; 0 stands for no limit where the setting has one."""


def check(task: Any) -> None:
    """Refuse limits that cannot work.

    Raises:
        ValueError: says which, and why.
    """
    for name, checked in _CHECKS.items():
        if (value := getattr(task, name, None)) is not None:
            try:
                checked(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} is {value!r}: {error}.") from error


def text_of(task: Any) -> str | None:
    """Return what a job's row keeps of the limits that its task declares; None if it declares none."""
    given = {name: value for name in OPTIONS if (value := getattr(task, name, None)) is not None}
    if not given:
        return None
    return json.dumps({name: _CHECKS[name](value) for name, value in given.items()})


def options_of(text: str | None) -> dict[str, Any]:
    """Return the task options that a job's row keeps."""
    return dict.fromkeys(OPTIONS) | (json.loads(text) if text else {})


def defaults(conf: Conf) -> Bounds:
    """Return the limits of a job whose task declares none."""
    return Bounds(conf.timeout_s, conf.timeout_grace_s, conf.memory_limit)


@lru_cache(maxsize=1024)
def bounds_of(text: str | None, default: Bounds) -> Bounds:
    """Return the limits in force for a job.

    Args:
        text: what its row keeps.
        default: for what that leaves open.
    """
    given = {name: value for name, value in options_of(text).items() if value is not None}
    return Bounds(
        given.get("timeout", default.timeout_s) or None,
        given.get("timeout_grace", default.grace_s),
        given.get("memory_limit", default.memory_bytes) or None,
    )
