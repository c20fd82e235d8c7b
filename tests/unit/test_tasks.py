"""The decorator and the task class."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from jobsup import task
from jobsup.backend import JobsupBackend
from jobsup.compat import InvalidTask, Task, TaskContext
from jobsup.options import OPTIONS
from jobsup.task import JobsupTask

WHEN = datetime(2100, 1, 1, tzinfo=UTC)


def plain(number: int = 0) -> int:
    """Return one more."""
    return number + 1


async def coroutine() -> int:
    """Return from a coroutine."""
    return 5


def with_context(context: TaskContext[Any, Any], number: int) -> int:
    """Ask for the context."""
    return number


bare = task(plain)


def test_with_and_without_parentheses() -> None:
    """Both make a task with the same defaults, which is called by its function's name."""
    assert bare == task()(plain)
    assert isinstance(bare, JobsupTask)
    assert (bare.name, bare.module_path) == ("plain", f"{__name__}.plain")
    assert (bare.priority, bare.queue_name, bare.backend, bare.run_after) == (0, "default", "default", None)
    assert (bare.takes_context, bare.max_attempts) == (False, None)


def test_every_option_is_kept() -> None:
    """What the decorator takes stands on the task."""
    made = task(priority=-3, queue_name="slow", takes_context=True, max_attempts=7)(with_context)
    assert (made.priority, made.queue_name, made.takes_context, made.max_attempts) == (-3, "slow", True, 7)


def test_a_task_can_be_called_like_its_function() -> None:
    """Sync and async ones, here and now."""
    assert bare.call(1) == 2
    assert task(coroutine).call() == 5


def test_a_task_cannot_be_changed() -> None:
    """using() makes another one."""
    with pytest.raises(FrozenInstanceError):
        bare.priority = 1  # type: ignore[misc]
    changed = bare.using(priority=1, queue_name="other", run_after=WHEN, max_attempts=2)
    assert (changed.priority, changed.queue_name, changed.run_after, changed.max_attempts) == (1, "other", WHEN, 2)
    assert changed.func is bare.func
    assert bare.using() == bare


def test_unknown_options_are_told_with_those_that_there_are() -> None:
    """All of them, sorted, before anything is made."""
    wrong: Any = task
    with pytest.raises(TypeError) as refused:
        wrong(plain, retries=1, delay=2)
    known = ", ".join(["priority, queue_name, backend, takes_context", *sorted(OPTIONS)])
    assert str(refused.value) == f"@task has no option delay, retries; it has {known}"
    with pytest.raises(TypeError, match="run_after"):
        wrong(run_after=WHEN)
    assert set(OPTIONS) == {field.name for field in fields(JobsupTask)} - {field.name for field in fields(Task)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"priority": 101}, "priority"),
        ({"queue_name": "nowhere"}, "nowhere"),
        ({"max_attempts": 0}, "max_attempts is 0: expected a whole number from 1 to 1000"),
        ({"max_attempts": 1001}, "max_attempts is 1001"),
        ({"takes_context": True}, "context"),
    ],
)
def test_wrong_options_are_refused_where_the_task_is_declared(options: dict[str, Any], words: str) -> None:
    """Not first when somebody enqueues it."""
    with pytest.raises(InvalidTask, match=words):
        task(**options)(plain)


@pytest.mark.parametrize("moment", ["tomorrow", 5, timedelta(seconds=5), date(2026, 1, 5)])
def test_what_is_no_moment_is_refused(moment: Any) -> None:
    """A time span is easily taken for one."""
    with pytest.raises(InvalidTask, match=r"run_after is .*: expected a datetime"):
        task(plain).using(run_after=moment)


def test_a_path_that_no_row_can_hold_is_refused() -> None:
    """The column takes 255 characters."""
    name = "f" * 260
    scope: dict[str, Any] = {"__name__": __name__}
    exec(f"def {name}(): pass", scope)  # no other way to a name this long
    with pytest.raises(InvalidTask, match="longer than 255 characters"):
        task(scope[name])


def test_a_backend_knows_its_task_class() -> None:
    """So that django.tasks' own decorator makes tasks with these options too."""
    assert JobsupBackend.task_class is JobsupTask
