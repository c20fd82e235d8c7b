"""JOBSUP["POOLS"]: a fixed number of workers each, with the queues that they serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from spawnpool.errors import LimitError
from spawnpool.pools import WORKERS_MAX, Pool, checked

EVERY = "*"
QUEUE_CHARS_MAX = 64
_KEYS = ("LIMITS", "QUEUES", "WORKERS")


def parsed(path: str, value: Any) -> tuple[Pool, ...]:
    """Return the pools that the setting says.

    Args:
        path: of the setting.
        value: its value.

    Raises:
        ImproperlyConfigured: something in it is wrong; the message begins with its path.
    """
    from jobsup.conf import check_name

    if not isinstance(value, Mapping) or not value:
        raise ImproperlyConfigured(
            f"{path} is {value!r}: expected a dict such as "
            "{'mail': {'WORKERS': 2, 'QUEUES': ['mail']}, 'rest': {'WORKERS': 4, 'QUEUES': '*'}}"
        )
    pools = []
    for name, given in value.items():
        if not isinstance(name, str):
            raise ImproperlyConfigured(f"{path} has a pool named {name!r}: expected a string")
        check_name(f"the name of a pool in {path}", name)
        pools.append(_pool(f"{path}[{name!r}]", name, given))
    try:
        return checked(pools)
    except LimitError as error:
        raise ImproperlyConfigured(f"{path}: {error}") from error


def words(pools: Iterable[Pool]) -> str:
    """Return what pools serve, as a supervisor says it when it starts."""
    several = [*pools]
    if len(several) == 1:
        return _queues(several[0])
    return "; ".join(f"{pool.name}: {_queues(pool)}" for pool in several)


def _queues(pool: Pool) -> str:
    limits = [f"{queue} at most {most} at once" for queue, most in pool.at_once.items()]
    within = f" ({', '.join(limits)})" if limits else ""
    if pool.feeds is None:
        return f"every queue{within}"
    return f"queue{'s' * (len(pool.feeds) != 1)} {', '.join(pool.feeds)}{within}"


def _pool(path: str, name: str, given: Any) -> Pool:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{path} is {given!r}: expected a dict with WORKERS and QUEUES")
    for key in given:
        if key not in _KEYS:
            raise ImproperlyConfigured(f"{path}[{key!r}] is unknown; there are {', '.join(_KEYS)}")
    for key, expected in (("WORKERS", "how many there are"), ("QUEUES", "a list of names, or '*' for every queue")):
        if key not in given:
            raise ImproperlyConfigured(f"{path}[{key!r}] is missing: expected {expected}")
    workers = _number(f"{path}['WORKERS']", given["WORKERS"])
    queues = _names(f"{path}['QUEUES']", given["QUEUES"])
    return Pool(
        name=name,
        workers=workers,
        feeds=queues,
        ordered=queues is not None,
        at_once=_limits(f"{path}['LIMITS']", given.get("LIMITS", {}), queues),
    )


def _number(path: str, value: Any) -> int:
    from jobsup.conf import number

    try:
        return int(number(value, 1, WORKERS_MAX, whole=True))
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{path} is {value!r}: {error}") from error


def _names(path: str, value: Any) -> tuple[str, ...] | None:
    if value == EVERY:
        return None
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise ImproperlyConfigured(f"{path} is {value!r}: expected a list of names, or '*' for every queue")
    names = tuple(value)
    for queue in names:
        if queue == EVERY:
            raise ImproperlyConfigured(f"{path} contains '*' beside names: '*' stands alone, for every queue")
        if isinstance(queue, Mapping):
            raise ImproperlyConfigured(
                f"{path} contains {queue!r}: expected names; how many workers a queue may have at once stands in LIMITS"
            )
        if not isinstance(queue, str) or not 0 < len(queue) <= QUEUE_CHARS_MAX:
            expected = f"names of 1 to {QUEUE_CHARS_MAX} characters"
            raise ImproperlyConfigured(f"{path} contains {queue!r}: expected {expected}")
        if names.count(queue) > 1:
            raise ImproperlyConfigured(f"{path} names {queue!r} twice: leave one of them out")
    if not names:
        raise ImproperlyConfigured(f"{path} is empty: the pool would have nothing to do")
    return names


def _limits(path: str, value: Any, queues: tuple[str, ...] | None) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"{path} is {value!r}: expected a dict such as {{'reports': 1}}")
    for queue in value:
        if not isinstance(queue, str) or (queues is not None and queue not in queues):
            served = "" if queues is None else f"; the pool serves {', '.join(queues)}"
            raise ImproperlyConfigured(f"{path} names {queue!r}: expected a queue of this pool{served}")
    return {queue: _number(f"{path}[{queue!r}]", most) for queue, most in value.items()}
