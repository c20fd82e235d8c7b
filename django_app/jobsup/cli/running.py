"""`jobs run`: enqueue a task by its path, from the shell."""

from __future__ import annotations

import inspect
import json
import re
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from jobsup.backend import JobsupBackend
from jobsup.cli.desk import DONE, FAILED, TIMED_OUT, Action, Desk
from jobsup.cli.filters import WRONG_USAGE, age, seconds
from jobsup.cli.priority import level
from jobsup.cli.show import lines
from jobsup.cli.waiting import LOOK_S, until_none
from jobsup.compat import InvalidTask
from jobsup.errors import JobsupError, TaskNotFound
from jobsup.models import Status
from jobsup.queries import OPEN, story
from jobsup.registry import find_task
from jobsup.store import Store

_NAMED = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


def _declare(parser: CommandParser) -> None:
    parser.add_argument("task", metavar="TASK", help="dotted path of the task")
    parser.add_argument(
        "arguments", nargs="*", metavar="ARGUMENT",
        help="its arguments: VALUE or NAME=VALUE; a value is JSON if it can be that, else a text",
    )  # fmt: skip
    parser.add_argument("--queue", metavar="NAME", help="in this queue instead of the task's own")
    parser.add_argument("--priority", type=level, metavar="N", help="-100 (last) to 100 (first)")
    parser.add_argument("--after", type=age, metavar="AGE", help="not before so much time is over: 90s, 5m, 2h, 3d")
    parser.add_argument("--wait", action="store_true", help="wait for its end, and show what became of it")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long --wait waits (for ever)")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    if options["timeout"] is not None and not options["wait"]:
        raise CommandError("--timeout is for --wait: leave it out, or add --wait", returncode=WRONG_USAGE)
    store, pk = _enqueue(options)
    if not options["wait"]:
        if desk.screen.as_json:
            desk.screen.json({"id": pk, "task": options["task"]})
        else:
            desk.screen.say(f"job {pk}: {options['task']} enqueued")
        return DONE
    late = until_none(desk, lambda: int(store.statuses([pk]).get(pk) in OPEN), options["timeout"], LOOK_S)
    return _tell(desk, store, pk, late=late, timeout_s=options["timeout"])


def _enqueue(options: dict[str, Any]) -> tuple[Store, int]:
    """Enqueue the job; return where it is and its key."""
    path = options["task"]
    try:
        task = find_task(path)
    except TaskNotFound as error:
        raise CommandError(str(error), returncode=FAILED) from error
    changed: dict[str, Any] = {"queue_name": options["queue"], "priority": options["priority"]}
    if options["after"] is not None:
        try:
            changed["run_after"] = timezone.now() + timedelta(seconds=options["after"])
        except OverflowError:
            raise CommandError("--after: no calendar goes as far as that", returncode=WRONG_USAGE) from None
    try:
        task = task.using(**{name: value for name, value in changed.items() if value is not None})
        backend = task.get_backend()
        if not isinstance(backend, JobsupBackend):
            raise CommandError(
                f"{path} goes to backend {task.backend!r}, which is {type(backend).__name__} and none of jobsup's",
                returncode=FAILED,
            )
        args, kwargs = values(options["arguments"])
        _fits(task, args, kwargs)
        return backend.store, int(task.enqueue(*args, **kwargs).id)
    except (InvalidTask, JobsupError, TypeError, ValueError) as error:
        raise CommandError(f"{path}: {error}", returncode=FAILED) from error


def values(texts: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that words on a command line stand for.

    Raises:
        ValueError: a name comes twice.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        if found := _NAMED.fullmatch(text):
            if found[1] in kwargs:
                raise ValueError(f"{found[1]} is given twice")
            kwargs[found[1]] = _value(found[2])
        else:
            args.append(_value(text))
    return args, kwargs


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fits(task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Refuse arguments that the function does not take, here and not in a worker.

    Raises:
        TypeError: says what is wrong.
    """
    first = [None] if task.takes_context else []
    inspect.signature(task.func).bind(*first, *args, **kwargs)


def _tell(desk: Desk, store: Store, pk: int, *, late: int, timeout_s: float | None) -> int:
    told = story(store, pk)
    if told is None:
        raise CommandError(f"job {pk} was deleted meanwhile", returncode=FAILED)
    if desk.screen.as_json:
        desk.screen.json(told)
    else:
        for line in lines(told, store.sql.now()):
            desk.screen.say(line)
    if late:
        raise CommandError(f"job {pk} has not ended after {timeout_s:g} s", returncode=TIMED_OUT)
    return DONE if told["status"] == Status.SUCCESSFUL.label else FAILED


RUN = Action("run", "enqueue a task by its path", _declare, _run, "no longer waiting; the job goes on")
