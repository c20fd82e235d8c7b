"""Tells the receivers of the task signals how a job ended, if there are any."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, NoReturn

from jobsup.compat import (
    TASKS_LOGGER,
    TaskError,
    log_task_enqueued,
    log_task_finished,
    log_task_started,
    task_enqueued,
    task_finished,
    task_started,
)
from jobsup.errors import JobsupError
from jobsup.registry import standing_at

_LOGGED = {
    task_enqueued: (id(log_task_enqueued), logging.DEBUG),
    task_started: (id(log_task_started), logging.INFO),
    task_finished: (id(log_task_finished), logging.INFO),
}
"""Django's own receiver of each signal, and the level at which it logs what went well."""

_logger = logging.getLogger(TASKS_LOGGER)


def is_heard(signal: Any) -> bool:
    """Tell whether anybody hears one of the task signals; not so Django's own receiver if what it logs goes nowhere."""
    return _logger.isEnabledFor(_LOGGED[signal][1]) or has_receivers(signal)


def has_receivers(signal: Any) -> bool:
    """Tell whether anybody but Django's own log hears one of the task signals."""
    return any(receiver[0][0] != _LOGGED[signal][0] for receiver in signal.receivers)


def tell_finished(result: Any, error: BaseException) -> None:
    """Send `task_finished` for a job that failed.

    Args:
        result: its `TaskResult`, final.
        error: why; receivers find it in `sys.exc_info()`, as Django's own do.
    """
    sender = type(result.task.get_backend())
    try:
        _raise(error)
    except BaseException:  # noqa: BLE001
        task_finished.send_robust(sender, task_result=result)


def tell_ended(result: Any) -> None:
    """Send `task_finished` for a job that was ended by no hand of its own; its last error says why."""
    tell_finished(result, exception_of(result.errors[-1]) if result.errors else JobsupError("the job failed"))


def exception_of(error: TaskError) -> BaseException:
    """Return an exception that stands for an error that is only known by its words."""
    words = error.traceback.partition("\n\n")[0]
    kind = standing_at(error.exception_class_path)  # of a row, which can have nothing imported
    if isinstance(kind, type) and issubclass(kind, BaseException):
        with suppress(Exception):  # it may want other arguments
            return kind(words)
    return JobsupError(f"{error.exception_class_path}: {words}")


def _raise(error: BaseException) -> NoReturn:
    raise error
