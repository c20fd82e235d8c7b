"""Logging: which job a record belongs to, no text that steers a terminal, and a handler for projects without one."""

from __future__ import annotations

import logging
import re
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.log import RequireDebugTrue

from jobsup.compat import TASKS_LOGGER
from jobsup.text import one_line, printable, traceback_text

LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class CurrentJob(NamedTuple):
    """The job that this process is running; `task` as it stands in its row, which anybody may have written."""

    id: int
    task: str
    attempt: int


_current: CurrentJob | None = None
_LINE = re.compile(r"\n(?=\S)")


def set_current(job: CurrentJob | None) -> None:
    """Say which job the records from now on belong to."""
    global _current  # noqa: PLW0603  # a worker runs one job at a time, and its helper threads work for that one too
    _current = job


def current() -> CurrentJob | None:
    """Return the job that this process is running, None outside of jobs."""
    return _current


class JobFilter(logging.Filter):
    """Gives each record `job_id`, `job_task` and `job_attempt`; "-" outside of jobs. Lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes."""
        job = _current
        record.job_id, record.job_task, record.job_attempt = (
            ("-", "-", "-") if job is None else (job.id, one_line(job.task), job.attempt)
        )
        return True


LOGGERS = ("jobsup.supervisor", "jobsup.worker", "spawnpool", TASKS_LOGGER)
"""Who tells of jobs: their errors, and rows that anybody may have written."""


class PlainFilter(logging.Filter):
    """Has what comes from jobs and rows stand in a record as text that steers no terminal and begins no line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Make the arguments of a record plain, and the traceback that it is formatted with."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_plain, record.args))
        if record.exc_info and record.exc_info[1] is not None and record.exc_text is None:
            record.exc_text = printable(traceback_text(record.exc_info[1]))
        return True


_PLAIN = PlainFilter()


def _plain(value: Any) -> Any:
    if not isinstance(value, (str, BaseException)):
        return value
    text = str(value)
    return text if text.isprintable() else _LINE.sub("\n    ", printable(text))


def mute_unheard(name: str) -> None:
    """Spare the making of records below WARNING that no handler takes.

    With Django's own LOGGING and DEBUG off that is every one of the two that its task signals log for each job, which
    cost as much as the rest of running a job that does nothing.

    Args:
        name: of a logger whose level nobody has set.
    """
    logger: logging.Logger | None = logging.getLogger(name)
    assert logger is not None
    muted = logger
    if muted.level != logging.NOTSET:
        return
    while logger is not None:
        if any(_hears(handler) for handler in logger.handlers):
            return
        logger = logger.parent if logger.propagate else None
    muted.setLevel(logging.WARNING)


def _hears(handler: logging.Handler) -> bool:
    in_debug_only = any(isinstance(each, RequireDebugTrue) for each in handler.filters)
    return handler.level < logging.WARNING and (settings.DEBUG or not in_debug_only)


def set_up(verbosity: int) -> None:
    """Have the sentences of jobsup appear on stderr, unless the project's LOGGING takes care of them.

    Args:
        verbosity: as Django's option of that name: 0 warnings only, 1 events, 2 and 3 everything.
    """
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_PLAIN)
    logger = logging.getLogger("jobsup")
    if logger.level == logging.NOTSET:
        logger.setLevel(LEVELS[verbosity])
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
