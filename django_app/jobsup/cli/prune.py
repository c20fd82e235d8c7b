"""`jobs prune`: jobs that ended long ago are removed, with all that is told of them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.progress import Progress, SpinnerColumn, TextColumn

from jobsup import changes, retention
from jobsup.cli.acting import add_acting
from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.filters import WRONG_USAGE, chosen
from jobsup.cli.screen import jobs as so_many
from jobsup.queries import ENDED, Filters, keys, matching, tally


def _declare(parser: CommandParser) -> None:
    add_acting(parser)
    parser.add_argument("--dry-run", action="store_true", help="say how many, and remove none")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    filters = chosen(options)
    if open_ones := [status.label for status in filters.statuses if status not in ENDED]:
        raise CommandError(
            f"only jobs that have ended are removed: leave out --status {open_ones[0]}", returncode=WRONG_USAGE
        )
    if not filters and options["limit"] is None:
        return _by_setting(desk, options)
    return _by_filter(desk, filters, options)


def _by_setting(desk: Desk, options: dict[str, Any]) -> int:
    """Do at once what the supervisors do bit by bit."""
    keep = desk.settings.keep
    if options["dry_run"] or not options["yes"]:
        count = retention.prune(desk.store, keep, look=True)
        if options["dry_run"] or not count:
            return _tell(desk, count, removed=False)
        desk.screen.confirm(f"remove {so_many(count)} whose time is over", yes=False)
    hidden = not desk.screen.is_terminal or desk.screen.as_json
    columns = SpinnerColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=desk.screen.console, transient=True, disable=hidden) as progress:
        bar = progress.add_task("removing", total=None)

        def told(seen: int, gone: int) -> None:
            progress.update(bar, description=f"{gone:,} removed, {seen:,} seen")

        return _tell(desk, retention.prune(desk.store, keep, told=told), removed=True)


def _by_filter(desk: Desk, filters: Filters, options: dict[str, Any]) -> int:
    ended = filters if filters.statuses else filters.of(ENDED)
    jobs = matching(desk.store, ended, age_of="finished_at")
    if options["dry_run"] or not options["yes"]:
        found = tally(jobs, options["limit"])
        if options["dry_run"] or not found.count:
            return _tell(desk, found.count, more=found.more, removed=False)
        groups = ", ".join(f"{count:,} {status.label}" for status, count in found.by_status().items())
        desk.screen.confirm(f"remove {so_many(found.count, more=found.more)} ({groups})", yes=False)
    gone = sum(changes.remove(desk.store, batch) for batch in keys(jobs, options["limit"]))
    return _tell(desk, gone, removed=True)


def _tell(desk: Desk, count: int, *, removed: bool, more: bool = False) -> int:
    if desk.screen.as_json:
        desk.screen.json({"removed": count if removed else 0, "would_remove": 0 if removed else count, "more": more})
    else:
        desk.screen.say(f"{so_many(count, more=more)} {'removed' if removed else 'to be removed'}")
    return DONE


PRUNE = Action("prune", "remove jobs that ended long ago", _declare, _run, "interrupted; what was removed is gone")
