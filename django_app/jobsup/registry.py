"""The tasks that a row may name: those that stand in modules which this process has imported.

A row is data. Its path is looked up among what is there already, so it can have nothing imported, and nothing called
that is no task. What is imported is said by the project: the module `tasks` of each app and of the package of its
settings, and the modules that the setting JOBSUP["TASK_MODULES"] names; each with its submodules, if it is a package.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from jobsup import conf
from jobsup.compat import Task
from jobsup.errors import TaskNotFound
from jobsup.text import summary

TASKS_MODULE = "tasks"
_LEFT_OUT = re.compile(r"__main__|conftest|tests?|test_.*|.*_test")
"""Submodules that are for a test runner, who has packages that a server may lack, or that are run and not imported."""

_flaws: dict[str, str] | None = None
"""Why modules of tasks could not be imported, by their names; None as long as nobody has tried."""


def import_tasks(failed: Callable[[BaseException], object] = lambda _error: None) -> dict[str, str]:
    """Import every module of tasks; return why some of them cannot be imported, by their names.

    Args:
        failed: told what the import of each of them raised.

    Raises:
        ImproperlyConfigured: the setting JOBSUP is wrong.
    """
    global _flaws  # noqa: PLW0603  # what is imported is the process's own, as `sys.modules` is
    flaws: dict[str, str] = {}
    for name in dict.fromkeys([*_modules_of_apps(), *conf.load().task_modules]):
        _import(name, flaws, failed)
    _flaws = flaws
    return flaws


def find_task(path: str) -> Any:
    """Return the task at a dotted path.

    A process that is no worker may not have imported the modules of tasks yet; it does so when it does not find one.

    Raises:
        TaskNotFound: there is none, or its module cannot be imported.
    """
    if (found := _task_at(path)) is not None:
        return found
    module = path.rpartition(".")[0]
    if _flaws is None:
        import_tasks()
    elif module in _flaws:  # what it lacked may be there by now, a database say
        del _flaws[module]
        _import(module, _flaws, lambda _error: None)
    if (found := _task_at(path)) is not None:
        return found
    raise TaskNotFound(f"no task {path}: {_why_not(module)}")


def standing_at(path: str) -> Any:
    """Return what stands at a dotted path in a module that is imported, None if nothing does."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), "__dict__", {}).get(name)  # a module's __getattr__ may import


def _task_at(path: str) -> Any:
    found = standing_at(path)
    return found if issubclass(type(found), Task) else None  # isinstance() would evaluate what is lazy


def _why_not(module: str) -> str:
    if not module:
        return "expected a module and a name"
    if module in (_flaws or {}):
        return f"the module {module} cannot be imported: {(_flaws or {})[module]}"
    if module in sys.modules:
        return f"no task of that name stands in the module {module}; was it renamed, or its decorator @task removed?"
    return (
        f"workers import no module {module}; have the task in the module {TASKS_MODULE} of an app, "
        'or name its module in JOBSUP["TASK_MODULES"]'
    )


def _modules_of_apps() -> Iterator[str]:
    """Yield the module `tasks` of each app and of the project that has one."""
    packages = [app.module for app in apps.get_app_configs() if app.module is not None]
    project = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    if project in sys.modules:  # the package of the settings often has tasks, and is no app
        packages.append(sys.modules[project])
    for package in packages:
        if module_has_submodule(package, TASKS_MODULE):
            yield f"{package.__name__}.{TASKS_MODULE}"


def _import(name: str, flaws: dict[str, str], failed: Callable[[BaseException], object]) -> None:
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the module may do anything while it is imported
        failed(error)
        flaws[name] = summary(error)
        return
    for each in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not _LEFT_OUT.fullmatch(each.name):
            _import(f"{name}.{each.name}", flaws, failed)
