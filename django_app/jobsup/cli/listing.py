"""`jobs list`: the newest jobs that match."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.filters import add_filters, chosen
from jobsup.cli.screen import Column, duration
from jobsup.queries import listed, matching

LIMIT = 50
COLUMNS = (
    Column("ID", right=True, whole=True),
    Column("STATUS", whole=True),
    Column("QUEUE"),
    Column("TASK"),
    Column("PRIO", right=True, whole=True),
    Column("TRIES", right=True, whole=True),
    Column("AGE", right=True, whole=True),
    Column("RAN", right=True, whole=True),
    Column("ERROR"),
)


def _declare(parser: CommandParser) -> None:
    add_filters(parser, limit=f"at most so many ({LIMIT})")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    limit = options["limit"] or LIMIT
    found = listed(matching(desk.store, chosen(options)), limit)
    if desk.screen.as_json:
        for job in found:
            desk.screen.json(job)
        return DONE
    now = desk.store.sql.now()
    rows = [
        (
            job["id"], _status(job), job["queue"], job["task"], job["priority"], job["attempt"],
            duration((now - job["enqueued_at"]).total_seconds()), _ran(job, now),
            (job["error"] or "").rpartition(".")[2],
        )
        for job in found
    ]  # fmt: skip
    if rows:
        desk.screen.table(COLUMNS, rows)
    else:
        desk.screen.say("no jobs")
    if len(found) == limit and options["limit"] is None:
        desk.screen.say(f"the newest {limit}; more with --limit")
    return DONE


def _status(job: dict[str, Any]) -> str:
    asked = job["cancel_asked_at"] is not None and job["finished_at"] is None
    return "running, to be cancelled" if asked and job["status"] == "running" else str(job["status"])


def _ran(job: dict[str, Any], now: Any) -> str:
    """Return for how long the latest attempt ran, or runs."""
    if job["last_attempted_at"] is None or job["status"] in ("ready", "scheduled"):
        return ""
    if job["status"] == "running":
        return duration((now - job["last_attempted_at"]).total_seconds()) if job["worker"] else ""
    return duration((job["finished_at"] - job["last_attempted_at"]).total_seconds()) if job["finished_at"] else ""


LIST = Action("list", "show the newest jobs that match", _declare, _run)
