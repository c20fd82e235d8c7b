"""`jobs wait`: until jobs have ended; the exit code says how."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobsup.backend import pk_of
from jobsup.cli.desk import DONE, FAILED, TIMED_OUT, Action, Desk
from jobsup.cli.filters import add_filters, chosen, seconds
from jobsup.cli.screen import jobs as so_many
from jobsup.models import Status
from jobsup.queries import COUNTED_MAX, OPEN, Filters, matching

LOOK_S = 0.2
"""How often it is looked whether named jobs have ended."""
SEARCH_S = 1.0
"""The same for jobs that a filter finds."""
NOT_WELL = (Status.FAILED, Status.CANCELLED)


def _declare(parser: CommandParser) -> None:
    add_filters(parser, statuses=False)
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long to wait (for ever)")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    filters = chosen(options)
    return _named(desk, filters, options) if filters.names_ids_only() else _found(desk, filters, options)


def _named(desk: Desk, filters: Filters, options: dict[str, Any]) -> int:
    pks = [pk for pk in filters.ids if pk_of(pk) is not None]
    statuses = desk.store.statuses(pks)
    if missing := [pk for pk in filters.ids if pk not in statuses]:
        raise CommandError(f"there is no job {', '.join(map(str, missing))}", returncode=FAILED)

    def left() -> int:
        still = [pk for pk, status in statuses.items() if status in OPEN]
        statuses.update(desk.store.statuses(still))
        return sum(status in OPEN for status in statuses.values())

    late = until_none(desk, left, options["timeout"], LOOK_S)
    if desk.screen.as_json:
        desk.screen.json({pk: status.label for pk, status in statuses.items()})
    else:
        for pk in filters.ids:
            desk.screen.say(f"job {pk}: {statuses[pk].label}")
    if late:
        raise CommandError(f"{so_many(late)} not ended after {options['timeout']:g} s", returncode=TIMED_OUT)
    return FAILED if any(status in NOT_WELL for status in statuses.values()) else DONE


def _found(desk: Desk, filters: Filters, options: dict[str, Any]) -> int:
    """Wait until no open job matches; without a filter, scheduled ones that were never tried are not waited for."""
    since = desk.store.sql.now()
    jobs = matching(desk.store, filters)

    def left() -> int:
        if not filters and desk.store.is_empty(None):
            return 0
        # One by one: each status has an index of its own, and all three together have none.
        found = [jobs.filter(status=status) for status in (Status.READY, Status.RUNNING)]
        scheduled = jobs.filter(status=Status.SCHEDULED)
        found.append(scheduled if filters else scheduled.filter(attempt__gt=0))
        return sum(some[:COUNTED_MAX].count() for some in found)

    late = until_none(desk, left, options["timeout"], SEARCH_S)
    failed = jobs.filter(status__in=NOT_WELL, finished_at__gte=since)[:COUNTED_MAX].count()
    if desk.screen.as_json:
        desk.screen.json({"open": late, "failed_meanwhile": failed})
    elif not late:
        desk.screen.say("all have ended" + (f", {so_many(failed)} not well" if failed else ""))
    if late:
        raise CommandError(f"{so_many(late)} not ended after {options['timeout']:g} s", returncode=TIMED_OUT)
    return FAILED if failed else DONE


def until_none(desk: Desk, left: Callable[[], int], timeout_s: float | None, look_s: float) -> int:
    """Look again and again until nothing is left or the time is over; return how many are left.

    Args:
        desk: whose terminal shows a bar meanwhile.
        left: how many there are.
        timeout_s: for how long, in seconds; None for ever.
        look_s: between two looks, in seconds.
    """
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    number = most = left()
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    hidden = not desk.screen.is_terminal or desk.screen.as_json
    with Progress(*columns, console=desk.screen.console, transient=True, disable=hidden) as progress:
        bar = progress.add_task("ended", total=most)
        while number and (give_up_at is None or time.monotonic() < give_up_at):
            time.sleep(look_s)
            number = left()
            most = max(most, number)
            progress.update(bar, total=most, completed=most - number)
    return number


WAIT = Action("wait", "wait until jobs have ended", _declare, _run, "no longer waiting; the jobs go on")
