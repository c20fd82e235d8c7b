"""The options that say which jobs are meant, the same for every action."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup.models import Status
from jobsup.queries import Filters
from jobsup.text import bounded

WRONG_USAGE = 2
"""The exit code for it, as argparse has it."""
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw]?)")
_STATUSES = {status.label: status for status in Status}


def add_filters(parser: CommandParser, *, limit: str | None = None, statuses: bool = True) -> None:
    """Declare the filters.

    Args:
        parser: where.
        limit: what --limit means there; None for no such option.
        statuses: whether --status makes sense.
    """
    group = parser.add_argument_group("which jobs")
    group.add_argument("ids", nargs="*", type=job_id, metavar="ID", help="these; all other filters hold besides")
    group.add_argument(
        "--task",
        type=utf8,
        metavar="PATH",
        help="of this task, or of all in this module; with * and ? a pattern: '*.send'",
    )
    group.add_argument(
        "--queue",
        type=utf8,
        action="append",
        default=[],
        metavar="NAME",
        dest="queues",
        help="in this queue; several times: any",
    )
    if statuses:
        group.add_argument(
            "--status", action="append", default=[], choices=tuple(_STATUSES), dest="statuses",
            help="in this status; several times: any",
        )  # fmt: skip
    group.add_argument("--older", type=age, metavar="AGE", help="at least so old: 90s, 5m, 2h, 3d, 1w")
    group.add_argument("--newer", type=age, metavar="AGE", help="at most so old")
    group.add_argument(
        "--error", type=utf8, metavar="TEXT", help="with this text in the class or traceback of the latest error"
    )
    if limit is not None:
        group.add_argument("--limit", type=count, metavar="N", help=limit)


def chosen(options: dict[str, Any]) -> Filters:
    """Return what the options say.

    Raises:
        CommandError: two of them leave nothing.
    """
    older_s, newer_s = options["older"], options["newer"]
    if older_s is not None and newer_s is not None and older_s > newer_s:
        raise CommandError("--older is more than --newer: no job is both", returncode=WRONG_USAGE)
    return Filters(
        ids=tuple(dict.fromkeys(options["ids"])),
        task=options["task"],
        queues=tuple(options["queues"]),
        statuses=tuple(_STATUSES[label] for label in options.get("statuses", ())),
        older_s=older_s,
        newer_s=newer_s,
        error=options["error"],
    )


def job_id(text: str) -> int:
    """Return the id of a job."""
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no id of a job: expected a number") from None


def utf8(text: str) -> str:
    """Return a text that the database can take; bytes that are no UTF-8 come from the shell as lone surrogates."""
    if bounded(text, len(text)) != text:
        raise ArgumentTypeError(f"{text!r} is no UTF-8")
    return text


def age(text: str) -> float:
    """Return the seconds of an age such as 90s, 5m, 2h, 3d or 1w."""
    if not (found := _AGE.fullmatch(text)):
        raise ArgumentTypeError(f"{text!r} is no age: expected such as 90s, 5m, 2h, 3d or 1w")
    return float(found[1]) * UNITS_S[found[2]]


def seconds(text: str) -> float:
    """Return the seconds that an option says."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """Return a number of jobs, at least one."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
