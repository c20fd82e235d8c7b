"""The options that a task has beyond those of `django.tasks`: what each may be, and as text in a job's row."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.db import connections

from jobsup import homes
from jobsup.conf import MEMORY_MAX, WEEK_S, number, size
from jobsup.errors import RowUnreadable
from jobsup.retries import ASKS_ITS_DECLARATION, read_backoff, stored_backoff, stored_names
from jobsup.schedules.declared import schedules_of

MAX_ATTEMPTS_MAX = 1000
KEEP_MAX_S = 100 * 366 * 86_400
"""A hundred years: for ever, as far as jobs go."""


def _attempts(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_ATTEMPTS_MAX:
        raise ValueError(f"expected a whole number from 1 to {MAX_ATTEMPTS_MAX}")
    return value


def _unique(value: Any) -> Any:
    if not isinstance(value, bool) and not callable(value) and (not isinstance(value, str) or not value):
        raise TypeError("expected True, a text that is not empty, or a callable that returns the key")
    return value


def _atomic(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("expected True or False")
    return value


def _one_of(*words: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in words:
            raise ValueError(f"expected {' or '.join(repr(word) for word in words)}")
        return value

    return check


class Option(NamedTuple):
    """One option.

    Args:
        check: returns what is kept for a value of it; raises TypeError or ValueError with what was expected.
        kept: whether a job keeps its own in `Job.options`; else it has a column, or no job needs it.
        read: makes the value of the option of what was kept.
    """

    check: Callable[[Any], Any]
    kept: bool = True
    read: Callable[[Any], Any] = lambda kept: kept


OPTIONS: dict[str, Option] = {
    "max_attempts": Option(_attempts, kept=False),
    "backoff": Option(stored_backoff, read=read_backoff),
    "retry_on": Option(stored_names, read=tuple),
    "discard_on": Option(stored_names, read=tuple),
    "timeout": Option(lambda value: number(value, 0, WEEK_S)),
    "timeout_grace": Option(lambda value: number(value, 0, WEEK_S)),
    "memory_limit": Option(lambda value: number(value, 0, MEMORY_MAX, whole=True) if value == 0 else size(value)),
    "keep": Option(lambda value: ceil(number(value, 0, KEEP_MAX_S)), kept=False),
    "unique": Option(_unique, kept=False),
    "unique_while": Option(_one_of("pending", "running"), kept=False),
    "on_conflict": Option(_one_of("return", "raise", "replace"), kept=False),
    "atomic": Option(_atomic, kept=False),
    "schedule": Option(schedules_of, kept=False),
}
"""Every option by its name. 0 stands for no limit where the setting has one."""

KEPT = tuple(name for name, option in OPTIONS.items() if option.kept)


def check(task: Any) -> None:
    """Refuse options that cannot work.

    Raises:
        ValueError: says which, and why.
    """
    for name, option in OPTIONS.items():
        if (value := getattr(task, name, None)) is not None:
            try:
                option.check(value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} is {value!r}: {error}.") from error
    retried, discarded = (stored_names(getattr(task, name, None) or ()) for name in ("retry_on", "discard_on"))
    if both := sorted({*retried} & {*discarded}):
        raise ValueError(f"retry_on and discard_on both name {', '.join(both)}: it can be in one of them only.")
    if getattr(task, "atomic", None) is True:
        _check_atomic(task)


def _check_atomic(task: Any) -> None:
    """Refuse what no transaction can be put around; of the database as far as that is known without asking it."""
    if iscoroutinefunction(task.func):
        raise ValueError(
            "atomic is True on a coroutine function, and Django has no transactions in asynchronous code: "
            "make it a plain function, or leave atomic out."
        )
    if not apps.models_ready:
        return
    connection = connections[homes.of(task.backend)]
    asks = connection.vendor == "mysql" and connection.connection is None
    if not asks and not connection.features.supports_transactions:
        raise ValueError(
            f"atomic is True, and the database {connection.alias!r} has no transactions: "
            "have the jobs in one that has (on MariaDB and MySQL: tables of InnoDB), or leave atomic out."
        )


def text_of(task: Any) -> str | None:
    """Return what a job's row keeps of the options that its task declares; None if it declares none."""
    given = {name: value for name in KEPT if (value := getattr(task, name, None)) is not None}
    if not given:
        return None
    return json.dumps({name: OPTIONS[name].check(value) for name, value in given.items()})


def options_of(text: str | None) -> dict[str, Any]:
    """Return the task options that a job's row keeps; what it leaves to the declaration is not there.

    Raises:
        RowUnreadable: it does not keep what `text_of` wrote.
    """
    try:
        kept: dict[str, Any] = dict.fromkeys(KEPT) | (json.loads(text) if text else {})
        return {name: _read(name, value) for name, value in kept.items() if value != ASKS_ITS_DECLARATION}
    except (TypeError, ValueError, RecursionError) as error:
        raise RowUnreadable(f"the options in its row cannot be read: {error}") from None


def _read(name: str, kept: Any) -> Any:
    if name not in OPTIONS or kept is None:
        return kept
    value = OPTIONS[name].read(kept)
    OPTIONS[name].check(value)
    return value


def keep_s_of(task: Any) -> int | None:
    """Return for how many seconds a job of the task is kept once it has ended; None: as long as the setting says."""
    keep = getattr(task, "keep", None)
    return None if keep is None else OPTIONS["keep"].check(keep)
