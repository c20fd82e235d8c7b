"""What is enqueued, and assertions about that which say what is enqueued instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from unittest.mock import ANY

from jobsup.models import Job, Status
from jobsup.options import OPTIONS, options_of
from jobsup.results import JobsupResult, result_of, task_of
from jobsup.sql import LoadedRow
from jobsup.testing.inprocess import the_stores
from jobsup.text import dump

__unittest = True  # unittest leaves the frames of this module out of its tracebacks

WAITING = (Status.READY, Status.SCHEDULED)
SHOWN_MAX = 20
"""How many jobs a message shows."""

_CHARS_MAX = 120
_FACTS = ("args", "kwargs", "queue", "run_after", "priority", "backend", "max_attempts")


def enqueued(task: Any = None, *, queue: str | None = None) -> list[JobsupResult]:
    """Return the results of the jobs that wait to be run, the oldest first.

    Args:
        task: only those of this task; also as a dotted path.
        queue: only those of this queue.

    Raises:
        ImproperlyConfigured: no backend of TASKS is jobsup's.
    """
    found: list[JobsupResult] = []
    for store in the_stores():
        jobs = Job.objects.using(store.alias).filter(status__in=WAITING)
        if task is not None:
            jobs = jobs.filter(task=_path(task))
        if queue is not None:
            jobs = jobs.filter(queue=queue)
        rows = sorted(store.get_many(list(jobs.values_list("pk", flat=True))), key=lambda each: each[0].id)
        found += [result_of(task_of(row), row, failures) for row, failures in rows]
    return found


def assert_enqueued(
    task: Any,
    *,
    args: Any = ANY,
    kwargs: Any = ANY,
    queue: Any = ANY,
    run_after: Any = ANY,
    count: int | None = None,
    **options: Any,
) -> None:
    """Assert that a job which waits to be run is so; what is not given may be anything.

    Arguments are compared as they come out of JSON: a tuple equals a list. `unittest.mock.ANY` stands for any value,
    also inside of them.

    Args:
        task: the task, or its dotted path; options of `task.using(...)` do not matter here.
        args: all positional arguments.
        kwargs: all keyword arguments.
        queue: its queue.
        run_after: from when it may run; None for at once.
        count: how many such jobs there are, exactly; None for one or more.
        options: `priority`, `backend`, and the options of `jobsup.task`, as the job has them.

    Raises:
        AssertionError: says what is enqueued instead.
        TypeError: an option that does not exist.
    """
    __tracebackhide__ = True
    wanted = _wanted(args=args, kwargs=kwargs, queue=queue, run_after=run_after, **options)
    rows = _rows()
    found = [row for row in rows if row.status in WAITING and row.task == _path(task) and not _misfits(row, wanted)]
    if len(found) == count or (count is None and found):
        return
    expected = "no such job is" if not found else f"{len(found)} such job{'s are' * (len(found) != 1) or ' is'}"
    raise AssertionError(
        f"{expected} enqueued{'' if count is None else f', not {count}'}: {_words(task, wanted)}\n"
        + _picture(rows, _path(task), wanted)
    )


def assert_not_enqueued(
    task: Any = None, *, args: Any = ANY, kwargs: Any = ANY, queue: Any = ANY, run_after: Any = ANY, **options: Any
) -> None:
    """Assert that no job which waits to be run is so; without a task, that none waits at all.

    Args:
        task: the task, or its dotted path; None for any.
        args: as for `assert_enqueued`, like all that follows.
        kwargs: likewise.
        queue: likewise.
        run_after: likewise.
        options: likewise.

    Raises:
        AssertionError: says which are.
        TypeError: an option that does not exist.
    """
    __tracebackhide__ = True
    wanted = _wanted(args=args, kwargs=kwargs, queue=queue, run_after=run_after, **options)
    found = [
        row
        for row in _rows()
        if row.status in WAITING and (task is None or row.task == _path(task)) and not _misfits(row, wanted)
    ]
    if found:
        raise AssertionError(
            f"enqueued though it should not be: {'any job' if task is None else _words(task, wanted)}\n"
            + _list("waiting:", found)
        )


def _path(task: Any) -> str:
    return task if isinstance(task, str) else str(task.module_path)


def _rows() -> list[LoadedRow]:
    found: list[LoadedRow] = []
    for store in the_stores():
        rows = store.get_many(list(Job.objects.using(store.alias).values_list("pk", flat=True)))
        found += sorted((row for row, _ in rows), key=lambda row: row.id)
    return found


def _wanted(**given: Any) -> dict[str, Any]:
    """Return what is asked for, as it is compared.

    Raises:
        TypeError: an option that does not exist.
    """
    if unknown := set(given) - {*_FACTS, *options_of(None)}:
        known = ", ".join(dict.fromkeys([*_FACTS, *sorted(options_of(None))]))
        raise TypeError(f"there is no {', '.join(sorted(unknown))} to compare; a job has {known}")
    wanted = {name: value for name, value in given.items() if value is not ANY}
    return {
        name: _normal(value) if name in {"args", "kwargs"} else _kept(name, value) for name, value in wanted.items()
    }


def _facts(row: LoadedRow) -> dict[str, Any]:
    given = json.loads(row.arguments)
    columns = {name: getattr(row, name) for name in ("queue", "run_after", "priority", "backend", "max_attempts")}
    return {"args": given["args"], "kwargs": given["kwargs"], **columns, **options_of(row.options)}


def _misfits(row: LoadedRow, wanted: Mapping[str, Any]) -> list[str]:
    """Return the names of what is not as wanted."""
    facts = _facts(row)
    return [name for name, value in wanted.items() if value != facts[name]]


def _normal(value: Any) -> Any:
    """Return a value as it comes out of JSON, with everything that JSON does not know left as it is."""
    try:
        return json.loads(dump(value, "what is expected"))
    except (TypeError, ValueError):
        if isinstance(value, list | tuple):
            return [_normal(each) for each in value]
        if isinstance(value, dict):
            return {key: _normal(each) for key, each in value.items()}
        return value


def _kept(name: str, value: Any) -> Any:
    """Return the value of an option as a job keeps it."""
    if value is None or name not in OPTIONS:
        return value
    try:
        return OPTIONS[name].check(value)
    except (TypeError, ValueError):
        return value


def _words(task: Any, wanted: Mapping[str, Any]) -> str:
    return _path(task) + "".join(f", {name}={value!r}" for name, value in wanted.items())


def _picture(rows: Iterable[LoadedRow], path: str, wanted: Mapping[str, Any]) -> str:
    """Return what there is instead: what waits, and of the task in question also what waits no more."""
    rows = list(rows)
    waiting = [row for row in rows if row.status in WAITING]
    others = [row for row in rows if row.status not in WAITING and row.task == path]
    parts = [_list("waiting:", waiting, path, wanted) if waiting else "nothing is waiting"]
    if others:
        parts.append(_list("of this task, but not waiting any more:", others, path, wanted))
    return "\n".join(parts)


def _list(title: str, rows: list[LoadedRow], path: str = "", wanted: Mapping[str, Any] | None = None) -> str:
    lines = [title, *(f"  {_line(row, path, wanted or {})}" for row in rows[:SHOWN_MAX])]
    if len(rows) > SHOWN_MAX:
        lines.append(f"  ... and {len(rows) - SHOWN_MAX} more")
    return "\n".join(lines)


def _line(row: LoadedRow, path: str, wanted: Mapping[str, Any]) -> str:
    facts = _facts(row)
    call = ", ".join([*map(repr, facts["args"]), *(f"{name}={value!r}" for name, value in facts["kwargs"].items())])
    if len(call) > _CHARS_MAX:
        call = f"{call[:_CHARS_MAX]}..."
    line = f"job {row.id} {row.task}({call}), queue {row.queue!r}, {Status(row.status).label}"
    others = [name for name in _misfits(row, wanted) if name not in {"args", "kwargs", "queue"}]
    if row.task == path and others:
        line += ", " + ", ".join(f"{name}={facts[name]!r}" for name in others)
    return line


__all__ = ["assert_enqueued", "assert_not_enqueued", "enqueued"]
