"""`jobs pause` and `jobs resume`: nobody takes jobs from a queue for a while, on any host."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup import queue_control, queues
from jobsup.backend import QUEUE_CHARS_MAX
from jobsup.cli.desk import DONE, Action, Desk
from jobsup.cli.filters import WRONG_USAGE, utf8
from jobsup.cli.screen import Column


def _declare_pause(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", type=utf8, metavar="QUEUE", help="without one: show which are paused")


def _declare_resume(parser: CommandParser) -> None:
    parser.add_argument("names", nargs="*", type=utf8, metavar="QUEUE")
    parser.add_argument("--all", action="store_true", help="every queue that is paused")


def _pause(desk: Desk, options: dict[str, Any]) -> int:
    names = _checked(options["names"])
    changed = queue_control.pause(desk.store, names) if names else []
    _tell(desk, names, changed, "paused", "was paused before")
    if (known := queues.named()) is not None:
        for name in names:
            if name not in known:  # an old one whose jobs still wait, or misspelt
                desk.screen.remark(f"no backend in TASKS has the queue {name}; there are {', '.join(known)}")
    return DONE


def _resume(desk: Desk, options: dict[str, Any]) -> int:
    names = _checked(options["names"])
    if bool(names) == options["all"]:
        raise CommandError("resume needs the names of queues, or --all", returncode=WRONG_USAGE)
    if options["all"]:
        names = sorted(queue_control.paused(desk.store))
    changed = queue_control.resume(desk.store, names) if names else []
    _tell(desk, names, changed, "goes on", "was not paused")
    return DONE


def _checked(names: list[str]) -> list[str]:
    for name in names:
        if not 0 < len(name) <= QUEUE_CHARS_MAX:
            raise CommandError(
                f"{name[:80]!r} is no name of a queue: expected 1 to {QUEUE_CHARS_MAX} characters",
                returncode=WRONG_USAGE,
            )
    return list(dict.fromkeys(names))


def _tell(desk: Desk, names: list[str], changed: list[str], done: str, before: str) -> None:
    paused = queue_control.paused(desk.store)
    if desk.screen.as_json:
        desk.screen.json({"changed": sorted(changed), "paused": {name: paused[name] for name in sorted(paused)}})
        return
    for name in names:
        desk.screen.say(f"queue {name} {done if name in changed else before}")
    if names:
        return
    if paused:
        desk.screen.table([Column("QUEUE", whole=True), Column("PAUSED SINCE", whole=True)], sorted(paused.items()))
    else:
        desk.screen.say("no queue is paused")


PAUSE = Action("pause", "have nobody take jobs from queues, on all hosts", _declare_pause, _pause)
RESUME = Action("resume", "have queues served again", _declare_resume, _resume)
