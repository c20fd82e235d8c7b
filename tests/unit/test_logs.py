"""Logging: records know their job; the project's own configuration is left alone."""

from __future__ import annotations

import logging
import sys

import pytest

from jobsup import logs


@pytest.fixture
def logger() -> logging.Logger:
    """A logger as nobody has configured it, below a root of its own."""
    found = logging.Logger("jobsup", logging.NOTSET)  # noqa: LOG001  # the real one has pytest's handlers above it
    found.parent = logging.Logger("root")  # noqa: LOG001
    return found


def set_up(logger: logging.Logger, verbosity: int) -> None:
    """Set logging up with this logger instead of the real one, which pytest listens to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "getLogger", lambda name: logger)
        logs.set_up(verbosity)


def marked() -> logging.LogRecord:
    """Return a record that has gone through the filter."""
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "text", None, None)
    assert logs.JobFilter().filter(record)
    return record


def test_p12_no_record_steers_a_terminal_or_begins_a_line_of_its_own() -> None:
    """Neither by what it tells of a job or a row, nor by the traceback below it."""
    hostile = "\x1b[2J\r\u202e\n2026-01-01 INFO stopped\n  a stack"
    try:
        raise ValueError(hostile)  # noqa: TRY301  # that is all it is to do
    except ValueError:
        record = logging.LogRecord(
            "any", 40, __file__, 1, "job %d %s: %s", (7, hostile, sys.exc_info()[1]), sys.exc_info()
        )
    assert logs.PlainFilter().filter(record)
    text = logging.Formatter("%(message)s").format(record)
    assert all(char.isprintable() or char == "\n" for char in text)
    told, _, stack = text.partition("Traceback")
    assert "ValueError" in stack
    assert told.splitlines()[:3] == [
        r"job 7 \x1b[2J\r\u202e",
        "    2026-01-01 INFO stopped",
        r"  a stack: \x1b[2J\r\u202e",
    ]


def test_p12_a_job_s_name_steers_no_terminal_either() -> None:
    """A row may say anything."""
    logs.set_current(logs.CurrentJob(7, "demo\n\x1b", 2))
    try:
        assert marked().job_task == r"demo\n\x1b"  # type: ignore[attr-defined]
    finally:
        logs.set_current(None)


def test_a_record_names_the_job_that_it_belongs_to() -> None:
    """Id, task and attempt while a job runs; a dash outside, so that formats need no condition."""
    logs.set_current(logs.CurrentJob(7, "demo.analyse", 2))
    try:
        record = marked()
        assert logs.current() == (7, "demo.analyse", 2)
    finally:
        logs.set_current(None)
    assert (record.job_id, record.job_task, record.job_attempt) == (7, "demo.analyse", 2)  # type: ignore[attr-defined]
    outside = marked()
    assert (outside.job_id, outside.job_task, outside.job_attempt) == ("-", "-", "-")  # type: ignore[attr-defined]
    assert logs.current() is None


@pytest.mark.parametrize(("verbosity", "level"), [(0, "WARNING"), (1, "INFO"), (2, "DEBUG"), (3, "DEBUG")])
def test_verbosity_is_djangos(logger: logging.Logger, verbosity: int, level: str) -> None:
    """Warnings, events, everything; on stderr, with one handler however often it is set up."""
    set_up(logger, verbosity)
    set_up(logger, verbosity)
    assert logging.getLevelName(logger.level) == level
    [handler] = logger.handlers
    assert isinstance(handler, logging.StreamHandler)


def test_the_projects_logging_is_left_alone(logger: logging.Logger) -> None:
    """A level or a handler that is there stays the only one."""
    logger.setLevel(logging.ERROR)
    logger.addHandler(handler := logging.NullHandler())
    set_up(logger, 2)
    assert logger.level == logging.ERROR
    assert logger.handlers == [handler]


def test_a_handler_above_is_enough(logger: logging.Logger) -> None:
    """A project that handles everything at the root, gets no second copy."""
    assert logger.parent is not None
    logger.parent.addHandler(logging.NullHandler())
    set_up(logger, 1)
    assert logger.handlers == []
