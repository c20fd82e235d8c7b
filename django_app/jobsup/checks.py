"""System checks: the settings, as `manage.py check` and every command see them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from jobsup import conf, queues
from jobsup.compat import TASKS_APPS
from jobsup.text import summary


@checks.register("jobsup")
def check_settings(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Report what is wrong with JOBSUP, TASKS and INSTALLED_APPS."""
    messages: list[checks.CheckMessage] = []
    settings = None
    try:
        settings = conf.load()
    except ImproperlyConfigured as error:
        messages.append(checks.Error(str(error), id="jobsup.E001"))
    try:
        queues.backends()
    except ImproperlyConfigured as error:
        messages.append(checks.Warning(str(error), id="jobsup.W001"))
    else:
        messages += [] if settings is None else _check_pools(settings)
    messages += [] if settings is None else _check_task_modules(settings)
    messages += [
        checks.Warning(
            f"{app!r} is not in INSTALLED_APPS: the task signals are sent but nobody logs them",
            hint=f"Add {app!r} beside 'jobsup'.",
            id="jobsup.W002",
        )
        for app in TASKS_APPS
        if not apps.is_installed(app)
    ]
    return messages


def _check_task_modules(settings: conf.Conf) -> list[checks.CheckMessage]:
    """Look for the modules of tasks, without importing them."""
    messages: list[checks.CheckMessage] = []
    for name in settings.task_modules:
        try:
            found = find_spec(name)
        except Exception as error:  # noqa: BLE001  # the package that it is in may do anything while it is imported
            why = f": {summary(error)}"
        else:
            why = ""
            if found is not None:
                continue
        messages.append(
            checks.Error(f"JOBSUP['TASK_MODULES'] names {name!r}: there is no such module{why}", id="jobsup.E003")
        )
    return messages


def _check_pools(settings: conf.Conf) -> list[checks.CheckMessage]:
    """Compare the pools with the queues that there are."""
    try:
        queues.pools(settings, None)
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="jobsup.E002")]
    return [
        checks.Warning(
            f"queue {queue!r} is named in TASKS and no pool in JOBSUP['POOLS'] serves it: its jobs would wait for ever",
            hint="Add it to the QUEUES of a pool, or have a supervisor with other settings serve it.",
            id="jobsup.W003",
        )
        for queue in queues.unserved(settings)
    ]
