"""Logging: which job a record belongs to, and a plain handler for projects that configure none."""

from __future__ import annotations

import logging
from typing import NamedTuple

LEVELS = {0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}
FORMAT = "%(asctime)s %(levelname)s %(message)s"


class CurrentJob(NamedTuple):
    """The job that this process is running."""

    id: int
    task: str
    attempt: int


_current: CurrentJob | None = None


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
        record.job_id, record.job_task, record.job_attempt = ("-", "-", "-") if job is None else job
        return True


def set_up(verbosity: int) -> None:
    """Have the sentences of jobsup appear on stderr, unless the project's LOGGING takes care of them.

    Args:
        verbosity: as Django's option of that name: 0 warnings only, 1 events, 2 and 3 everything.
    """
    logger = logging.getLogger("jobsup")
    if logger.level == logging.NOTSET:
        logger.setLevel(LEVELS[verbosity])
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(FORMAT))
        logger.addHandler(handler)
