"""Values and exceptions of every unpleasant sort, by name: arguments of tasks have to be plain."""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict, UserDict, UserList
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn
from uuid import UUID


class Number(enum.IntEnum):
    """An integer that is more."""

    TWO = 2


def circle() -> list[Any]:
    """Return a list that contains itself."""
    made: list[Any] = []
    made.append(made)
    return made


def numbers() -> Iterator[int]:
    """Yield a number."""
    yield 1


NO_JSON: dict[str, Callable[[], Any]] = {
    "datetime": lambda: datetime(2026, 1, 2, tzinfo=UTC),
    "date": lambda: date(2026, 1, 2),
    "time": lambda: time(1, 2),
    "timedelta": lambda: timedelta(1),
    "UUID": lambda: UUID(int=1),
    "Decimal": lambda: Decimal("1.10"),
    "set": lambda: {1},
    "frozenset": lambda: frozenset({1}),
    "object": object,
    "class": lambda: Number,
    "function": lambda: numbers,
    "generator": numbers,
    "complex": lambda: 1j,
    "Path": lambda: Path("/"),
    "exception": lambda: ValueError("x"),
}
"""What `django.tasks` refuses with a TypeError."""

NORMALISED: dict[str, tuple[Callable[[], Any], Any]] = {
    "tuple": (lambda: (1, (2, 3)), [1, [2, 3]]),
    "bytes": ("é€".encode, "é€"),
    "range": (lambda: range(3), [0, 1, 2]),
    "OrderedDict": (lambda: OrderedDict(a=(1,)), {"a": [1]}),
    "mappingproxy": (lambda: MappingProxyType({"a": b"b"}), {"a": "b"}),
    "UserDict": (lambda: UserDict(a=1), {"a": 1}),
    "UserList": (lambda: UserList([1]), [1]),
    "bytes keys": (lambda: {b"a": 1}, {"a": 1}),
    "IntEnum": (lambda: Number.TWO, 2),
}
"""What it makes plain, and how."""

PLAIN: dict[str, Any] = {
    "None": None,
    "booleans": [True, False],
    "small numbers": [0, -1, 1, 2**31, 2**53 + 1],
    "2**63": [2**63, -(2**63) - 1, 2**64],
    "10**40": 10**40,
    "floats": [0.1, 1e308, -1e-308, 1.0],
    "empty": ["", [], {}, [[]], [{}]],
    "unicode": "äß 漢字 🐘 é \u2028 \u202e \ufeff",
    "controls": "\x01\t\r\n\x1f\x7f",
    "quotes": "'\"\\/%s {} $1 -- ; \\u0041",
    "deep": [[[[[[[[[[{"a": [{"b": [1]}]}]]]]]]]]]],
    "long": "x" * 100_000,
    "wide": list(range(5000)),
    "keys": {"": 1, "self": 2, "ü": 3, "a b": 4, "__class__": 5},
}
"""What JSON knows and what therefore has to arrive as it was sent."""


ODD: dict[str, Any] = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "integer keys": {1: "a"},
    "NUL": "a\0b",
    "surrogate": "a\ud800b",
}
"""What Django lets pass but not every store takes."""

PLAIN_FORM = {name: plain for name, (_, plain) in NORMALISED.items()}
ODD_FORM = {**ODD, "integer keys": ({"1": "a"}, {1: "a"})}
"""As what they may arrive."""


class Custom(Exception):
    """Takes more than one argument to make, so that neither pickle nor a copy can remake it."""

    def __init__(self, one: str, two: Any) -> None:
        super().__init__(one)
        self.two = two


class Outer:
    """Has an exception within."""

    class Inner(Exception):
        """Has a dotted qualified name."""


class BadStr(Exception):
    """Cannot be printed."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")

    __repr__ = __str__


class NoSuper(BaseException):
    """Is not an Exception."""


def failures() -> dict[str, BaseException]:
    """Return exceptions to raise, by name."""

    class Local(Exception):
        """Cannot be imported."""

    caused = ValueError("the effect")
    caused.__cause__ = KeyError("the cause")
    return {
        "ValueError": ValueError("this failed, plainly"),
        "Inner": Outer.Inner("inside"),
        "Custom": Custom("one", lambda: None),
        "Local": Local("local"),
        "BadStr": BadStr(),
        "NoSuper": NoSuper("base"),
        "SystemExit": SystemExit("leaving"),
        "SystemExit 0": SystemExit(0),
        "KeyboardInterrupt": KeyboardInterrupt("Ctrl-C"),
        "GeneratorExit": GeneratorExit("generator"),
        "CancelledError": asyncio.CancelledError("cancelled"),
        "StopIteration": StopIteration("stop"),
        "StopAsyncIteration": StopAsyncIteration("stop"),
        "group": ExceptionGroup("many", [ValueError("first"), TypeError("second")]),
        "caused": caused,
        "NUL": ValueError("a\0b"),
        "surrogate": ValueError("a\ud800b"),
        "long": ValueError("x" * 3_000_000),
        "object": ValueError(ValueError("within")),
        "TimeoutError": TimeoutError("time"),
    }


def recurse(depth: int = 0) -> int:
    """Never return."""
    return recurse(depth + 1) + 1


def swallowing() -> None:
    """Raise and swallow, so that nothing of it may be taken for the job's own end."""
    with suppress(ValueError):
        raise ValueError("swallowed")
