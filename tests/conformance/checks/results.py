"""Results read back: by id, of which task, refreshed, with which value."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any
from uuid import uuid4

from asgiref.sync import async_to_sync
from django.db import connections

from tests.conformance import api, tasks, values
from tests.conformance.checks import (
    WORKED,
    Need,
    NotOffered,
    Steps,
    came_through,
    latest,
    must,
    raises,
    same,
    should,
    succeeded,
)


@must(Need.RESULTS)
def of_the_task() -> None:
    """task.get_result(id) and aget_result(id) return the result."""
    result = tasks.noop.enqueue()
    same([tasks.noop.get_result(result.id).id, async_to_sync(tasks.noop.aget_result)(result.id).id], [result.id] * 2)


@must(Need.RESULTS)
def of_the_backend() -> None:
    """So do those of the backend."""
    backend, result = api.default_task_backend, tasks.noop.enqueue()
    same([backend.get_result(result.id).id, async_to_sync(backend.aget_result)(result.id).id], [result.id] * 2)


@must(Need.RESULTS)
def of_another_task() -> None:
    """The id of another task's result raises TaskResultMismatch, awaited, too."""
    other = tasks.add.enqueue(1).id
    with raises(api.TaskResultMismatch):
        tasks.noop.get_result(other)
    with raises(api.TaskResultMismatch):
        async_to_sync(tasks.noop.aget_result)(other)


@must(Need.RESULTS)
def of_a_task_with_other_options() -> None:
    """using() makes no other task of it: such a result is found."""
    result = tasks.noop.using(queue_name="other").enqueue()
    same(tasks.noop.get_result(result.id).id, result.id, "id")


@must(Need.RESULTS)
def of_unknown_ids() -> None:
    """Ids of nothing raise TaskResultDoesNotExist, by task and backend, awaited, too."""
    for nothing in ("123456789", str(uuid4()), "nonsense"):
        for get in (tasks.noop.get_result, api.default_task_backend.get_result):
            with raises(api.TaskResultDoesNotExist):
                get(nothing)
        for aget in (tasks.noop.aget_result, api.default_task_backend.aget_result):
            with raises(api.TaskResultDoesNotExist):
                async_to_sync(aget)(nothing)


@should(Need.RESULTS)
def of_nonsensical_ids() -> None:
    """So do ids that can be none: empty, far too long, negative, with NUL or spaces, huge numbers."""
    odd = ("", " ", "-1", "0", "1.5", "1e3", "x" * 5000, "9" * 400, "a\0b", "🐘", "\ud800", "' OR 1=1 --", "\u0661")
    for nothing in odd:
        with raises(api.TaskResultDoesNotExist):
            api.default_task_backend.get_result(nothing)


@must()
def where_there_are_none() -> None:
    """A backend without results says NotImplementedError to get_result() and refresh()."""
    if api.default_task_backend.supports_get_result:
        raise NotOffered("supports_get_result is True")
    result = tasks.noop.enqueue()
    with raises(NotImplementedError):
        api.default_task_backend.get_result(result.id)
    with raises(NotImplementedError):
        result.refresh()


@must(Need.RESULTS)
def in_another_thread() -> None:
    """A result is found from another thread."""
    result, found = tasks.noop.enqueue(), []

    def look() -> None:
        found.append(api.default_task_backend.get_result(result.id).id)
        connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    same(found, [result.id], "what was found")


@must(Need.RESULTS, Need.WORKER)
def refreshed() -> Steps:
    """refresh() and arefresh() bring a result up to date in place."""
    one, two = tasks.add.enqueue(1), tasks.add.enqueue(2)
    one.refresh()
    same(str(one.status), "READY", "status before")
    yield WORKED
    same(str(one.status), "READY", "status without refresh")
    one.refresh()
    async_to_sync(two.arefresh)()
    for result, value in ((one, 3), (two, 4)):
        same((str(result.status), result.return_value), ("SUCCESSFUL", value), "status, return_value")
        assert result.finished_at, "finished_at is None"


@must(Need.RESULTS, Need.WORKER)
def refreshed_errors() -> Steps:
    """refresh() brings the errors of a job that failed."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    result.refresh()
    same((str(result.status), [error.exception_class for error in result.errors]), ("FAILED", [ValueError]))


@must(Need.WORKER)
def no_value_yet() -> None:
    """return_value of a job that has not finished raises ValueError."""
    result = tasks.add.enqueue(1)
    with raises(ValueError, saying="not finished"):
        result.return_value  # noqa: B018


@must()
def no_value_of_a_failure() -> Steps:
    """return_value of a job that failed raises ValueError."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    now = latest(result)
    with raises(ValueError, saying="failed"):
        now.return_value  # noqa: B018


@must()
def is_finished() -> Steps:
    """is_finished is True for success and failure."""
    results = [tasks.noop.enqueue(), tasks.fail.enqueue("ValueError")]
    yield WORKED
    same([latest(result).is_finished for result in results], [True, True], "is_finished")


@must()
def of_nothing() -> Steps:
    """The value of a task that returns nothing is None."""
    result = tasks.noop.enqueue()
    yield WORKED
    assert succeeded(result).return_value is None


def _returned(result: Any) -> Any:
    return succeeded(result).return_value


@must()
def plain_values() -> Steps:
    """What JSON knows is returned as it is."""
    results = {name: tasks.give_plain.enqueue(name) for name in values.PLAIN}
    yield WORKED
    came_through({name: partial(_returned, result) for name, result in results.items()}, values.PLAIN)


@must()
def tuples() -> Steps:
    """A tuple is returned as a list."""
    result = tasks.give.enqueue("tuple")
    yield WORKED
    came_through({"tuple": partial(_returned, result)}, values.PLAIN_FORM)


@should()
def normalised_values() -> Steps:
    """Bytes, ranges, mappings and the like are returned as text, lists and dicts, as arguments are."""
    results = {name: tasks.give.enqueue(name) for name in values.NORMALISED}
    yield WORKED
    came_through({name: partial(_returned, result) for name, result in results.items()}, values.PLAIN_FORM)


@must()
def keep_task_and_backend() -> Steps:
    """A finished result still tells its task, backend and id."""
    result = tasks.add.enqueue(1)
    yield WORKED
    now = succeeded(result)
    same((now.id, now.backend, now.task.module_path), (result.id, "default", tasks.add.module_path))
    assert now.task == tasks.add


@should(Need.RESULTS)
def values_are_ones_own() -> Steps:
    """Whoever changes a value that was read does not change what others read."""
    result = tasks.echo.enqueue([1])
    yield WORKED
    now: Any = succeeded(result)
    now.return_value["args"].append("mine")
    same(succeeded(result).return_value, {"args": [[1]], "kwargs": {}}, "what the next one reads")
