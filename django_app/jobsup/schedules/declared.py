"""Schedules that are declared beside their tasks: what they may be, and which there are in this process."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import isfinite
from typing import Any, NamedTuple

from jobsup.compat import InvalidTask
from jobsup.schedules.rhythm import CATCH_UP, Rhythm, zone_of
from jobsup.text import bounded, dump

NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task is enqueued by itself, and with which arguments.

    Args:
        every: a cron expression, or an interval in whole seconds or as a timedelta, whose multiples since 1970 (UTC)
            are meant.
        args: positional arguments.
        kwargs: named arguments.
        timezone: name of the time zone that the cron expression means; None: TIME_ZONE.
        catch_up: what is made up for after a time without supervisors: the "latest" missed moment, "all" of them (the
            newest 100), or "none".
        name: what it is called; None: as the task, followed by the cron expression or interval if it has several.
    """

    every: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timezone: str | None = None
    catch_up: str = "latest"
    name: str | None = None

    def rhythm(self) -> Rhythm:
        """Return what its moments follow, with an empty time zone for TIME_ZONE.

        Raises:
            TypeError: `every` is neither.
            ValueError: it has no moments.
        """
        every = self.every
        if isinstance(every, str):
            rhythm = Rhythm(cron=" ".join(every.split()), timezone=self.timezone or "")
            (rhythm if self.timezone else rhythm._replace(timezone="UTC")).check()
            return rhythm
        seconds = every.total_seconds() if isinstance(every, timedelta) else every
        if isinstance(every, bool) or not isinstance(seconds, (int, float)):
            raise TypeError("expected a cron expression, an interval in seconds or a timedelta")
        if not isfinite(seconds) or seconds != int(seconds):
            raise ValueError("expected an interval of whole seconds")
        if self.timezone is not None:
            raise ValueError("an interval has no time zone: its moments are the same everywhere")
        rhythm = Rhythm(interval_s=int(seconds), timezone="")
        rhythm.check()
        return rhythm

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            TypeError, ValueError: say why.
        """
        if self.timezone is not None:
            zone_of(self.timezone)
        self.rhythm()
        if self.catch_up not in CATCH_UP:
            raise ValueError(f"catch_up is {self.catch_up!r}, expected one of {', '.join(CATCH_UP)}")
        if not isinstance(self.args, (list, tuple)):
            raise TypeError(f"args is {self.args!r}, expected a list or a tuple")
        kwargs: Any = self.kwargs
        if not isinstance(kwargs, Mapping) or not all(isinstance(key, str) for key in kwargs):
            raise TypeError(f"kwargs is {self.kwargs!r}, expected a dict with names as keys")
        if self.name is not None:
            check_name(self.name)


def check_name(name: Any) -> None:
    """Refuse a name that no row can have.

    Raises:
        ValueError: says why.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX or bounded(name) != name:
        raise ValueError(f"the name is {name!r}, expected 1 to {NAME_CHARS_MAX} characters")


ScheduleOption = str | int | timedelta | Schedule | Sequence[str | int | timedelta | Schedule]


def schedules_of(value: Any) -> list[Schedule]:
    """Return what the option `schedule` says: one schedule or several.

    Raises:
        TypeError, ValueError: say what is wrong.
    """
    given = value if isinstance(value, (list, tuple)) else [value]
    if not given:
        raise ValueError("expected at least one schedule")
    found = [one if isinstance(one, Schedule) else Schedule(one) for one in given]
    for one in found:
        one.check()
    return found


class Declared(NamedTuple):
    """A schedule of a task, under its name."""

    name: str
    task: Any
    schedule: Schedule


_declared: dict[str, list[Declared]] = {}
"""Those of this process, by the paths of their tasks."""


def declare(task: Any) -> None:
    """Take note of the schedules of a task that has just been made.

    Raises:
        InvalidTask: one of them cannot work.
    """
    schedules = schedules_of(task.schedule)
    found: list[Declared] = []
    for one in schedules:
        name = one.name or (task.module_path if len(schedules) == 1 else f"{task.module_path} {one.rhythm()}")
        try:
            check_name(name)
            check_arguments(task, one.args, one.kwargs)
        except (TypeError, ValueError) as error:
            raise InvalidTask(f"schedule {name}: {error}.") from error
        others = [other for path, known in _declared.items() if path != task.module_path for other in known]
        if twice := [other for other in [*found, *others] if other.name == name]:
            raise InvalidTask(
                f"schedule {name} is declared twice, for {twice[0].task.module_path} and {task.module_path}: "
                "give one of them another name."
            )
        found.append(Declared(name, task, one))
    _declared[task.module_path] = found


def declared() -> dict[str, Declared]:
    """Return the schedules that are declared in this process, by their names."""
    return {one.name: one for found in _declared.values() for one in found}


def check_arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the arguments as a job's row has them.

    Raises:
        TypeError, ValueError: the task's function does not take them, or they are no JSON.
    """
    context: list[None] = [None] if task.takes_context else []
    try:
        inspect.signature(task.func).bind(*context, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{task.module_path} cannot be called with these arguments: {error}") from None
    return dump({"args": list(args), "kwargs": dict(kwargs)}, "the arguments")
