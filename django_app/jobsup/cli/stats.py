"""`jobs stats`: figures per queue and per task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.screen import Column, duration, number
from jobsup.figures import Figures, figures, read

TITLES = (
    Column("READY", right=True, whole=True),
    Column("OLDEST", right=True, whole=True),
    Column("SCHEDULED", right=True, whole=True),
    Column("RUNNING", right=True, whole=True),
    Column("DONE/MIN", right=True, whole=True),
    Column("DONE/H", right=True, whole=True),
    Column("FAILED/H", right=True, whole=True),
    Column("MEAN", right=True, whole=True),
    Column("95 %", right=True, whole=True),
)


def _declare(parser: CommandParser) -> None:
    """Take no options."""


def _run(desk: Desk, _options: dict[str, Any]) -> int:
    counted = read(desk.store)
    queues, tasks = figures(counted, "queue"), figures(counted, "task")
    if desk.screen.as_json:
        desk.screen.json({"at": counted.at, "queues": list(map(asdict, queues)), "tasks": list(map(asdict, tasks))})
    elif not queues:
        desk.screen.say("no jobs wait, run or have ended within the last hour")
    else:
        desk.screen.table((Column("QUEUE"), *TITLES), rows(queues))
        desk.screen.say()
        desk.screen.table((Column("TASK"), *TITLES), rows(tasks))
    return DONE


def rows(table: Sequence[Figures]) -> list[tuple[str, ...]]:
    """Return the rows of a table of figures, with their names first."""

    def told(own: Figures, name: str) -> str:
        return number(getattr(own, name), more=name in own.at_least)

    return [
        (
            own.name, told(own, "ready"), duration(own.oldest_ready_s), told(own, "scheduled"), told(own, "running"),
            told(own, "done_minute"), told(own, "done_hour"), told(own, "failed_hour"),
            duration(own.mean_s), duration(own.p95_s),
        )
        for own in table
    ]  # fmt: skip


STATS = Action("stats", "show figures per queue and per task", _declare, _run)
