"""`jobs show`: the whole story of a job."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from jobsup.backend import pk_of
from jobsup.cli.desk import DONE, FAILED, Action, Desk
from jobsup.cli.filters import job_id
from jobsup.cli.screen import duration, moment
from jobsup.models import Status
from jobsup.queries import story
from jobsup.text import one_line

INDENT = "    "


def _declare(parser: CommandParser) -> None:
    parser.add_argument("ids", nargs="+", type=job_id, metavar="ID")


def _run(desk: Desk, options: dict[str, Any]) -> int:
    missing = []
    for number, pk in enumerate(options["ids"]):
        told = story(desk.store, pk) if pk_of(pk) is not None else None
        if told is None:
            missing.append(pk)
        elif desk.screen.as_json:
            desk.screen.json(told)
        else:
            if number:
                desk.screen.say()
            for line in lines(told, desk.store.sql.now()):
                desk.screen.say(line)
    if missing:
        raise CommandError(f"there is no job {', '.join(map(str, missing))}", returncode=FAILED)
    return DONE


def lines(job: Mapping[str, Any], now: datetime) -> Iterator[str]:
    """Yield a job's story, as `queries.story` has it.

    Args:
        job: the story.
        now: the database's clock.
    """
    yield f"job {job['id']} {one_line(job['task'])}: {job['status']}"
    facts = dict(_facts(job, now))
    width = max(map(len, facts)) + 1
    for name, value in facts.items():
        yield f"{INDENT}{name + ':':<{width}} {one_line(value)}"
    for attempt in job["attempts"]:
        yield from _attempt(attempt, job["uncounted"])


def _facts(job: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    yield from _wanted(job)
    yield from _times(job, now)
    for name, value in (("unique key", job["unique_key"]), ("left behind", job["left_behind"])):
        if value:
            yield name, value
    if job["keep_s"] is not None:
        yield "kept", f"{duration(float(job['keep_s']))} after its end"
    if job["has_result"]:
        yield "result", json.dumps(job["result"], ensure_ascii=False)


def _wanted(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what whoever enqueued it wanted."""
    yield "arguments", _call(job["arguments"])
    yield "queue", job["queue"] + (f" (backend {job['backend']})" if job["backend"] != "default" else "")
    yield "priority", str(job["priority"])
    if job["options"]:
        options = job["options"] if isinstance(job["options"], Mapping) else {"unreadable": job["options"]}
        yield "options", ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(options.items()))
    yield "attempts", _attempts_words(job)
    if job["schedule"] is not None:
        yield "schedule", f"{job['schedule']}, for {moment(job['tick_at'])}"


def _times(job: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    """Yield what happened when, in order."""
    yield "enqueued", _when(job["enqueued_at"], now)
    if job["status"] == Status.SCHEDULED.label:
        yield "tried again" if job["attempt"] > 0 else "due", _when(job["run_after"], now)
    elif job["run_after"] is not None and not job["attempt"]:
        yield "not before", _when(job["run_after"], now)
    if job["started_at"] is not None:
        yield "started", _when(job["started_at"], now)
    if job["ready_at"] is not None:
        yield "began well", _when(job["ready_at"], now) + (f": {job['ready_message']}" if job["ready_message"] else "")
    if job["cancel_asked_at"] is not None:
        yield "cancelled", _when(job["cancel_asked_at"], now) + ("" if job["finished_at"] else ", and still running")
    if job["owner"] is not None:
        yield "owned by", _owner(job)
    if job["finished_at"] is not None:
        yield "finished", _when(job["finished_at"], now)


def _call(arguments: Any) -> str:
    match arguments:
        case {"args": list(), "kwargs": dict()}:
            pass
        case _:  # somebody has changed them by hand
            return f"{json.dumps(arguments, ensure_ascii=False)}, which are none"
    given = [json.dumps(value, ensure_ascii=False) for value in arguments["args"]]
    given += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments["kwargs"].items()]
    return f"({', '.join(given)})"


def _attempts_words(job: Mapping[str, Any]) -> str:
    most = "" if job["max_attempts"] is None else f" of {job['max_attempts']}"
    before = f", {job['uncounted']} more that do not count" if job["uncounted"] else ""
    return f"{job['attempt'] - job['uncounted']}{most}{before}"


def _when(value: datetime | None, now: datetime) -> str:
    if value is None:
        return "at an unknown time"
    apart_s = (now - value).total_seconds()
    return (
        f"{moment(value)} ({duration(apart_s)} ago)" if apart_s >= 0 else f"{moment(value)} (in {duration(-apart_s)})"
    )


def _owner(job: Mapping[str, Any]) -> str:
    owner = job["owner"]
    if "name" not in owner:
        return f"run {owner['run']} of a supervisor that is not known any more"
    beat = f"{owner['state']}, last heard of {duration(owner['silent_s'])} ago"
    who = f"supervisor {owner['name']} on {owner['node']} (pid {owner['pid']}, run {owner['run']}; {beat})"
    return f"{who}, {job['worker'] or 'not known to have begun'}"


def _attempt(attempt: Mapping[str, Any], uncounted: int) -> Iterator[str]:
    begun, ended = attempt["started_at"], attempt["ended_at"]
    ran = f", after {duration((ended - begun).total_seconds())}" if begun is not None and ended is not None else ""
    before = " (before it was tried anew)" if attempt["attempt"] <= uncounted else ""
    yield f"attempt {attempt['attempt']}{before}: {attempt['outcome']}{ran}"
    if attempt["worker"]:
        yield f"{INDENT}worker: {attempt['worker']}"
    if begun is not None:
        yield f"{INDENT}began:  {moment(begun)}"
    if ended is not None:
        yield f"{INDENT}ended:  {moment(ended)}"
    if attempt["error"] is not None:
        yield f"{INDENT}error:  {attempt['error']}"
        yield from (f"{INDENT}{INDENT}{line}" for line in attempt["traceback"].rstrip().splitlines())


SHOW = Action("show", "tell the whole story of jobs", _declare, _run)
