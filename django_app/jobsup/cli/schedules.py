"""`jobs schedules`: what is enqueued again and again, and when next."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser

from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.filters import count
from jobsup.cli.screen import Column, moment
from jobsup.schedules.overview import Shown, overview

NEXT = 3
RUNS_MAX = 1000
COLUMNS = (
    Column("NAME"),
    Column("TASK"),
    Column("WHEN", whole=True),
    Column("LAST", whole=True),
    Column("NEXT", whole=True),
    Column("REMARKS"),
)


def _declare(parser: CommandParser) -> None:
    parser.add_argument("--next", type=runs, default=NEXT, metavar="N", help=f"the next N runs of each ({NEXT})")


def runs(text: str) -> int:
    """Return how many runs are wanted; so many that nobody waits long for the list."""
    if (value := count(text)) > RUNS_MAX:
        raise ArgumentTypeError(f"{text} is too many: at most {RUNS_MAX}")
    return value


def _run(desk: Desk, options: dict[str, Any]) -> int:
    found = overview(desk.store, count=options["next"])
    if desk.screen.as_json:
        for each in found:
            desk.screen.json(each._asdict())
    elif found:
        desk.screen.table(COLUMNS, [row for each in found for row in _rows(each)])
    else:
        desk.screen.say("there are no schedules")
    return DONE


def _rows(each: Shown) -> list[tuple[str, ...]]:
    """Return a row for the schedule, and one more for each further run."""
    when = f"{each.rhythm} {each.timezone}".strip()
    remarks = each.trouble or ("" if each.enabled else "not in use")
    first, *others = [moment(at) for at in each.next_at] or [""]
    return [
        (each.name, each.task, when, moment(each.last_at), first, remarks),
        *[("", "", "", "", other, "") for other in others],
    ]


SCHEDULES = Action("schedules", "list the schedules and their next runs", _declare, _run)
