"""Jobs that misbehave within Python (faults 20 to 27): each ends with its reason, the worker goes on to the next."""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from jobsup.compat import TaskResultDoesNotExist, TaskResultStatus, task_started
from jobsup.models import Status
from jobsup.registry import import_tasks
from jobsup.text import TRACEBACK_CHARS_MAX
from tests.db import misfits
from tests.db.rows import failures_of, put, row
from tests.testapp import nasty, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.db.bench import Bench

FAILED = TaskResultStatus.FAILED
SOON_S = 1.0  # of processor time; pytest's and Django's own logging of the same error included
TOLD_CHARS_MAX = TRACEBACK_CHARS_MAX + 100  # and the words for what was left out
BROKEN = "tests.db.broken"


def failed(bench: Bench, result: Any, within_s: float = SOON_S) -> Any:
    """Run a job that fails, with another one after it that has to run well; return how the first one ended."""
    following = tasks.add.enqueue(1, 2)
    began = time.thread_time()
    bench.work()
    took_s = time.thread_time() - began
    following.refresh()
    result.refresh()
    assert following.return_value == 3
    assert result.status == FAILED
    assert took_s < within_s
    [error] = result.errors
    assert 0 < len(error.traceback) <= TOLD_CHARS_MAX
    return error


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("SystemExit", "builtins.SystemExit"),
        ("SystemExit(0)", "builtins.SystemExit"),
        ("KeyboardInterrupt", "builtins.KeyboardInterrupt"),
        ("GeneratorExit", "builtins.GeneratorExit"),
        ("BaseException", "builtins.BaseException"),
        ("StopIteration", "builtins.StopIteration"),
        ("MemoryError", "builtins.MemoryError"),
    ],
)
def test_f20_f21_whatever_is_raised_is_a_failure(bench: Bench, name: str, path: str) -> None:
    """Also what slips through `except Exception`; SystemExit(0) is no success."""
    error = failed(bench, misfits.raises.enqueue(name))
    assert error.exception_class_path == path
    assert error.traceback.startswith("Traceback")


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (nasty.sys_exit, "builtins.SystemExit"),
        (nasty.raise_base_exception, "tests.testapp.nasty.NotAnExceptionError"),
        (nasty.interrupt, "builtins.KeyboardInterrupt"),
    ],
    ids=["sys.exit", "base", "interrupt"],
)
def test_f21_ways_to_leave_end_only_the_job(bench: Bench, result: Any, path: str) -> None:
    """sys.exit(), a BaseException of one's own, Ctrl-C's exception."""
    assert failed(bench, result.enqueue()).exception_class_path == path


@pytest.mark.parametrize(
    ("name", "path"),
    [("HostileError", "tests.db.misfits.HostileError"), ("Surrogate", "builtins.ValueError")],
)
def test_f22_f24_errors_that_resist_being_told_are_told(bench: Bench, name: str, path: str) -> None:
    """`__str__`, `__repr__`, `__reduce__` and notes that raise; text that databases refuse."""
    error = failed(bench, misfits.raises.enqueue(name))
    assert error.exception_class_path == path
    assert name.removesuffix("Error") in error.traceback or r"before\x00after \ud800" in error.traceback


def test_f22_an_error_that_cannot_be_pickled_is_told(bench: Bench) -> None:
    """It is told in the process where it happened."""
    error = failed(bench, nasty.unpicklable_error.enqueue())
    assert "UnpicklableError" in error.traceback


def test_f23_a_huge_message_keeps_its_head_and_its_tail(bench: Bench) -> None:
    """100 MB of message become a bounded text, soon."""
    error = failed(bench, nasty.huge_error.enqueue(100_000_000), within_s=SOON_S * 4)
    assert error.traceback.startswith("Traceback")
    assert error.traceback.endswith("x\n")
    assert "characters left out" in error.traceback


