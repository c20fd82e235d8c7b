"""`jobs retry`: what failed or was cancelled goes back to its queue, with all its attempts before it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup import changes
from jobsup.cli.acting import act, add_acting, batches, meant, refuse_missing
from jobsup.cli.desk import DONE, FAILED, Action, Desk
from jobsup.cli.screen import jobs as so_many
from jobsup.models import Status


def _declare(parser: CommandParser) -> None:
    add_acting(parser)


def _run(desk: Desk, options: dict[str, Any]) -> int:
    filters = meant(options, [Status.FAILED], "retry")
    asked, done = act(batches(desk, filters, options, "retry"), partial(changes.retry, desk.store))
    named = filters.names_ids_only()
    statuses = desk.store.statuses(asked) if named else {}
    if desk.screen.as_json:
        desk.screen.json({"retried": done})
    elif named:
        for pk in filters.ids:
            desk.screen.say(f"job {pk}: {_words(statuses.get(pk), done=pk in done)}")
    else:
        desk.screen.say(f"{so_many(len(done))} put back")
    refuse_missing(filters, list(statuses))
    if named and (left := [pk for pk in asked if pk not in done]):
        raise CommandError(
            f"only what failed or was cancelled is tried anew: job {', '.join(map(str, left))} is not",
            returncode=FAILED,
        )
    return DONE


def _words(status: Status | None, *, done: bool) -> str:
    if done:
        return "ready again"
    return "there is no such job" if status is None else f"left alone: it is {status.label}"


RETRY = Action("retry", "put failed or cancelled jobs back to their queue", _declare, _run)
