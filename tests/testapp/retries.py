"""Jobs that are tried again, each by its own rule."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsup import Backoff, Discard, Retry, Snooze, task

from .traces import leave_trace

if TYPE_CHECKING:
    from typing import NoReturn

    from jobsup.compat import TaskContext

SHORT_S = 0.1


class Busy(ConnectionError):
    """Goes by more than one name."""


Overloaded = Busy


class Fatal(Exception):
    """Will not get better."""


ERRORS: dict[str, type[Exception]] = {"busy": Busy, "fatal": Fatal, "value": ValueError}


def by_attempt(error: BaseException, task_result: Any) -> float | None:
    """Have a few more attempts, and none after a fatal error."""
    return None if isinstance(error, Fatal) else task_result.attempts / 10


def nonsense(_error: BaseException, _task_result: Any) -> Any:
    """Be of no use."""
    return "soon"


def _raise_until(context: TaskContext[Any, Any], attempt: int, name: str) -> int:
    leave_trace(context)
    if context.attempt < attempt:
        raise ERRORS[name](f"attempt {context.attempt}")
    return context.attempt


@task(takes_context=True)
def plain(context: TaskContext[Any, Any], attempt: int, name: str = "value") -> int:
    """Fail until an attempt; return its number. What it declares is up to who enqueues it."""
    return _raise_until(context, attempt, name)


ASKED = [plain.using(backoff=function) for function in (by_attempt, nonsense)]
"""What `using` names elsewhere is declared here, where workers see it."""


@task(takes_context=True, max_attempts=4, backoff=Backoff(base=SHORT_S, factor=1.5, max=1, jitter=0.5))
def growing(context: TaskContext[Any, Any], attempt: int, name: str = "value") -> int:
    """Declare delays that grow."""
    return _raise_until(context, attempt, name)


@task(takes_context=True, max_attempts=4, backoff=lambda error, _result: None if "3" in str(error) else SHORT_S)
def by_lambda(context: TaskContext[Any, Any], attempt: int, name: str = "value") -> int:
    """Declare a function that has no name, and that gives up after the third attempt."""
    return _raise_until(context, attempt, name)


@task(
    takes_context=True, max_attempts=3, backoff=SHORT_S, retry_on=(ConnectionError, "tests.testapp.retries.Overloaded")
)
def choosy(context: TaskContext[Any, Any], attempt: int, name: str = "value") -> int:
    """Declare what is worth another attempt."""
    return _raise_until(context, attempt, name)


@task(takes_context=True, max_attempts=3, backoff=SHORT_S, discard_on=Fatal)
def resigned(context: TaskContext[Any, Any], attempt: int, name: str = "value") -> int:
    """Declare what is not."""
    return _raise_until(context, attempt, name)


@task(takes_context=True)
def ask_again(context: TaskContext[Any, Any], attempt: int) -> int:
    """Ask to be tried again until an attempt; declare nothing."""
    try:
        return _raise_until(context, attempt, "busy")
    except Busy as error:
        raise Retry(after=SHORT_S) from error


@task(takes_context=True, max_attempts=1)
def snooze(context: TaskContext[Any, Any], place: str, times: int) -> list[int]:
    """Run later so many times, although one attempt is all there is; return what is told of attempts at last."""
    leave_trace(context)
    with Path(place).open("a+") as file:
        file.write(".")
        if file.tell() <= times:
            raise Snooze(SHORT_S)
    return [context.attempt, len(context.task_result.errors)]


def _discard() -> NoReturn:
    raise Discard("the order is gone")


@task(takes_context=True, max_attempts=5)
def give_up(context: TaskContext[Any, Any]) -> None:
    """See that it is of no use, through every `except Exception`."""
    leave_trace(context)
    try:
        _discard()
    except Exception:  # noqa: BLE001  # that is to be shown
        leave_trace(context)


@task(takes_context=True)
def die_until(context: TaskContext[Any, Any], attempt: int) -> int:
    """Die by a signal until an attempt; return its number."""
    leave_trace(context)
    if context.attempt < attempt:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@task(takes_context=True)
def die_twice_over(context: TaskContext[Any, Any]) -> None:
    """Die, and have those die who are told of it."""
    leave_trace(context)
    os.kill(os.getpid(), signal.SIGKILL)


@task(takes_context=True)
def hang(context: TaskContext[Any, Any]) -> None:
    """Go on for ever, whatever comes."""
    leave_trace(context)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001  # that is the fault
            continue
