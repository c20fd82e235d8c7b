"""The names of `django.tasks`, from Django or from the backport `django_tasks`; untyped, as backends may be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.utils.module_loading import import_string

IN_DJANGO = find_spec("django.tasks") is not None
ROOT = "django.tasks" if IN_DJANGO else "django_tasks"

Decorator = Callable[[Callable[..., Any]], Any]

_tasks: Any = import_module(ROOT)
_base: Any = import_module(f"{ROOT}.base")
_exceptions: Any = import_module(f"{ROOT}.exceptions")
_signals: Any = import_module(f"{ROOT}.signals")

task_backends = _tasks.task_backends
default_task_backend = _tasks.default_task_backend
bare_task: Decorator = _tasks.task
Task = _base.Task
TaskContext = _base.TaskContext
TaskResult = _base.TaskResult
TaskResultStatus = _base.TaskResultStatus
InvalidTask: type[Exception] = getattr(_exceptions, "InvalidTask" if IN_DJANGO else "InvalidTaskError")
InvalidTaskBackend: type[Exception] = getattr(
    _exceptions, "InvalidTaskBackend" if IN_DJANGO else "InvalidTaskBackendError"
)
TaskResultDoesNotExist: type[Exception] = _exceptions.TaskResultDoesNotExist
TaskResultMismatch: type[Exception] = _exceptions.TaskResultMismatch
task_enqueued = _signals.task_enqueued
task_started = _signals.task_started
task_finished = _signals.task_finished


def task(**options: Any) -> Decorator:
    """Return the decorator of `django.tasks`, with a type."""
    decorator: Decorator = _tasks.task(**options)
    return decorator


def async_task(**options: Any) -> Decorator:
    """Return the decorator for a coroutine function: it stays one where the backend takes none."""
    return task(**options) if default_task_backend.supports_async_task else lambda function: function


def retried_task(function: Callable[..., Any]) -> Any:
    """Make a task that is tried again when it raises, in the backend's own way; a plain one if it named none."""
    options = json.loads(os.environ.get("CONFORMANCE_RETRY") or "{}")
    decorator = os.environ.get("CONFORMANCE_DECORATOR")
    return (import_string(decorator) if decorator else task)(**options)(function)
