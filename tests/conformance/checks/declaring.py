"""Tasks before they are enqueued: the decorator, `using()`, what is refused, calls without a queue."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core import checks as system_checks
from django.test import override_settings
from django.utils import timezone
from django.utils.module_loading import import_string

from tests.conformance import api, tasks
from tests.conformance.checks import Need, NotOffered, must, raises, same, should


def _plain(context_less: int) -> None:
    """Be a function of a module."""


async def _coroutine() -> None:
    """Be a coroutine function of a module."""


class _Holder:
    """Has a method."""

    def method(self) -> None:
        """Be no function of a module."""


def _tasks_setting(**changes: Any) -> dict[str, Any]:
    return {**settings.TASKS, "default": {**settings.TASKS["default"], **changes}}


@must()
def the_decorator_makes_tasks() -> None:
    """@task and @task() make instances of Task, of the backend's own class."""
    for task in (tasks.bare, tasks.noop, tasks.tell):
        assert isinstance(task, api.Task)
        assert isinstance(task, type(task.get_backend()).task_class)


@must()
def defaults() -> None:
    """A task without options has the documented defaults."""
    task = tasks.noop
    seen = (task.priority, task.backend, task.queue_name, task.run_after, task.takes_context)
    same(seen, (0, "default", "default", None, False), "priority, backend, queue_name, run_after, takes_context")


@must()
def name_and_path() -> None:
    """`name` and `module_path` are those of the function, and lead back to the task."""
    same((tasks.noop.name, tasks.noop.module_path), ("noop", "tests.conformance.tasks.noop"))
    assert import_string(tasks.noop.module_path) is tasks.noop


@must()
def tasks_are_frozen() -> None:
    """A task cannot be changed in place."""
    with raises(dataclasses.FrozenInstanceError, AttributeError, TypeError):
        tasks.noop.priority = 1


@must()
def using_nothing() -> None:
    """using() without parameters returns an equal task that is another object."""
    copied = tasks.noop.using()
    assert copied == tasks.noop
    assert copied is not tasks.noop


@must(Need.PRIORITY)
def using_priority() -> None:
    """using(priority=…) changes the copy alone."""
    same((tasks.noop.using(priority=7).priority, tasks.noop.priority), (7, 0), "copy and original")


@must()
def using_queue_name() -> None:
    """using(queue_name=…) changes the copy alone."""
    same((tasks.noop.using(queue_name="other").queue_name, tasks.noop.queue_name), ("other", "default"))


@must(Need.DEFER)
def using_run_after() -> None:
    """using(run_after=…) changes the copy alone."""
    now = timezone.now()
    same((tasks.noop.using(run_after=now).run_after, tasks.noop.run_after), (now, None), "copy and original")


@must()
def using_backend() -> None:
    """using(backend=…) changes the copy alone, and its get_backend()."""
    copied = tasks.noop.using(backend="dummy")
    same((copied.backend, tasks.noop.backend), ("dummy", "default"), "copy and original")
    assert copied.get_backend() is api.task_backends["dummy"]


@must(Need.PRIORITY, Need.DEFER)
def using_in_a_chain() -> None:
    """using() keeps what an earlier using() set."""
    now = timezone.now()
    copied = tasks.noop.using(run_after=now).using(priority=3).using(queue_name="other")
    same((copied.run_after, copied.priority, copied.queue_name), (now, 3, "other"))


@must()
def using_an_unknown_parameter() -> None:
    """using() refuses a parameter that does not exist with a TypeError."""
    with raises(TypeError):
        tasks.noop.using(nonsense=1)


@must()
def using_an_unknown_backend() -> None:
    """using(backend=…) refuses an alias that TASKS does not have with InvalidTaskBackend."""
    with raises(api.InvalidTaskBackend):
        tasks.noop.using(backend="unknown")


@must()
def a_backend_that_cannot_be_imported() -> None:
    """A BACKEND that does not exist is refused with InvalidTaskBackend."""
    lost = {"BACKEND": "does.not.exist"}
    with override_settings(TASKS={**settings.TASKS, "lost": lost}), raises(api.InvalidTaskBackend):
        tasks.noop.using(backend="lost")


@must()
def no_backend_at_all() -> None:
    """enqueue() without any backend in TASKS raises InvalidTaskBackend."""
    with override_settings(TASKS={}), raises(api.InvalidTaskBackend):
        tasks.noop.enqueue()


@must()
def options_of_the_backend() -> None:
    """The backend knows its alias, its queues and its OPTIONS."""
    backend = api.default_task_backend
    same((backend.alias, backend.queues, backend.options), ("default", {"default", "other"}, _options()))


@must()
def backends_by_alias() -> None:
    """task_backends["default"] and default_task_backend are one and the same."""
    assert api.default_task_backend == api.task_backends["default"]


