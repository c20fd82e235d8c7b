"""How jobs end: what they raise, what they return that cannot be stored, and what a violent end leaves."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

from tests.conformance import tasks, values
from tests.conformance.checks import (
    WORKED,
    Need,
    Steps,
    came_through,
    failed,
    latest,
    must,
    ran,
    same,
    should,
    succeeded,
    tag,
)


@must()
def exception() -> Steps:
    """A job that raised is FAILED with one error: the class's path and class."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    (error,) = failed(result).errors
    same((error.exception_class_path, error.exception_class), ("builtins.ValueError", ValueError))


@must()
def traceback() -> Steps:
    """The traceback tells the function and ends with the exception's class and message."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    text = failed(result).errors[0].traceback
    assert "tests/conformance/tasks.py" in text, text
    assert ", in fail" in text, text
    assert text.endswith("ValueError: this failed, plainly\n"), text


@must()
def failed_fields() -> Steps:
    """A job that raised has its times, one worker id and one attempt."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    now = failed(result)
    same((len(now.worker_ids), now.attempts), (1, 1), "worker_ids, attempts")
    assert now.started_at, "started_at is None"
    assert now.finished_at, "finished_at is None"
    assert now.last_attempted_at, "last_attempted_at is None"


@must(Need.ASYNC)
def coroutine() -> Steps:
    """So has a coroutine that raised."""
    result = tasks.fail_async.enqueue()
    yield WORKED
    (error,) = failed(result).errors
    same(error.exception_class, ValueError, "exception_class")
    assert error.traceback.endswith("ValueError: this failed, in a coroutine\n"), error.traceback


@must()
def classes_of_ones_own() -> Steps:
    """An exception's own class is found again, nested in another class, too."""
    results = {kind: tasks.fail.enqueue(kind.__name__) for kind in (values.Custom, values.Outer.Inner)}
    yield WORKED
    path = failed(results[values.Custom]).errors[0].exception_class_path
    same(path, "tests.conformance.values.Custom", "exception_class_path")
    assert failed(results[values.Custom]).errors[0].exception_class is values.Custom
    path = failed(results[values.Outer.Inner]).errors[0].exception_class_path
    same(path, "tests.conformance.values.Outer.Inner", "exception_class_path")


@must()
def awkward_exceptions() -> Steps:
    """Exceptions that cannot be pickled, printed or imported, groups and very long ones fail the job, too."""
    names = ("Custom", "Local", "BadStr", "group", "caused", "long", "object", "TimeoutError", "StopAsyncIteration")
    results = {name: tasks.fail.enqueue(name) for name in names} | {"recursion": tasks.fail_deeply.enqueue()}
    yield WORKED
    wrong = {name: str(latest(result).status) for name, result in results.items()}
    same(wrong, dict.fromkeys(results, "FAILED"), "status")


@must(alone="odd messages")
def odd_messages() -> Steps:
    """Exceptions with NUL and lone surrogates in their messages fail the job, too; it does not stay RUNNING."""
    results = {name: tasks.fail.enqueue(name) for name in ("NUL", "surrogate", "StopIteration")}
    yield WORKED
    if not all(latest(each).is_finished for each in results.values()):
        time.sleep(again_s())
        yield WORKED
    same({name: str(latest(each).status) for name, each in results.items()}, dict.fromkeys(results, "FAILED"), "status")


@should(alone="odd messages")
def odd_messages_at_once() -> Steps:
    """Such a job is FAILED right after it has run, by the exception that it raised."""
    results = {name: tasks.fail.enqueue(name) for name in ("NUL", "surrogate")}
    yield WORKED
    for name, result in results.items():
        same(_classes(failed(result)), ["builtins.ValueError"], f"the errors of {name}")


@must()
def causes() -> Steps:
    """The traceback tells the cause of an exception and the members of a group."""
    caused, group = tasks.fail.enqueue("caused"), tasks.fail.enqueue("group")
    yield WORKED
    text = failed(caused).errors[0].traceback
    assert "the cause" in text, text
    assert "the effect" in text, text
    text = failed(group).errors[0].traceback
    assert "first" in text, text
    assert "second" in text, text


def _ends_failed(name: str, kind: type[BaseException]) -> Steps:
    result, after = tasks.fail.enqueue(name), tag()
    tasks.mark.enqueue(after)
    yield WORKED
    same(ran(after), 1, "how often the job behind it ran")
    same([error.exception_class for error in failed(result).errors], [kind], "exception_class")


@must(alone="exit")
def system_exit() -> Steps:
    """SystemExit from a task fails that job; the next one runs."""
    yield from _ends_failed("SystemExit", SystemExit)


@must(alone="base")
def base_exception() -> Steps:
    """An exception that is no Exception fails that job; the next one runs."""
    yield from _ends_failed("NoSuper", values.NoSuper)


@should(Need.WORKER, alone="interrupt")
def keyboard_interrupt() -> Steps:
    """KeyboardInterrupt from a task, without anybody at a keyboard, fails that job; the next one runs."""
    yield from _ends_failed("KeyboardInterrupt", KeyboardInterrupt)


