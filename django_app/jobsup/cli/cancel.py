"""`jobs cancel`: at once what waits; what runs is asked to end, then interrupted, then ended."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup.cli.acting import add_acting, batches, meant
from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.filters import WRONG_USAGE, seconds
from jobsup.cli.screen import jobs as so_many
from jobsup.models import Status
from jobsup.queries import OPEN, Filters
from jobsup.untold import tell_at_commit

LOOK_S = 0.2
"""How often `--wait` looks whether the jobs have ended."""


def _declare(parser: CommandParser) -> None:
    add_acting(parser)
    parser.add_argument("--wait", action="store_true", help="wait until they have ended")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long --wait waits (for ever)")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    if options["timeout"] is not None and not options["wait"]:
        raise CommandError("--timeout is for --wait: leave it out, or add --wait", returncode=WRONG_USAGE)
    filters = meant(options, OPEN, "cancel")
    statuses: dict[int, Status] = {}
    for batch in batches(desk, filters, options, "cancel"):
        statuses |= desk.store.cancel(batch)
        tell_at_commit(desk.store, [pk for pk in batch if statuses.get(pk) is Status.CANCELLED])
    before = {pk for pk, status in statuses.items() if status not in (*OPEN, Status.CANCELLED)}
    if options["wait"]:
        statuses |= _ended(desk, [pk for pk, status in statuses.items() if status in OPEN], options["timeout"])
    _tell(desk, filters, statuses, before)
    if filters.names_ids_only() and (missing := [pk for pk in filters.ids if pk not in statuses]):
        raise CommandError(f"there is no job {', '.join(map(str, missing))}")
    if options["wait"] and (late := [pk for pk, status in statuses.items() if status in OPEN]):
        raise CommandError(f"not ended after {options['timeout']:g} s: job {', '.join(map(str, late))}")
    return DONE


def _ended(desk: Desk, pks: list[int], timeout_s: float | None) -> dict[int, Status]:
    """Wait until jobs have ended, or the time is over; return their statuses."""
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    statuses = desk.store.statuses(pks)
    while any(status in OPEN for status in statuses.values()):
        if give_up_at is not None and time.monotonic() >= give_up_at:
            break
        time.sleep(LOOK_S)
        statuses |= desk.store.statuses([pk for pk, status in statuses.items() if status in OPEN])
    return statuses


def _tell(desk: Desk, filters: Filters, statuses: dict[int, Status], before: set[int]) -> None:
    if desk.screen.as_json:
        desk.screen.json({pk: status.label for pk, status in statuses.items()})
    elif filters.names_ids_only():
        for pk in filters.ids:
            desk.screen.say(f"job {pk}: {_words(statuses.get(pk), before=pk in before)}")
    else:
        running = sum(status is Status.RUNNING for status in statuses.values())
        cancelled = sum(status is Status.CANCELLED for status in statuses.values())
        asked = f", {so_many(running)} asked to end" if running else ""
        desk.screen.say(f"{so_many(cancelled)} cancelled{asked}")


def _words(status: Status | None, *, before: bool) -> str:
    match status:
        case None:
            return "there is no such job"
        case Status.RUNNING:
            return "is running and will be ended"
        case Status.CANCELLED:
            return "cancelled"
        case _:
            return f"{'had ended before' if before else 'ended meanwhile'}: {status.label}"


CANCEL = Action("cancel", "cancel jobs", _declare, _run, "no longer waiting; what was asked for goes on")
