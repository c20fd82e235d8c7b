"""The limits of a job: checked where they are declared, kept as text, completed by the settings."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jobsup import limits, options
from jobsup.compat import InvalidTask
from jobsup.conf import Conf
from spawnpool.bounds import Bounds
from tests.testapp import tasks

NONE = Bounds(None, 10.0, None)


def bounds(default: Bounds = NONE, **given: Any) -> Bounds:
    """Return what is in force for a job of a task with these options."""
    return limits.bounds_of(options.text_of(tasks.noop.using(**given)), default)


def test_what_is_declared_is_in_force() -> None:
    """Seconds, timedeltas, bytes and sizes."""
    assert bounds(timeout=2.5, timeout_grace=timedelta(minutes=1), memory_limit="512M") == Bounds(2.5, 60.0, 512 << 20)
    assert bounds(timeout=timedelta(hours=1), memory_limit=3 << 30) == Bounds(3600.0, 10.0, 3 << 30)
    assert bounds(memory_limit="1gb").memory_bytes == 1 << 30


def test_what_is_not_declared_is_what_the_settings_say() -> None:
    """One by one; 0 frees a job of a limit of theirs."""
    default = limits.defaults(Conf(timeout_s=60, timeout_grace_s=5, memory_limit=1 << 30))
    assert bounds(default) == Bounds(60, 5, 1 << 30)
    assert bounds(default, timeout=1) == Bounds(1, 5, 1 << 30)
    assert bounds(default, timeout=0, memory_limit=0) == Bounds(None, 5, None)
    assert bounds(default, timeout_grace=0) == Bounds(60, 0, 1 << 30)
    assert limits.defaults(Conf()) == NONE


def test_a_task_that_declares_nothing_keeps_nothing() -> None:
    """NULL in the row, as for tasks of other backends."""
    assert options.text_of(tasks.noop) is None
    assert options.text_of(SimpleNamespace()) is None
    assert options.options_of(None) == dict.fromkeys(options.KEPT)


def test_the_text_has_seconds_and_bytes() -> None:
    """Whatever they were declared as."""
    text = options.text_of(tasks.noop.using(timeout=timedelta(minutes=2), memory_limit="200M"))
    assert text is not None
    assert json.loads(text) == {"timeout": 120.0, "memory_limit": 200 << 20}
    assert options.options_of(text) == dict.fromkeys(options.KEPT) | {"timeout": 120.0, "memory_limit": 200 << 20}


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("timeout", -1, "must lie between 0 and 604800"),
        ("timeout", timedelta(days=8), "must lie between 0 and 604800"),
        ("timeout", math.inf, "must lie between 0 and 604800"),
        ("timeout", math.nan, "must lie between 0 and 604800"),
        ("timeout", "60", "expected seconds or a timedelta"),
        ("timeout", True, "expected seconds or a timedelta"),
        ("timeout_grace", -0.1, "must lie between 0 and 604800"),
        ("timeout_grace", [], "expected seconds or a timedelta"),
        ("memory_limit", "512X", 'expected bytes or a size such as "512M"'),
        ("memory_limit", "", 'expected bytes or a size such as "512M"'),
        ("memory_limit", 1.5e9, 'expected bytes or a size such as "512M"'),
        ("memory_limit", True, 'expected bytes or a size such as "512M"'),
        ("memory_limit", "512", "must lie between 1M and 1024T"),
        ("memory_limit", -1, "must lie between 1M and 1024T"),
        ("memory_limit", "2000T", "must lie between 1M and 1024T"),
    ],
)
def test_a_limit_that_cannot_work_is_refused_in_words(option: str, value: Any, expected: str) -> None:
    """Where the task is made or changed: which, what it is, what would do."""
    with pytest.raises(InvalidTask) as refused:
        tasks.noop.using(**{option: value})
    assert str(refused.value) == f"{option} is {value!r}: {expected}."
