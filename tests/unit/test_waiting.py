"""What a wait comes to as a job stands, and what nobody can wait for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import FailedAttempt, Status
from jobsup.sql import LoadedRow
from jobsup.waiting import Waited, check, judge, seconds

if TYPE_CHECKING:
    from jobsup.waiting import Until

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YES = Waited(ok=True, why=None)
NO = Waited(ok=False, why="ValueError: no such file")
CANCELLED = Waited(ok=False, why="the job was cancelled")
FAILED = FailedAttempt(attempt=1, traceback="Traceback (most recent call last):\n  ...\nValueError: no such file\n")


def job(status: Status, *, worker: str = "", **values: Any) -> LoadedRow:
    """Return a job that stands so."""
    return LoadedRow(1, "t", "q", "b", 0, "{}", None, None, 1, 1, worker, status, NOW, None, None, None, None)._replace(
        **values
    )


@pytest.mark.parametrize(
    ("row", "failures", "started", "ready", "finished"),
    [
        (job(Status.READY), [], None, None, None),
        (job(Status.SCHEDULED), [], None, None, None),
        (job(Status.RUNNING), [], None, None, None),
        (job(Status.RUNNING, worker="w"), [], YES, None, None),
        (job(Status.RUNNING, worker="w", ready_at=NOW), [], YES, YES, None),
        (job(Status.SCHEDULED), [FAILED], YES, None, None),
        (job(Status.SUCCESSFUL), [], YES, YES, YES),
        (job(Status.FAILED), [FAILED], YES, NO, NO),
        (job(Status.FAILED, ready_at=NOW), [FAILED], YES, YES, NO),
        (job(Status.CANCELLED), [], CANCELLED, CANCELLED, CANCELLED),
    ],
)
def test_h_what_a_wait_comes_to(
    row: LoadedRow, failures: list[FailedAttempt], started: Waited, ready: Waited, finished: Waited
) -> None:
    """A failed attempt that is followed by another one is not the end."""
    wanted: dict[Until, Waited] = {"started": started, "ready": ready, "finished": finished}
    assert {until: judge(until, row, failures) for until in wanted} == wanted


def test_h_a_wait_is_a_pair_and_true_if_it_happened() -> None:
    """(True, None) or (False, why), and `if result.wait():` says what it seems to say."""
    ok, why = Waited(ok=False, why="too late")
    assert (ok, why) == (False, "too late")
    assert not Waited(ok=False, why="too late")
    assert YES == (True, None)
    assert bool(YES)


@pytest.mark.parametrize("given", [3, 3.0, timedelta(seconds=3)])
def test_h_seconds_and_timedeltas(given: float | timedelta) -> None:
    """None is for ever."""
    assert seconds(given) == 3.0
    assert seconds(None) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (-1, "timeout is -1: it must not be negative"),
        (float("nan"), "timeout is nan: it must not be negative"),
        ("3", "timeout is '3': expected seconds, a timedelta"),
        (True, "timeout is True: expected seconds, a timedelta"),
    ],
)
def test_h_wrong_timeouts_are_refused(given: Any, words: str) -> None:
    """In words."""
    with pytest.raises((TypeError, ValueError), match=words):
        seconds(given)


def test_h_only_what_happens_to_a_job_can_be_waited_for() -> None:
    """The error says what there is."""
    with pytest.raises(ValueError, match="until is 'done': expected one of 'started', 'ready', 'finished'"):
        check("done")