@should()
def other_base_exceptions() -> Steps:
    """So do GeneratorExit and CancelledError."""
    results = [tasks.fail.enqueue(name) for name in ("GeneratorExit", "CancelledError")]
    yield WORKED
    same([str(latest(result).status) for result in results], ["FAILED", "FAILED"], "status")


@must()
def no_json() -> Steps:
    """A value that is no JSON fails the job, with a TypeError or ValueError; it does not stay RUNNING."""
    results = {name: tasks.give_no_json.enqueue(name) for name in values.NO_JSON}
    yield WORKED
    seen = {name: str(latest(each).status) for name, each in results.items()}
    same(seen, dict.fromkeys(results, "FAILED"), "status")
    kinds = {error.exception_class for each in results.values() for error in latest(each).errors}
    assert kinds <= {TypeError, ValueError}, kinds


@must()
def bytes_that_are_no_text() -> Steps:
    """Bytes that are not UTF-8 fail the job, with a ValueError or TypeError."""
    result = tasks.give_bad_bytes.enqueue()
    yield WORKED
    (error,) = failed(result).errors
    assert issubclass(error.exception_class, ValueError | TypeError), error.exception_class_path


@must(alone="odd values")
def odd_values() -> Steps:
    """NaN, Infinity, integer keys, NUL and lone surrogates are returned, or fail the job; none stays RUNNING."""
    results = {name: tasks.give_odd.enqueue(name) for name in values.ODD}
    yield WORKED
    if not all(latest(each).is_finished for each in results.values()):
        time.sleep(again_s())
        yield WORKED
    stuck = {name: str(latest(each).status) for name, each in results.items() if not latest(each).is_finished}
    same(stuck, {}, "jobs that did not end")
    returned = {name: each for name, each in results.items() if str(latest(each).status) == "SUCCESSFUL"}
    came_through({name: partial(_value, each) for name, each in returned.items()}, values.ODD_FORM)


@should(alone="odd values")
def odd_values_at_once() -> Steps:
    """Such a job has ended right after it has run, and tells what was wrong with the value if something was."""
    results = {name: tasks.give_odd.enqueue(name) for name in values.ODD}
    yield WORKED
    stuck = {name: str(latest(each).status) for name, each in results.items() if not latest(each).is_finished}
    same(stuck, {}, "jobs that did not end")


@should()
def circles() -> Steps:
    """A value that contains itself fails the job."""
    result = tasks.give_circle.enqueue()
    yield WORKED
    failed(result)


@must(Need.WORKER, Need.RETRY)
def another_attempt() -> Steps:
    """A second attempt counts: attempts, worker_ids, last_attempted_at, and the first one's error stays."""
    one = tag()
    result = tasks.fails_at_first.enqueue(one)
    yield WORKED
    if ran(one) < 2:
        time.sleep(again_s())
        yield WORKED
    now = succeeded(result)
    same((now.return_value, now.attempts, len(now.worker_ids)), (2, 2, 2), "return_value, attempts, worker_ids")
    same(_classes(now), ["tests.conformance.values.Custom"], "errors")
    assert now.started_at < now.last_attempted_at <= now.finished_at, "the times are out of order"


@should(Need.WORKER, Need.RESULTS, alone="killed")
def killed_worker() -> Steps:
    """A job whose worker was killed does not stay RUNNING: it runs again or is FAILED, and the next one runs."""
    one, after = tag(), tag()
    result = tasks.kills_its_worker.enqueue(one)
    tasks.mark.enqueue(after)
    yield WORKED
    if not latest(result).is_finished:
        time.sleep(again_s())
        yield WORKED
    same(ran(after), 1, "how often the job behind it ran")
    now = latest(result)
    assert now.is_finished, f"the job is {now.status} after two rounds of the worker"
    if str(now.status) == "FAILED":
        assert now.errors, "the job is FAILED, and errors is empty"
        return
    same((now.return_value, now.attempts, len(now.worker_ids)), ([2, 2], 2, 2), "context.attempt, attempts, worker_ids")


def again_s() -> float:
    """Return after how long the backend runs a job again that failed or whose worker was killed, in s."""
    return float(os.environ.get("CONFORMANCE_AGAIN_S") or 0)


_killer: list[Any] = []  # the job that kills its workers, enqueued by whoever asks first


def killer() -> Any:
    """Return the job that all look at which are about killed workers."""
    if not _killer:
        _killer.append(tasks.kills_every_worker.enqueue(tag()))
    return _killer[0]


@should(Need.WORKER, Need.RESULTS, alone="killer")
def killer_of_workers() -> Steps:
    """A job that kills its worker every time is FAILED in the end, with errors."""
    result = killer()
    yield WORKED
    if not latest(result).is_finished:
        time.sleep(again_s())
        yield WORKED
    failed(result)


def _value(result: Any) -> Any:
    return succeeded(result).return_value


def _classes(result: Any) -> list[str]:
    return [error.exception_class_path for error in result.errors]
