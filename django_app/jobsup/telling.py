"""Tells the receivers of `task_finished` how a job ended that did not succeed."""

from __future__ import annotations

from typing import Any, NoReturn

from jobsup.compat import TaskError, task_finished
from jobsup.errors import JobsupError


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
    try:
        made = error.exception_class(words)
    except Exception:  # noqa: BLE001  # its class is gone, or wants other arguments
        made = None
    return made if isinstance(made, BaseException) else JobsupError(f"{error.exception_class_path}: {words}")


def _raise(error: BaseException) -> NoReturn:
    raise error
