"""What the actions on many jobs have in common: which are meant, the question before, the batches, the account."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from jobsup.backend import pk_of
from jobsup.cli.desk import Desk
from jobsup.cli.filters import WRONG_USAGE, add_filters, chosen
from jobsup.cli.screen import jobs as so_many
from jobsup.models import Job, Status
from jobsup.queries import BATCH, Filters, keys, matching, tally

GROUPS_SHOWN = 5
LIMIT_HELP = "at most so many, the oldest first"


def add_acting(parser: CommandParser) -> None:
    """Declare the filters and --yes."""
    add_filters(parser, limit=LIMIT_HELP)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def meant(options: dict[str, Any], statuses: Sequence[Status], what: str) -> Filters:
    """Return the filters of an action that changes jobs.

    Args:
        options: the command's.
        statuses: which the action is for, unless --status says it.
        what: the action, for the error.

    Raises:
        CommandError: no filter was given: nobody means every job by saying nothing.
    """
    filters = chosen(options)
    if not filters:
        raise CommandError(
            f"{what} needs ids or a filter, such as --queue NAME; to mean all, say their --status",
            returncode=WRONG_USAGE,
        )
    if filters.names_ids_only() or filters.statuses:
        return filters
    return filters.of(statuses)


def batches(desk: Desk, filters: Filters, options: dict[str, Any], what: str) -> Iterator[list[int]]:
    """Yield the keys of the jobs that are meant; where they were not named one by one, ask first.

    Args:
        desk: the desk.
        filters: which.
        options: with `yes` and `limit`.
        what: what is going to be done to them, such as "cancel".
    """
    if filters.names_ids_only():
        known = [pk for pk in filters.ids if pk_of(pk) is not None][: options["limit"]]
        yield from (known[start : start + BATCH] for start in range(0, len(known), BATCH))
        return
    jobs = matching(desk.store, filters)
    if not options["yes"]:
        if not (question := _question(jobs, options["limit"], what)):
            return
        desk.screen.confirm(question, yes=False)
    yield from keys(jobs, options["limit"])


def act(found: Iterator[list[int]], action: Callable[[list[int]], Sequence[int]]) -> tuple[list[int], list[int]]:
    """Do something batch by batch; return the keys that were meant and those that it was done to."""
    asked: list[int] = []
    done: list[int] = []
    for batch in found:
        asked += batch
        done += action(batch)
    return asked, done


def refuse_missing(filters: Filters, existing: Sequence[int]) -> None:
    """Say which of the jobs that were named do not exist.

    Raises:
        CommandError: some do not.
    """
    there = set(existing)
    if filters.names_ids_only() and (missing := [pk for pk in filters.ids if pk not in there]):
        raise CommandError(f"there is no job {', '.join(map(str, missing))}")


def _question(jobs: QuerySet[Job], limit: int | None, what: str) -> str:
    found = tally(jobs, limit)
    if not found.count:
        return ""
    groups = [f"{count:,} x {task} ({status.label})" for task, status, count in found.groups[:GROUPS_SHOWN]]
    if len(found.groups) > GROUPS_SHOWN:
        groups.append("and others")
    return f"{what} {so_many(found.count, more=found.more)} ({', '.join(groups)})"
