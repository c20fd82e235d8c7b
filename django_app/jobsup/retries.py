"""How a job is tried again: when, and what it may say about that itself."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pkgutil import resolve_name
from typing import Any

from django.utils import timezone

DELAY_MAX_S = 366 * 86400.0
"""How long a job may wait for its next attempt: a year."""
FACTOR_MAX = 100.0
ASKS_ITS_DECLARATION = "declared"
"""Stands in a job's row for a function that only the declaration of its task has."""

_LOCAL = "<locals>"
_PATH = re.compile(rf"[^\W\d]\w*(\.([^\W\d]\w*|{_LOCAL}))+")
EXPECTED = "expected seconds, a timedelta, a jobsup.Backoff, or a function backoff(exception, task_result)"


def seconds(value: Any, most_s: float = DELAY_MAX_S) -> float:
    """Return a delay in seconds, which may be given as a timedelta.

    Raises:
        TypeError: it is none.
        ValueError: it is negative, not a number or too long.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("expected seconds or a timedelta")
    if not 0 <= value <= most_s:
        raise ValueError(f"must lie between 0 and {most_s:.15g} seconds")
    return value


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that grow from attempt to attempt.

    After the n-th attempt that counts a job waits for

        min(max, base * factor ** (n - 1)) * (1 - jitter * r)

    seconds, where r is drawn evenly from 0 up to 1, anew each time: the jitter makes no delay longer, and with jitter=1
    one lies anywhere between 0 and that ("full jitter").

    Args:
        base: after the first attempt, in seconds or as a timedelta.
        factor: by how much each delay is longer than the one before, 1 to 100.
        max: the longest delay, in seconds or as a timedelta; at most 366 days.
        jitter: which share of a delay is left to chance, 0 to 1, so that jobs that failed together are not tried again
            together.

    Raises:
        TypeError, ValueError: one of them cannot be that.
    """

    base: float | timedelta = 1.0
    factor: float = 2.0
    max: float | timedelta = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name, check in (("base", seconds), ("factor", _factor), ("max", seconds), ("jitter", _share)):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, float(check(value)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"Backoff({name}={value!r}): {error}") from None
        if self._max_s < self._base_s:
            raise ValueError(f"Backoff(max={self.max:g}): must not be less than base, which is {self.base:g}")

    @property
    def _base_s(self) -> float:
        assert isinstance(self.base, float)
        return self.base

    @property
    def _max_s(self) -> float:
        assert isinstance(self.max, float)
        return self.max

    def delay_s(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Return the delay after an attempt.

        Args:
            attempt: its number, 1, 2, ...
            draw: returns a number from 0 up to 1, without 1.
        """
        try:
            grown = self._base_s * self.factor ** (attempt - 1)
        except OverflowError:
            grown = self._max_s if self._base_s else 0.0
        return min(self._max_s, grown) * (1.0 - self.jitter * draw())


def _factor(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= FACTOR_MAX:
        raise ValueError(f"expected a number from 1 to {FACTOR_MAX:g}")
    return value


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("expected a number from 0 to 1")
    return value


DEFAULT_BACKOFF = Backoff(base=1, factor=2, max=3600, jitter=0)
"""Where a task declares none, or its function is of no use: 1, 2, 4 ... 3600 seconds."""

BackoffOption = float | timedelta | Backoff | str | Callable[[BaseException, Any], float | timedelta | None]
"""What the option `backoff` may be; a text is the dotted path of a function."""
Named = type[BaseException] | str | Sequence[type[BaseException] | str]
"""What `retry_on` and `discard_on` may be: exception classes or their dotted paths."""


# ---- the options: what may be given, and what a job's row keeps of it


def stored_backoff(value: Any) -> Any:
    """Return what a row keeps of the option `backoff`: a number, the fields of a `Backoff`, or where a function is.

    Raises:
        TypeError, ValueError: it can be no backoff.
    """
    if isinstance(value, Backoff):
        return asdict(value)
    if isinstance(value, str) and value != ASKS_ITS_DECLARATION:
        if not _PATH.fullmatch(value):
            raise ValueError('expected the path of a function such as "shop.retries.slowly"')
        return value
    if callable(value):
        _check_function(value)
        return path_of(value) or ASKS_ITS_DECLARATION
    try:
        return seconds(value)
    except TypeError:
        raise TypeError(EXPECTED) from None


def read_backoff(stored: Any) -> Any:
    """Return the option `backoff` as a row keeps it; a function stays where it is, as its path."""
    return Backoff(**stored) if isinstance(stored, dict) else stored


def _check_function(function: Any) -> None:
    if isinstance(function, type) or inspect.iscoroutinefunction(function):
        raise TypeError(EXPECTED + (", which is no coroutine" if inspect.iscoroutinefunction(function) else ""))
    try:
        inspect.signature(function).bind(None, None)
    except ValueError:  # it has no signature that one could look at
        return
    except TypeError:
        raise TypeError("expected a function that takes two arguments, backoff(exception, task_result)") from None


def path_of(function: Any) -> str | None:
    """Return the dotted path under which every process finds a function, None if there is none."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or module == "__main__" or _LOCAL in name or "<lambda>" in name:
        return None
    try:
        found = resolve_name(f"{module}:{name}")
    except (ImportError, AttributeError):
        return None
    return f"{module}.{name}" if found is function else None


def stored_names(value: Any) -> list[str]:
    """Return what a row keeps of `retry_on` and `discard_on`: dotted paths of exception classes.

    Raises:
        TypeError: something else than an exception class or a dotted path, alone or in a tuple.
    """
    given = value if isinstance(value, (tuple, list)) else [value]
    names = []
    for each in given:
        if isinstance(each, type) and issubclass(each, BaseException):
            names.append(f"{each.__module__}.{each.__qualname__}")
        elif isinstance(each, str) and _PATH.fullmatch(each):
            names.append(each)
        else:
            raise TypeError(
                f'{each!r} is no exception class, nor the path of one such as "requests.Timeout"'
                if given is value
                else 'expected exception classes or their paths such as "requests.Timeout", in a tuple'
            )
    return names


def names_in_line(kind: type[BaseException]) -> set[str]:
    """Return the paths by which a class of exceptions, or one that it is derived from, can be named.

    Those of jobsup itself have two: `jobsup.JobTimeout` is what its users write.
    """
    paths = {f"{each.__module__}.{each.__qualname__}" for each in kind.__mro__}
    return paths | {f"jobsup.{each.__qualname__}" for each in kind.__mro__ if each.__module__ == "jobsup.errors"}


def is_named(kind: type[BaseException], names: Iterable[str]) -> bool:
    """Tell whether a class of exceptions, or one that it is derived from, is among these; imports nothing."""
    return not names_in_line(kind).isdisjoint(names)


_declared: set[str] = set()
"""What the tasks of this process name in their options."""


def declare_names(task: Any) -> None:
    """Take note of what the options of a task name, so that a job's row may name it, too."""
    if task.backoff is not None and isinstance(name := stored_backoff(task.backoff), str):
        _declared.add(name)
    for given in (task.retry_on, task.discard_on):
        if given is not None:
            _declared.update(stored_names(given))


@lru_cache(maxsize=1024)
def declared_at(path: str) -> Any:
    """Return what stands at a dotted path.

    Raises:
        LookupError: no task names it: a row alone can have nothing imported.
        BaseException: whatever its import raises.
    """
    if path not in _declared:
        raise LookupError(f"no task that this worker knows declares {path}")
    return resolve_name(path)


# ---- what a job may say itself


class JobDirective(BaseException):
    """Raised in a job to say what is to become of it; no `Exception`, so that `except Exception` lets it through."""


class _Later(JobDirective):
    def __init__(self, after: float | timedelta | datetime | None, words: str) -> None:
        name = type(self).__name__
        try:
            if isinstance(after, datetime):
                after = _aware(after)
            elif after is not None:
                after = seconds(after)
        except TypeError:
            raise TypeError(f"{name}(after={after!r}): expected seconds, a timedelta or a datetime") from None
        except ValueError as error:
            raise ValueError(f"{name}(after={after!r}): {error}") from None
        self.after = after
        super().__init__(words if after is None else f"{words} {_told(after)}")

    def delay_s(self) -> float | None:
        """Return how long to wait from now on, in seconds; None if that is not said."""
        if isinstance(self.after, datetime):
            return min(DELAY_MAX_S, max(0.0, (self.after - datetime.now(UTC)).total_seconds()))
        return None if self.after is None else seconds(self.after)


class Retry(_Later):
    """Raised in a job to have it tried again; counts as an attempt.

    Args:
        after: when: in so many seconds, after a timedelta, or at a datetime; None: as the task's `backoff` says.
    """

    def __init__(self, after: float | timedelta | datetime | None = None) -> None:
        super().__init__(after, "the job asked to be tried again")


class Snooze(_Later):
    """Raised in a job to have it run again later, as if it had not run yet: no attempt is counted.

    Args:
        after: when: in so many seconds, after a timedelta, or at a datetime.
    """

    def __init__(self, after: float | timedelta | datetime) -> None:
        if after is None:
            raise TypeError("Snooze(after=None): expected seconds, a timedelta or a datetime")
        super().__init__(after, "the job asked to run")


class Discard(JobDirective):
    """Raised in a job to end it at once, whatever attempts are left.

    Args:
        reason: why, for the job's error.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason or "the job discarded itself")


def _aware(moment: datetime) -> datetime:
    if timezone.is_aware(moment):
        return moment
    from django.conf import settings

    if settings.USE_TZ:
        raise ValueError("expected a datetime with a time zone, since USE_TZ is True")
    return timezone.make_aware(moment)


def _told(after: float | timedelta | datetime) -> str:
    return f"at {after.isoformat(sep=' ')}" if isinstance(after, datetime) else f"after {seconds(after):g} s"
