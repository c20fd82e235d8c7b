"""The sanitiser: whatever comes from a job becomes text that every database takes and no terminal is steered by.

`bounded` is for the database, which keeps what was said as far as it can; `printable` and `one_line` are for terminals
and logs. JSON goes in and out with its limits named.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Collection
from typing import Any

from jobsup.compat import normalize_json

TRACEBACK_CHARS_MAX = 20_000
PAYLOAD_BYTES_MAX = 1 << 20
"""How long the arguments or the result of one job may be, as JSON: it is written and read with every job."""

encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""What JSON knows as text; `json.dumps` with options makes an encoder for each call."""

_FRAMES_MAX = 100


class PayloadError(ValueError):
    """The arguments or the result cannot be stored."""


def bounded(text: str, chars_max: int = TRACEBACK_CHARS_MAX) -> str:
    """Return text without NUL and lone surrogates; of a long one the head and the tail, with what was left out said."""
    head_and_tail = _cut(text, chars_max)
    fit = head_and_tail.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return fit if len(fit) == len(head_and_tail) else _cut(fit, chars_max)


def _cut(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def printable(text: str) -> str:
    """Return text without what would steer a terminal or turn its letters around; the ends of lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def one_line(text: str) -> str:
    """Return text as `printable` does, with the ends of lines shown too: it can pass for no other line."""
    return text if text.isprintable() else "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def class_path(error: BaseException | type[BaseException]) -> str:
    """Return the dotted path of an exception's class, at most 255 characters."""
    kind = error if isinstance(error, type) else type(error)
    return bounded(f"{kind.__module__}.{kind.__qualname__}")[:255]


def summary(error: BaseException) -> str:
    """Return an exception's class and the first line of its message, printable, at most 200 characters."""
    try:
        lines = str(error)[:TRACEBACK_CHARS_MAX].strip().splitlines()
    except Exception:  # noqa: BLE001  # a hostile __str__
        lines = []
    return one_line(": ".join([class_path(error), *lines[:1]]))[:200]


def traceback_text(error: BaseException, *, without: Collection[str] = ()) -> str:
    """Return an exception's traceback, whatever its `__str__` does and however long its chain is.

    Args:
        error: the exception.
        without: files whose frames are left out at the outer end: the machinery that called the job.
    """
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename in without:
        own = own.tb_next
    try:
        told = traceback.TracebackException(
            type(error), error, own or error.__traceback__, limit=-_FRAMES_MAX, compact=True
        )
        return bounded("".join(told.format()))
    except Exception as failure:  # noqa: BLE001  # a chain too deep, memory, a hostile __repr__
        return f"{class_path(error)} (its traceback cannot be shown: {type(failure).__name__})"


def dump(value: Any, what: str) -> str:
    """Return JSON text of a value, made as `django.tasks` makes it.

    Args:
        value: arguments or a result.
        what: what it is, for the error, e.g. "the result".

    Raises:
        PayloadError: too long, or not JSON (NaN and Infinity are not either).
        TypeError: of a type that JSON does not know.
    """
    if value is None:
        return "null"
    try:
        text = encode(normalize_json(value))
    except RecursionError:
        raise PayloadError(f"{what} cannot be stored: it contains itself or is nested too deeply") from None
    except TypeError as error:
        raise TypeError(f"{what} cannot be stored as JSON: {error}") from None
    except ValueError as error:
        raise PayloadError(f"{what} cannot be stored as JSON: {error}") from None
    if len(text) > PAYLOAD_BYTES_MAX:
        raise PayloadError(f"{what} cannot be stored: {len(text)} bytes of JSON, the limit is {PAYLOAD_BYTES_MAX}")
    return text


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, e.g. "3 h 12 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
