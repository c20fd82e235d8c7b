"""System checks: the settings, as `manage.py check` and every command see them."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from jobsup import conf, queues
from jobsup.compat import TASKS_APPS


@checks.register("jobsup")
def check_settings(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Report what is wrong with JOBSUP, TASKS and INSTALLED_APPS."""
    messages: list[checks.CheckMessage] = []
    try:
        conf.load()
    except ImproperlyConfigured as error:
        messages.append(checks.Error(str(error), id="jobsup.E001"))
    try:
        queues.backends()
    except ImproperlyConfigured as error:
        messages.append(checks.Warning(str(error), id="jobsup.W001"))
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
