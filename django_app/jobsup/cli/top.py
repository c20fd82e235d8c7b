"""`jobs top`: supervisors, workers, queues and rates, drawn anew every second."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from django.core.management.base import CommandParser
from django.db import DatabaseError, InterfaceError, connections
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.picture import picture
from jobsup.cli.screen import Column, duration, moment, number, table_of
from jobsup.text import printable

EVERY_S = 1.0
QUIT = ("q", "Q", "\x04", "")
"""The keys that end it; "" is the end of the input."""
_MB = 2**20
SUPERVISORS = (
    Column("SUPERVISOR"), Column("NODE"), Column("PID", right=True, whole=True), Column("STATE", whole=True),
    Column("HEARD OF", right=True, whole=True), Column("WORKERS", right=True, whole=True),
    Column("CLAIMED", right=True, whole=True), Column("JOBS/S", right=True, whole=True),
)  # fmt: skip
WORKERS = (
    Column("WORKER"), Column("PID", right=True, whole=True), Column("STATE", whole=True),
    Column("JOB", right=True, whole=True), Column("FOR", right=True, whole=True), Column("MB", right=True, whole=True),
    Column("QUEUE"), Column("TASK"),
)  # fmt: skip
QUEUES = (
    Column("QUEUE"), Column("READY", right=True, whole=True), Column("OLDEST", right=True, whole=True),
    Column("SCHEDULED", right=True, whole=True), Column("CLAIMED", right=True, whole=True),
    Column("DONE/MIN", right=True, whole=True), Column("FAILED/H", right=True, whole=True),
)  # fmt: skip


def _declare(parser: CommandParser) -> None:
    parser.add_argument("--once", action="store_true", help="draw it once and end")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    first = picture(desk)
    if desk.screen.as_json:
        desk.screen.json(first)
    elif options["once"] or not desk.screen.is_terminal or not sys.stdin.isatty():
        desk.screen.console.print(view(first))
    else:
        _watch(desk, first)
    return DONE


def _watch(desk: Desk, first: Mapping[str, Any]) -> None:
    """Draw until somebody quits; a database that is away for a while is told and waited for."""
    shown = first
    trouble = ""
    try:
        with Keys() as keys, Live(console=desk.screen.console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(view(shown, trouble or "q quits"), refresh=True)
                if keys.pressed(EVERY_S) in QUIT:
                    return
                try:
                    shown, trouble = picture(desk), ""
                except (DatabaseError, InterfaceError) as error:
                    connections[desk.store.alias].close()
                    trouble = f"the database is away: {(str(error).strip().splitlines() or [''])[0]}"
    except KeyboardInterrupt:
        return


class Keys:
    """The keys of the terminal, each as it is pressed."""

    def __enter__(self) -> Self:
        self._fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd)
        return self

    def pressed(self, timeout_s: float) -> str | None:
        """Return the key that is pressed within a time, "" at the end of the input, None for no key."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return None
        return os.read(self._fd, 1).decode(errors="replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)


def view(shown: Mapping[str, Any], hint: str = "") -> RenderableType:
    """Return a picture as something to draw.

    Args:
        shown: as `picture` has it.
        hint: for the first line.
    """
    rate = f"{'>= ' * shown['at_least']}{shown['per_s']:.1f} jobs/s in the last minute"
    parts: list[RenderableType] = [Text(printable(" | ".join(filter(None, [moment(shown["at"]), rate, hint]))))]
    tables = ((SUPERVISORS, _supervisors(shown)), (QUEUES, _queues(shown)), (WORKERS, _workers(shown)))
    for columns, rows in tables:
        if rows:
            parts += [Text(""), table_of(columns, rows)]
    if not shown["supervisors"]:
        parts.insert(1, Text("no supervisor is alive", style="bold"))
    return Group(*parts)


def _supervisors(shown: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            run["name"], run["node"], run["pid"], "silent" if run["silent"] else run["state"],
            f"{duration(run['silent_s'])} ago", run["workers"], run["claimed"],
            None if run["per_s"] is None else f"{run['per_s']:.1f}",
        )
        for run in shown["supervisors"]
    ]  # fmt: skip


def _queues(shown: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    def told(own: Mapping[str, Any], name: str) -> str:
        return number(own[name], more=name in own["at_least"])

    return [
        (
            own["queue"], told(own, "ready"), duration(own["oldest_ready_s"]), told(own, "scheduled"),
            told(own, "running"), told(own, "done_minute"), told(own, "failed_hour"),
        )
        for own in shown["queues"]
    ]  # fmt: skip


def _workers(shown: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            f"{worker['node']}:{worker['supervisor']}:{worker['worker']}"
            + (f" ({worker['pool']})" if worker["pool"] else ""),
            worker["pid"],
            "idle" if worker["state"] == "serving" and worker["job"] is None else worker["state"],
            worker["job"],
            duration(worker["for_s"]),
            None if worker["rss_bytes"] is None else f"{worker['rss_bytes'] / _MB:.0f}",
            worker["queue"],
            worker["task"],
        )
        for worker in shown["workers"]
    ]


TOP = Action("top", "watch supervisors, workers, queues and rates", _declare, _run)