@pytest.mark.parametrize(
    "result",
    [lambda: misfits.long_chain.enqueue(10_000), nasty.deep_error.enqueue, lambda: misfits.group.enqueue(1000, 50)],
    ids=["causes", "recursion", "groups"],
)
def test_f23_endless_errors_are_bounded(bench: Bench, result: Any) -> None:
    """A chain of 10,000 causes, a recursion without end, thousands of errors in groups: soon told."""
    failed(bench, result(), within_s=SOON_S * 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("object", "the result cannot be stored as JSON: Unsupported type"),
        ("set", "the result cannot be stored as JSON: Unsupported type"),
        ("datetime", "the result cannot be stored as JSON: Unsupported type"),
        ("decimal", "the result cannot be stored as JSON: Unsupported type"),
        ("uuid", "the result cannot be stored as JSON: Unsupported type"),
        ("NaN", "the result cannot be stored as JSON: "),
        ("infinity", "the result cannot be stored as JSON: "),
        ("not utf-8", "the result cannot be stored as JSON: "),
        ("huge number", "the result cannot be stored as JSON: "),
        ("circular", "the result cannot be stored: it contains itself or is nested too deeply"),
        ("deep", "the result cannot be stored: it contains itself or is nested too deeply"),
        ("too large", "the result cannot be stored: 1048578 bytes of JSON, the limit is 1048576"),
    ],
)
def test_f25_a_result_that_cannot_be_stored_fails_the_job_in_words(bench: Bench, name: str, words: str) -> None:
    """The job is final, the sentence says why and names the limit."""
    assert words in failed(bench, misfits.returns.enqueue(name)).traceback


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tuple", [1, [2, "three"]]),
        ("text", "before\0after \ud800 \u00e9 \U0001f600"),
        ("keys", {"1": "one", "two": 2}),
    ],
)
def test_f24_f25_results_are_json_as_arguments_are(bench: Bench, name: str, value: Any) -> None:
    """Tuples are lists, any text is carried through, keys are strings; NUL and surrogates too."""
    assert bench.finished(misfits.returns.enqueue(name)).return_value == value


@pytest.fixture
def _broken_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    for name, text in (("raises", "1 / 0"), ("leaves", "raise SystemExit"), ("typo", "def")):
        (tmp_path / f"broken_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = ["broken_raises", "broken_leaves", "broken_typo"]
    with override_settings(JOBSUP={"TASK_MODULES": modules}):
        assert list(import_tasks()) == modules
        yield
    import_tasks()


@pytest.mark.usefixtures("_broken_module")
@pytest.mark.parametrize(
    "path",
    [
        "no.such.module.function",
        "tests.testapp.tasks.renamed",
        "tests.db.misfits.no_task",
        "tests.db.misfits.HostileError",
        "tests.testapp",
        "nodots",
        "..",
        ".relative.path",
        "broken_raises.function",
        "broken_leaves.function",
        "broken_typo.function",
    ],
)
def test_f27_a_path_to_no_task_fails_the_job_in_words(bench: Bench, path: str) -> None:
    """Unknown, renamed, no task, or a module that raises at import: "no task ...", and other jobs go on."""
    [pk] = put(bench.store, task=path)
    [following] = put(bench.store)
    bench.work()
    assert row(bench.store, pk).status == Status.FAILED
    [told] = failures_of(bench.store, pk)
    assert told.exception_class_path == "jobsup.errors.TaskNotFound"
    assert f"no task {path}" in told.traceback
    assert row(bench.store, following).status == Status.SUCCESSFUL
    with pytest.raises(TaskResultDoesNotExist, match=f"{pk}: no task"):
        tasks.noop.get_result(str(pk))


def test_f27_arguments_that_do_not_fit_fail_the_job(bench: Bench) -> None:
    """A function whose parameters changed since the enqueue raises as any call would."""
    assert failed(bench, tasks.add.enqueue(1, 2, 3)).exception_class_path == "builtins.TypeError"


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"args": 1}', "null"])
def test_f47_arguments_spoiled_by_hand_fail_that_job_only(bench: Bench, arguments: str) -> None:
    """A row that somebody edited does not take the worker down."""
    [spoiled] = put(bench.store, arguments=arguments)
    [following] = put(bench.store)
    bench.work()
    assert row(bench.store, spoiled).status == Status.FAILED
    assert row(bench.store, following).status == Status.SUCCESSFUL


def test_the_worker_forgets_its_jobs(bench: Bench) -> None:
    """Neither the rows nor the errors of jobs that ended are kept alive."""
    bench.finished(tasks.fail.enqueue("x"))
    bench.finished(tasks.noop.enqueue())
    assert bench.runner._jobs == {}
    assert sys.exc_info() == (None, None, None)


def test_records_name_the_job_that_they_belong_to(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What is said of a failure says which job, which attempt and why."""
    result = bench.finished(misfits.attempts.using(max_attempts=2, backoff=1.23456).enqueue(9))
    path = "tests.db.misfits.attempts"
    assert f"job {result.id} {path}, attempt 1, failed, next attempt in 1.2 s: builtins.ValueError" in caplog.text
    bench.tried_again(result)
    assert f"job {result.id} {path}, attempt 2, failed: builtins.ValueError" in caplog.text


def test_a_receiver_of_task_started_that_has_no_name_fails_no_job(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Django itself fails when it wants to tell that such a one has failed."""

    def raises(text: str, **_: Any) -> None:
        raise ValueError(text)

    receiver = functools.partial(raises, "not today")
    task_started.connect(receiver)
    try:
        assert bench.finished(tasks.add.enqueue(1, 2)).return_value == 3
    finally:
        task_started.disconnect(receiver)
    assert "a receiver of task_started failed: builtins.ValueError: not today" in caplog.text
