"""Text: whatever happens in a job becomes bounded text that every database takes; JSON within its limits."""

from __future__ import annotations

import json
import time
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsup.text import (
    PAYLOAD_BYTES_MAX,
    PayloadError,
    bounded,
    class_path,
    dump,
    one_line,
    printable,
    summary,
    traceback_text,
)

WORDS_CHARS_MAX = 60  # "... n characters left out ..." between head and tail


def raised(error: BaseException) -> BaseException:
    """Return the error with a traceback."""
    try:
        raise error  # noqa: TRY301  # that is all it is to do
    except BaseException as caught:  # noqa: BLE001  # that is what it is for
        return caught


@given(st.text(st.characters(), max_size=300))
def test_p12_any_text_becomes_fit_for_a_database(text: str) -> None:
    """No NUL, no lone surrogate, and nothing else changed."""
    fit = bounded(text)
    assert "\x00" not in fit
    fit.encode()
    if "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert fit == text


@given(st.text(max_size=200), st.integers(2, 100))
def test_f23_long_text_keeps_head_and_tail(text: str, limit: int) -> None:
    """What is left out is counted; short text is left alone."""
    fit = bounded(text.replace("\x00", ""), limit)
    if len(text.replace("\x00", "")) > limit:
        assert "characters left out" in fit
        assert len(fit) <= limit + WORDS_CHARS_MAX
        assert fit.startswith(text.replace("\x00", "")[: limit // 2])
        assert fit.endswith(text.replace("\x00", "")[-(limit // 2) :])
    else:
        assert fit == text.replace("\x00", "")


def test_p12_nul_and_surrogates_can_still_be_read() -> None:
    """They are shown as escapes."""
    assert bounded("a\0b\ud800c\u00e9") == "a\\x00b\\ud800c\u00e9"


STEERING = "\x1b[2J\r\x07\x9b31m\u202egnp\u2066\u200b\x00\ud800\u2028"
"""Clears a screen, rings, turns letters around, hides: what a terminal does with it is up to whoever wrote it."""


@given(st.text(st.characters() | st.sampled_from(STEERING), max_size=300))
def test_p12_nothing_steers_a_terminal(text: str) -> None:
    """What is shown is printable, and can be written; what was printable is as it was."""
    for shown, kept in ((printable(text), "\n\t"), (one_line(text), "")):
        assert all(char.isprintable() or char in kept for char in shown)
        shown.encode()
    assert one_line("Grüße, 世界 🎉") == "Grüße, 世界 🎉"


def test_p12_what_would_steer_a_terminal_can_still_be_read() -> None:
    """As an escape; a line that begins within the text is not taken for one of its own."""
    assert printable("a\x1b[31m\r\u202e\tb\n") == "a\\x1b[31m\\r\\u202e\tb\n"
    assert one_line("a\n2026-01-01 INFO stopped") == "a\\n2026-01-01 INFO stopped"
    assert summary(ValueError(f"{STEERING}\nsecond")).isprintable()


def test_a_class_is_named_by_its_path() -> None:
    """With its module, so that it can be imported; never longer than its column."""

    class Local(Exception): ...

    assert class_path(ValueError()) == "builtins.ValueError"
    assert class_path(Local()).endswith("test_a_class_is_named_by_its_path.<locals>.Local")
    assert len(class_path(type("X" * 1000, (Exception,), {})())) == 255
    assert class_path(type("X", (Exception,), {"__module__": "nul\0"})()) == "nul\\x00.X"


class HostileError(Exception):
    """Raises when it is looked at, in every way that telling an error uses."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__

    def __reduce__(self) -> NoReturn:
        raise KeyboardInterrupt


class NotesError(Exception):
    """Has notes that cannot be read."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise RuntimeError("no notes")


class SyntaxLikeError(SyntaxError):
    """Claims to be a syntax error and is not like one."""

    filename = lineno = text = offset = property(lambda self: object())


@pytest.mark.parametrize(
    "error", [HostileError(), NotesError(), SyntaxLikeError()], ids=lambda error: type(error).__name__
)
def test_f22_an_error_that_resists_is_told_at_least_by_name(error: Exception) -> None:
    """Whatever raises on the way is not let out."""
    assert type(error).__name__ in traceback_text(raised(error))


def test_a_traceback_ends_with_the_innermost_frames() -> None:
    """Of a deep one the end is kept: that is where it happened."""

    def deeper(levels: int) -> None:
        if levels == 0:
            raise ValueError("at the bottom")
        deeper(levels - 1)

    with pytest.raises(ValueError, match="at the bottom") as caught:
        deeper(300)
    text = traceback_text(caught.value)
    assert "at the bottom" in text
    assert "deeper(levels - 1)" in text


def test_causes_are_told_in_their_order() -> None:
    """The chain of an error belongs to it."""
    error = ValueError("effect")
    error.__cause__ = KeyError("cause")
    text = traceback_text(raised(error))
    assert text.index("cause") < text.index("effect")


def chained(length: int) -> Exception:
    """Return an error with that many causes."""
    error = ValueError("first")
    for number in range(length):
        following = ValueError(f"link {number}")
        following.__cause__ = error
        error = following
    return error


def grouped(depth: int) -> Exception:
    """Return groups within groups."""
    error: Exception = ValueError("x")
    for _ in range(depth):
        error = ExceptionGroup("group", [error, ValueError("y")])
    return error


@pytest.mark.parametrize(
    "error",
    [ValueError("x" * 100_000_000), chained(10_000), grouped(500), ValueError("\n" * 1_000_000)],
    ids=["message", "causes", "groups", "lines"],
)
def test_f23_monstrous_errors_are_told_soon_and_shortly(error: Exception) -> None:
    """100 MB of message, 10,000 causes, groups 500 deep, a million lines."""
    caught = raised(error)
    began = time.thread_time()
    text = traceback_text(caught)
    assert time.thread_time() - began < 1
    assert 0 < len(text) < 20_100


def test_json_is_compact_and_plain() -> None:
    """As django.tasks makes it, in ASCII, with any text."""
    assert dump({"args": (1, b"two"), "kwargs": {}}, "x") == '{"args":[1,"two"],"kwargs":{}}'
    assert dump("\0\ud800\u00e9", "x").isascii()
    assert json.loads(dump("\0\ud800\u00e9", "x")) == "\0\ud800\u00e9"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters()), st.lists))
def test_what_json_has_comes_back(value: Any) -> None:
    """Into text and back without a change."""
    assert json.loads(dump(value, "x")) == value


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), b"\xff", 10**5000], ids=["nan", "inf", "bytes", "int"])
def test_f25_values_that_json_lacks_are_refused_by_what_they_are(value: Any) -> None:
    """A PayloadError, which is a ValueError, that begins with what could not be stored."""
    with pytest.raises(PayloadError, match=r"^the result cannot be stored as JSON: "):
        dump([value], "the result")


@pytest.mark.parametrize("value", [object(), {1}, 1j, {(1, 2): 3}], ids=["object", "set", "complex", "key"])
def test_f25_types_that_json_lacks_are_a_type_error(value: Any) -> None:
    """As in django.tasks."""
    with pytest.raises(TypeError, match=r"^the result cannot be stored as JSON: "):
        dump(value, "the result")


def test_f25_the_limit_is_exact() -> None:
    """One byte more is refused, with both numbers."""
    assert len(dump("x" * (PAYLOAD_BYTES_MAX - 2), "it")) == PAYLOAD_BYTES_MAX
    with pytest.raises(PayloadError, match=r"^it cannot be stored: 1048577 bytes of JSON, the limit is 1048576$"):
        dump("x" * (PAYLOAD_BYTES_MAX - 1), "it")


def test_f25_endless_nesting_is_refused() -> None:
    """Circles and very deep lists."""
    circular: dict[str, Any] = {}
    circular["self"] = circular
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circular, deep):
        with pytest.raises(PayloadError, match="contains itself or is nested too deeply"):
            dump(value, "it")