@must()
def called() -> None:
    """call() runs the function here and now, with coroutines, too."""
    same((tasks.add.call(2, 3), tasks.add_async.call(2, 3) if _async() else 5), (5, 5), "what call() returns")


@must()
def called_and_awaited() -> None:
    """acall() does the same, awaited."""
    same(async_to_sync(tasks.add.acall)(2, 3), 5, "what acall() returns")
    if _async():
        same(async_to_sync(tasks.add_async.acall)(2, 3), 5, "what acall() of a coroutine returns")


@must()
def functions_that_are_no_modules() -> None:
    """Nested functions, lambdas, methods, builtins and partials are refused with InvalidTask."""

    def nested() -> None:
        """Be no function of a module."""

    for function in (nested, lambda: None, _Holder().method, any, partial(_plain, 1)):
        with raises(api.InvalidTask, *([AttributeError, TypeError] if isinstance(function, partial) else [])):
            api.task()(function)


@must()
def context_without_a_place_for_it() -> None:
    """takes_context is refused where the first argument is not called context."""
    with raises(api.InvalidTask):
        api.task(takes_context=True)(_plain)


@must()
def unknown_queue() -> None:
    """A queue that is not in QUEUES is refused with InvalidTask, by using() and by the decorator."""
    with raises(api.InvalidTask):
        tasks.noop.using(queue_name="nowhere")
    with raises(api.InvalidTask):
        api.task(queue_name="nowhere")(_plain)


@must()
def any_queue() -> None:
    """With QUEUES = [] every queue name is accepted."""
    with override_settings(TASKS=_tasks_setting(QUEUES=[])):
        same(tasks.noop.using(queue_name="nowhere").queue_name, "nowhere", "queue_name")


@must(Need.PRIORITY)
def priorities_out_of_range() -> None:
    """Priorities beyond -100 and 100, and those that are no whole numbers, are refused with InvalidTask."""
    for priority in (-101, 101, 3.1, 10**6):
        with raises(api.InvalidTask):
            tasks.noop.using(priority=priority)
    for priority in (-100, 0, 100):
        tasks.noop.using(priority=priority)


@must()
def priorities_where_there_are_none() -> None:
    """A backend without priorities refuses a task that has one."""
    if api.default_task_backend.supports_priority:
        raise NotOffered("supports_priority is True")
    with raises(api.InvalidTask):
        tasks.noop.using(priority=1)


@must(Need.DEFER)
def naive_run_after() -> None:
    """A naive run_after is refused where USE_TZ is True, and taken where it is False."""
    naive = datetime.now()  # noqa: DTZ005  # this is what is tried
    if not settings.USE_TZ:
        same(tasks.noop.using(run_after=naive).run_after, naive, "run_after")
        return
    with raises(api.InvalidTask):
        tasks.noop.using(run_after=naive)


@must()
def run_after_where_there_is_none() -> None:
    """A backend that cannot defer refuses run_after."""
    if api.default_task_backend.supports_defer:
        raise NotOffered("supports_defer is True")
    with raises(api.InvalidTask):
        tasks.noop.using(run_after=timezone.now())


@must()
def run_after_in_the_decorator() -> None:
    """The decorator refuses run_after with a TypeError: it would be the same moment for ever."""
    with raises(TypeError):
        api.task(run_after=datetime.now(UTC) + timedelta(1))(_plain)


@must()
def coroutines() -> None:
    """A coroutine function is a task exactly where supports_async_task says so."""
    if _async():
        assert isinstance(api.task()(_coroutine), api.Task)
        return
    with raises(api.InvalidTask):
        api.task()(_coroutine)


@must(Need.PICKLE)
def pickled_tasks() -> None:
    """A task can be pickled, and comes back equal, with what using() set."""
    for task in (tasks.noop, tasks.noop.using(queue_name="other")):
        assert pickle.loads(pickle.dumps(task)) == task
    assert copy.deepcopy(tasks.noop) == tasks.noop


@must()
def clean_system_checks() -> None:
    """The backend's system checks find no error in a configuration that works, and return messages."""
    found = list(api.default_task_backend.check())
    assert all(isinstance(message, system_checks.CheckMessage) for message in found)
    errors = [str(message) for message in system_checks.run_checks() if message.level >= system_checks.ERROR]
    same(errors, [], "what the checks say")


@should()
def refusals_speak_of_the_value() -> None:
    """What is refused is named in the message."""
    with raises(Exception, saying="nowhere"):
        tasks.noop.using(queue_name="nowhere")


def _async() -> bool:
    return bool(api.default_task_backend.supports_async_task)


def _options() -> Any:
    return settings.TASKS["default"]["OPTIONS"]
