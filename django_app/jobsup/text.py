"""Any exception as bounded text that every database accepts, and JSON in and out with the limits named."""

from __future__ import annotations

import json
import traceback
from collections.abc import Collection
from typing import Any

from jobsup.compat import normalize_json

TRACEBACK_CHARS_MAX = 20_000
PAYLOAD_BYTES_MAX = 1 << 20
"""How long the arguments or the result of one job may be, as JSON: it is written and read with every job."""

_FRAMES_MAX = 100


class PayloadError(ValueError):
    """The arguments or the result cannot be stored."""


def bounded(text: str, chars_max: int = TRACEBACK_CHARS_MAX) -> str:
    """Return text without NUL and lone surrogates; of a long one the head and the tail, with what was left out said."""
    if len(text) > chars_max:
        half = chars_max // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def class_path(error: BaseException | type[BaseException]) -> str:
    """Return the dotted path of an exception's class, at most 255 characters."""
    kind = error if isinstance(error, type) else type(error)
    return bounded(f"{kind.__module__}.{kind.__qualname__}")[:255]


def summary(error: BaseException) -> str:
    """Return an exception's class and message as one line of at most 200 characters."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001  # a hostile __str__
        lines = []
    return bounded(": ".join([class_path(error), *lines[:1]]))[:200]


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
    try:
        text = json.dumps(normalize_json(value), allow_nan=False, separators=(",", ":"))
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
