"""`jobs priority`: jobs that wait get another priority."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup import changes
from jobsup.cli.acting import act, add_acting, batches, meant, refuse_missing
from jobsup.cli.desk import DONE, FAILED, Action, Desk
from jobsup.cli.screen import jobs as so_many
from jobsup.queries import OPEN

LOWEST, HIGHEST = -100, 100
"""As django.tasks has it."""


def level(text: str) -> int:
    """Return a priority."""
    value = int(text)
    if not LOWEST <= value <= HIGHEST:
        raise ValueError(text)
    return value


level.__name__ = "priority"  # argparse says "invalid priority value"


def _declare(parser: CommandParser) -> None:
    parser.add_argument("priority", type=level, metavar="PRIORITY", help="-100 (last) to 100 (first)")
    add_acting(parser)


def _run(desk: Desk, options: dict[str, Any]) -> int:
    filters, priority = meant(options, OPEN, "priority"), options["priority"]

    def change(batch: list[int]) -> list[int]:
        return changes.reprioritise(desk.store, batch, priority)

    asked, done = act(batches(desk, filters, options, f"give priority {priority} to"), change)
    if desk.screen.as_json:
        desk.screen.json({"priority": priority, "changed": done})
    else:
        desk.screen.say(f"{so_many(len(done))} of priority {priority} now")
    if filters.names_ids_only():
        refuse_missing(filters, list(desk.store.statuses(asked)))
        if ended := [pk for pk in asked if pk not in done]:
            raise CommandError(f"ended before: job {', '.join(map(str, ended))}", returncode=FAILED)
    return DONE


PRIORITY = Action("priority", "change the priority of jobs that have not ended", _declare, _run)
