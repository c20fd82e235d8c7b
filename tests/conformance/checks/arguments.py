"""What may be sent to a task and how it arrives: JSON as `django.tasks` makes it plain, or refused in the caller."""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import async_to_sync

from tests.conformance import api, journal, tasks, values
from tests.conformance.checks import WORKED, Need, Steps, came_through, must, raises, same, should, succeeded, tag


def _arrived(name: str) -> Any:
    lines = journal.read("arrived", tag=name)
    assert len(lines) == 1, f"the job ran {len(lines)} times"
    return lines[0]["value"]


def _answer(value: Any) -> str:
    """Return the name of the exception with which a value is refused."""
    try:
        tasks.noop.enqueue(value)
    except Exception as error:  # noqa: BLE001  # it is judged by its name
        return type(error).__name__
    return "nothing"


@must()
def positions_and_keywords() -> Steps:
    """Arguments arrive by position and by name, defaults are the function's."""
    results = [tasks.add.enqueue(1), tasks.add.enqueue(1, 5), tasks.add.enqueue(two=3, one=1), tasks.echo.enqueue()]
    yield WORKED
    seen = [succeeded(result).return_value for result in results]
    same(seen, [3, 6, 4, {"args": [], "kwargs": {}}], "what was returned")


@must()
def plain_values() -> Steps:
    """What JSON knows arrives as it was sent: big numbers, floats, unicode, deep and long values."""
    sent = {name: tag() for name in values.PLAIN}
    for name, mine in sent.items():
        tasks.arrive.enqueue(mine, values.PLAIN[name])
    yield WORKED
    came_through({name: partial(_arrived, mine) for name, mine in sent.items()}, values.PLAIN)


@must()
def tuples() -> Steps:
    """A tuple arrives as a list."""
    one = tag()
    tasks.arrive.enqueue(one, values.NORMALISED["tuple"][0]())
    yield WORKED
    came_through({"tuple": partial(_arrived, one)}, values.PLAIN_FORM)


@should()
def normalised_values() -> Steps:
    """Bytes arrive as text, ranges and other sequences as lists, mappings as dicts."""
    sent, refused = {name: tag() for name in values.NORMALISED}, {}
    for name, mine in sent.items():
        try:
            tasks.arrive.enqueue(mine, values.NORMALISED[name][0]())
        except Exception as error:  # noqa: BLE001  # each is to be told
            refused[name] = type(error).__name__
    yield WORKED
    same(refused, {}, "what was refused")
    came_through({name: partial(_arrived, mine) for name, mine in sent.items()}, values.PLAIN_FORM)


@must()
def result_shows_them_normalised() -> None:
    """The result of enqueue() shows arguments as they will arrive."""
    result = tasks.noop.enqueue((1, 2), b=(3,))
    same((result.args, result.kwargs), ([[1, 2]], {"b": [3]}), "args, kwargs")


@must()
def odd_values() -> Steps:
    """NUL, lone surrogates, NaN, Infinity and integer keys (as text, maybe) arrive, or are refused in the caller."""
    sent: dict[str, str] = {}
    for name, value in values.ODD.items():
        try:
            tasks.arrive.enqueue(mine := tag(), value)
        except Exception:  # noqa: BLE001  # a refusal of whatever kind, in the caller, is all right
            continue
        sent[name] = mine
    yield WORKED
    came_through({name: partial(_arrived, mine) for name, mine in sent.items()}, values.ODD_FORM)


@must()
def no_json() -> None:
    """datetime, date, UUID, Decimal, set and any object are refused with TypeError, in the caller."""
    answers = {name: _answer(make()) for name, make in values.NO_JSON.items()}
    wrong = {name: answer for name, answer in answers.items() if answer != "TypeError"}
    same(wrong, {}, "what came instead of a TypeError")


@must()
def no_json_within() -> None:
    """So they are inside of lists and dicts, as keywords, as keys, and by aenqueue()."""
    moment = values.NO_JSON["datetime"]()
    for arguments in ([[1, [moment]]], [{"a": {"b": moment}}], [{moment: 1}]):
        with raises(TypeError):
            tasks.noop.enqueue(*arguments)
    with raises(TypeError):
        tasks.noop.enqueue(when=moment)
    with raises(TypeError):
        async_to_sync(tasks.noop.aenqueue)(moment)


@must()
def bytes_that_are_no_text() -> None:
    """Bytes that are not UTF-8 are refused in the caller."""
    with raises(Exception):
        tasks.noop.enqueue(b"\xff\xfe")


@must()
def refused_means_not_enqueued() -> Steps:
    """After such a refusal nothing was enqueued and no signal sent."""
    before = len(journal.read("task_enqueued"))
    for value in (object(), b"\xff"):
        with raises(Exception):
            tasks.arrive.enqueue(tag("refused"), value)
    same(len(journal.read("task_enqueued")) - before, 0, "signals sent")
    yield WORKED
    same([line for line in journal.read("arrived") if line["tag"].startswith("refused")], [], "what ran")


@should()
def circles() -> None:
    """A value that contains itself is refused in the caller."""
    with raises(Exception):
        tasks.noop.enqueue(values.circle())


@should()
def keywords_like_those_of_the_machinery() -> Steps:
    """Tasks may have keywords called task, args, kwargs, context, priority, run_after."""
    words = dict.fromkeys(("task", "args", "kwargs", "context", "priority", "run_after", "backend"), 1)
    result = tasks.echo.enqueue(**words)
    yield WORKED
    same(succeeded(result).return_value, {"args": [], "kwargs": words}, "what arrived")


@should()
def wrong_number_of_arguments() -> Steps:
    """Arguments that the function does not take fail the job with a TypeError, not the worker."""
    result = tasks.add.enqueue(1, 2, 3, 4)
    yield WORKED
    if not api.default_task_backend.supports_get_result:
        return
    now = api.default_task_backend.get_result(result.id)
    same((str(now.status), [error.exception_class for error in now.errors]), ("FAILED", [TypeError]))


@must(Need.RESULTS)
def stored_arguments() -> Steps:
    """The stored result shows the same arguments, before and after the run."""
    result = tasks.echo.enqueue(1, (2, 3), a="ü", b=None)
    wanted = ([1, [2, 3]], {"a": "ü", "b": None})
    before = api.default_task_backend.get_result(result.id)
    same((before.args, before.kwargs), wanted, "args, kwargs before")
    yield WORKED
    now = succeeded(result)
    same((now.args, now.kwargs), wanted, "args, kwargs after")
