"""What a check is, where all checks are listed, and what they share.

The name of a check is its module's and its function's, what it shows is its docstring. A check raises AssertionError
when the contract is broken; any other exception counts the same. NotOffered: the backend says that it has no such
ability, which is its right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import django

from tests.conformance import api, journal

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = ("declaring", "enqueueing", "arguments", "results", "running", "outcomes", "signals", "transactions")

Level = Literal["must", "should"]


class NotOffered(Exception):
    """The backend, this Django or this run has not what the check is about."""


class Moment(Enum):
    """What a check waits for."""

    RUNNING = "a worker runs the task `gate`"
    WORKED = "a worker has run everything that was queued"


RUNNING, WORKED = Moment
Steps = Generator[Moment, None, None]


class Need(Enum):
    """What a check needs of the backend, and the words if it is not there."""

    DEFER = "supports_defer is False"
    ASYNC = "supports_async_task is False"
    RESULTS = "supports_get_result is False"
    PRIORITY = "supports_priority is False"
    WORKER = "enqueue() runs the task itself"
    PICKLE = "Django pickles tasks from 6.1 on"
    RETRY = "no options for a retry were named"

    def met(self) -> bool:
        """True when it is there."""
        backend = api.default_task_backend
        match self:
            case Need.DEFER | Need.ASYNC | Need.RESULTS | Need.PRIORITY:
                return bool(getattr(backend, self.value.partition(" ")[0]))
            case Need.WORKER:
                return has_worker()
            case Need.PICKLE:
                return django.VERSION >= (6, 1)
            case Need.RETRY:
                return bool(os.environ.get("CONFORMANCE_RETRY"))


@dataclass(frozen=True)
class Check:
    """One question to a backend.

    Args:
        function: raises when the answer is wrong; a generator if it needs a worker.
        level: "must" where Django's documentation, source or own tests demand it, "should" where users expect it.
        needs: without these the question does not arise.
        alone: a name; its jobs may harm a worker, and share one with checks of the same name only.
    """

    function: Callable[[], Steps | None]
    level: Level
    needs: tuple[Need, ...]
    alone: str

    @property
    def name(self) -> str:
        """Module and function."""
        return f"{self.function.__module__.rpartition('.')[2]}.{self.function.__name__}"

    @property
    def words(self) -> str:
        """What it shows."""
        return (self.function.__doc__ or "").strip().rstrip(".")


ALL: list[Check] = []


def must(*needs: Need, alone: str = "") -> Callable[[Callable[[], Steps | None]], Callable[[], Steps | None]]:
    """Declare a check of what the contract demands."""
    return _declare("must", needs, alone=alone)


def should(*needs: Need, alone: str = "") -> Callable[[Callable[[], Steps | None]], Callable[[], Steps | None]]:
    """Declare a check of what is expected beyond that."""
    return _declare("should", needs, alone=alone)


def _declare(
    level: Level, needs: tuple[Need, ...], *, alone: str
) -> Callable[[Callable[[], Steps | None]], Callable[[], Steps | None]]:
    def note(function: Callable[[], Steps | None]) -> Callable[[], Steps | None]:
        ALL.append(Check(function, level, needs, alone))
        return function

    return note


def load() -> list[Check]:
    """Import the modules of checks and return all of them."""
    for module in MODULES:
        import_module(f"{__name__}.{module}")
    return ALL


# -- what checks share ------------------------------------------------------------------------------------------------

_numbers = count(1)


def has_worker() -> bool:
    """True when another process runs the tasks."""
    return bool(os.environ["CONFORMANCE_WORKER"])


def tag(word: str = "job") -> str:
    """Return a name that no other job has."""
    return f"{word}-{next(_numbers)}"


@contextmanager
def raises(*kinds: type[BaseException], saying: str = "") -> Iterator[None]:
    """Demand that the block raises one of these, with these words in its message."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, kinds):
            raise AssertionError(f"raised {type(error).__name__}: {error} instead of {expected}") from error  # noqa: TRY004
        if saying not in str(error):
            raise AssertionError(f"{type(error).__name__} says {str(error)!r} without {saying!r}") from error
    else:
        raise AssertionError(f"did not raise {expected}")


def same(seen: Any, wanted: Any, what: str = "it") -> None:
    """Demand that two values are equal."""
    assert seen == wanted, f"{what} is {_short(seen)} instead of {_short(wanted)}"


def alike(seen: Any, wanted: Any) -> bool:
    """Tell whether a value came through JSON unharmed: 1 and 1.0 are one number there, 1 and true are not."""
    match wanted:
        case dict():
            return (
                isinstance(seen, dict)
                and seen.keys() == wanted.keys()
                and all(alike(seen[k], wanted[k]) for k in wanted)
            )
        case list():
            return isinstance(seen, list) and len(seen) == len(wanted) and all(map(alike, seen, wanted))
        case bool() | None:
            return seen is wanted
        case float():
            return isinstance(seen, int | float) and (float(seen) == wanted or repr(seen) == repr(wanted))
        case _:
            return bool(seen == wanted)


def came_through(seen: Mapping[str, Callable[[], Any]], wanted: Mapping[str, Any]) -> None:
    """Demand that values came through JSON unharmed, and tell of each that did not.

    Args:
        seen: by name, how to look at what came; may raise.
        wanted: by the same names, what should have come; several, where it is a tuple, are all right.
    """
    wrong = []
    for name, look in seen.items():
        right = wanted[name] if isinstance(wanted[name], tuple) else (wanted[name],)
        try:
            came = look()
        except AssertionError as error:
            wrong.append(f"{name}: {_short(str(error).strip())}")
            continue
        if not any(alike(came, each) for each in right):
            wrong.append(f"{name}: {_short(came)} instead of {_short(right[0])}")
    assert not wrong, "\n".join(wrong)


def latest(result: Any) -> Any:
    """Return a result as it stands now: read anew where the backend can, else as enqueue() returned it."""
    if api.default_task_backend.supports_get_result:
        return result.task.get_backend().get_result(result.id)
    if has_worker():
        raise NotOffered(Need.RESULTS.value)
    return result


def succeeded(result: Any) -> Any:
    """Return a result that was successful."""
    now = latest(result)
    errors = " ".join(error.traceback.strip().rpartition("\n")[2] for error in now.errors)
    assert str(now.status) == "SUCCESSFUL", f"the job is {now.status} instead of SUCCESSFUL {errors}".strip()
    return now


def failed(result: Any) -> Any:
    """Return a result that failed."""
    now = latest(result)
    assert str(now.status) == "FAILED", f"the job is {now.status} instead of FAILED"
    assert now.errors, "the job is FAILED, and errors is empty"
    return now


def eventually(fact: Callable[[], Any], timeout_s: float) -> Any:
    """Return the first true answer, or the last one when there was none in time."""
    deadline = time.monotonic() + timeout_s
    while not (answer := fact()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def ran(tag: str) -> int:
    """Return how many times the job of this tag was run."""
    return len(journal.read("ran", "began", tag=tag))


def sleep_until(moment: float) -> None:
    """Wait for a time of the wall clock."""
    time.sleep(max(0.0, moment - time.time()))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:120]}...{text[-60:]}"
