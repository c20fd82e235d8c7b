"""The judge: rows and errors in, verdicts out; users' functions asked in workers only, and never trusted."""

from __future__ import annotations

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from jobsup import Backoff, Discard, JobTimeout, MemoryLimitExceeded, Retry, Snooze, WorkerLost, task
from jobsup import judge as judge_module
from jobsup.judge import Judge
from jobsup.models import Status
from jobsup.options import text_of

NAN = math.nan


class Busy(ConnectionError):
    """Derived from what is built in."""


Alias = Busy


def plain() -> None:
    """Do nothing."""


def by_error(error: BaseException, _result: Any) -> Any:
    """Do what the exception says."""
    if isinstance(error, LookupError):
        raise error
    return error.args[0]


def row(options: str | None = None, *, max_attempts: int | None = None, attempt: int = 1, uncounted: int = 0) -> Any:
    """Return what the judge asks of a row."""
    return SimpleNamespace(
        id=7, task="a.task", attempt=attempt, uncounted=uncounted, max_attempts=max_attempts, options=options
    )


RESULT = SimpleNamespace(task=SimpleNamespace(backoff=by_error))
JUDGE = Judge(5, lambda: 0.5)


def waits(options: dict[str, Any], error: BaseException, *, result: Any = RESULT, **changes: Any) -> float | None:
    """Return for how long a job that raised waits; None if it failed."""
    text = text_of(task(**options)(plain)) if options else None
    verdict = JUDGE.raised(row(text, **changes), result, error)
    assert (verdict.status is Status.FAILED) or not verdict.uncounted
    return None if verdict.status is Status.FAILED else verdict.delay_s


def test_each_form_of_backoff_says_how_long_a_job_waits() -> None:
    """Counted by the attempts that count."""
    assert waits({}, ValueError()) is None
    assert waits({}, ValueError(), max_attempts=9, attempt=3) == 4
    assert waits({"backoff": 7}, ValueError(), attempt=3) == 7
    assert waits({"backoff": 7}, ValueError(), attempt=5) is None
    assert waits({"backoff": Backoff(2, 3, 100, 1)}, ValueError(), attempt=3) == 9
    assert waits({"backoff": Backoff(2, 3, 100, 1)}, ValueError(), attempt=12, uncounted=10) == 3
    assert waits({"backoff": by_error}, ValueError(12)) == 12
    assert waits({"backoff": by_error}, ValueError(timedelta(minutes=1))) == 60
    assert waits({"backoff": by_error}, ValueError(None)) is None
    assert waits({"backoff": lambda error, _result: error.args[0] * 2}, ValueError(6)) == 6, "the task's own: by_error"
    assert waits({"backoff": by_error}, ValueError(12), result=None, attempt=2) == 2, "it did not come so far"


@pytest.mark.parametrize(
    ("backoff", "error", "words"),
    [
        (by_error, ValueError("soon"), "TypeError: it returned 'soon': expected seconds or a timedelta"),
        (by_error, ValueError(-1), "ValueError: it returned -1: must lie between 0 and"),
        (by_error, ValueError(NAN), "it returned nan"),
        (by_error, ValueError(True), "it returned True"),  # noqa: FBT003
        (by_error, KeyError("k"), "KeyError: 'k'"),
        ("no.such.function", ValueError(1), "No module named 'no'"),
        (f"{__name__}.NAN", ValueError(1), "it is no function any more"),
    ],
)
def test_a_backoff_of_no_use_is_told_and_the_default_stands_in(
    caplog: pytest.LogCaptureFixture, backoff: Any, error: BaseException, words: str
) -> None:
    """The job is not lost for it."""
    assert waits({"backoff": backoff}, error, attempt=3) == 4
    assert "job 7 a.task: its backoff is of no use, and the default is taken: " in caplog.text
    assert words in caplog.text


def test_exceptions_are_known_by_other_paths_too(caplog: pytest.LogCaptureFixture) -> None:
    """In a worker, by import; a path that leads nowhere names nothing, and is told."""
    assert waits({"retry_on": f"{__name__}.Alias"}, Busy(), max_attempts=2) == 1
    assert waits({"retry_on": (f"{__name__}.Alias",)}, ConnectionError(), max_attempts=2) is None
    assert waits({"discard_on": f"{__name__}.Alias"}, Busy(), max_attempts=2) is None
    assert not caplog.records
    assert waits({"retry_on": "no.such.Error"}, Busy(), max_attempts=2) is None
    assert "the exception no.such.Error cannot be found: builtins.ModuleNotFoundError" in caplog.text
    assert waits({"retry_on": f"{__name__}.by_error"}, Busy(), max_attempts=2) is None, "no class"


def test_a_job_has_its_own_word() -> None:
    """Retry: by the limit that everybody has, whatever `retry_on` names. Discard: at once."""
    assert waits({}, Retry()) == 1
    assert waits({}, Retry(after=30)) == 30
    assert waits({}, Retry(30), attempt=5) is None
    assert waits({}, Retry(30), attempt=9, uncounted=5) == 30
    assert waits({"retry_on": ValueError}, Retry(timedelta(minutes=1)), max_attempts=2) == 60
    assert waits({"backoff": 7}, Retry(), attempt=2) == 7
    assert waits({}, Retry(1), max_attempts=1) is None
    assert waits({}, Discard("no use"), max_attempts=9) is None
    assert JUDGE.raised(row(max_attempts=1), RESULT, Snooze(60)) == (Status.SCHEDULED, 60, True)


def test_a_snooze_too_many_is_told() -> None:
    """In the job's error."""
    error = Snooze(60)
    assert JUDGE.raised(row(attempt=30_000, uncounted=29_999), RESULT, error).status is Status.FAILED
    assert error.__notes__ == ["that is too often: it was claimed 30000 times"]


def lost(options: dict[str, Any], kind: type[BaseException], **changes: Any) -> Any:
    """Judge a job whose worker ended, as a supervisor does."""
    by_a_limit = kind is not WorkerLost
    text = text_of(task(**options)(plain)) if options else None
    verdict = JUDGE.lost(row(text, **changes), kind, by_a_limit=by_a_limit, at_once=False)
    return None if verdict.status is Status.FAILED else verdict.delay_s


def test_a_supervisor_judges_without_importing_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function is asked in workers only; the default stands in for it."""
    monkeypatch.setattr(judge_module, "declared_at", None)
    assert lost({}, WorkerLost) == 1
    assert lost({"backoff": by_error}, WorkerLost, attempt=2) == 2
    assert lost({"backoff": lambda _error, _result: 9}, WorkerLost, attempt=2) == 2
    assert lost({"backoff": 7}, WorkerLost) == 7
    assert lost({"backoff": Backoff(8, jitter=0.5)}, WorkerLost) == 6
    assert lost({"retry_on": ValueError}, WorkerLost) == 1
    assert lost({"discard_on": "jobsup.WorkerLost"}, WorkerLost) is None
    assert lost({"discard_on": "shop.Broken"}, WorkerLost) == 1
    for kind in (JobTimeout, MemoryLimitExceeded):
        assert lost({}, kind) is None
        assert lost({}, kind, max_attempts=2) == 1
        assert lost({"retry_on": kind}, kind) == 1
        assert lost({"retry_on": ValueError}, kind, max_attempts=2) is None
        assert lost({"discard_on": kind}, kind, max_attempts=2) is None
