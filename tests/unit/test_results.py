"""Results: what a row and its failed attempts look like to django.tasks; no database is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobsup.compat import TaskResultStatus
from jobsup.errors import TaskNotFound
from jobsup.models import FailedAttempt, Status
from jobsup.registry import find_task
from jobsup.results import new_result, result_of, task_of
from jobsup.sql import LoadedRow
from tests.testapp import tasks

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATH = "tests.testapp.tasks.add"
READY, RUNNING = TaskResultStatus.READY, TaskResultStatus.RUNNING
FAILED, SUCCESSFUL = TaskResultStatus.FAILED, TaskResultStatus.SUCCESSFUL


def loaded(**changes: Any) -> LoadedRow:
    """Return a row as it stands after the enqueue, changed."""
    row = LoadedRow(
        7, PATH, "default", "default", 0, '{"args":[1],"kwargs":{"b":2}}', None, None, 0, None, "", Status.READY,
        NOW, None, None, None, None,
    )  # fmt: skip
    return row._replace(**changes)


def attempt(number: int) -> FailedAttempt:
    """Return a failed attempt."""
    return FailedAttempt(
        job_id=7,
        attempt=number,
        worker=f"worker {number}",
        ended_at=NOW,
        exception_class_path="builtins.ValueError",
        traceback=f"trouble {number}",
    )


def seen(failures: int = 0, **changes: Any) -> Any:
    """Return the result of a row with so many failed attempts."""
    return result_of(tasks.add, loaded(**changes), [attempt(number + 1) for number in range(failures)])


@pytest.mark.parametrize(
    ("failures", "changes", "status", "workers"),
    [
        (0, {"status": Status.READY}, READY, []),
        (0, {"status": Status.SCHEDULED}, READY, []),
        (0, {"status": Status.RUNNING, "attempt": 1}, READY, []),
        (0, {"status": Status.RUNNING, "attempt": 1, "worker": "w"}, RUNNING, ["w"]),
        (1, {"status": Status.SCHEDULED, "attempt": 1, "worker": "worker 1"}, READY, ["worker 1"]),
        (1, {"status": Status.READY, "attempt": 1, "worker": "worker 1"}, READY, ["worker 1"]),
        (1, {"status": Status.RUNNING, "attempt": 2}, READY, ["worker 1"]),
        (1, {"status": Status.RUNNING, "attempt": 2, "worker": "w"}, RUNNING, ["worker 1", "w"]),
        (1, {"status": Status.FAILED, "attempt": 1, "worker": "worker 1"}, FAILED, ["worker 1"]),
        (2, {"status": Status.SUCCESSFUL, "attempt": 3, "worker": "w"}, SUCCESSFUL, ["worker 1", "worker 2", "w"]),
        (0, {"status": Status.CANCELLED}, FAILED, []),
    ],
)
def test_status_and_workers_at_every_moment(
    failures: int, changes: dict[str, Any], status: TaskResultStatus, workers: list[str]
) -> None:
    """One worker for each attempt that began, and attempts are counted by them."""
    result = seen(failures, **changes)
    assert result.status == status
    assert result.worker_ids == workers
    assert result.attempts == len(workers)
    cancelled = ["the job was cancelled while it waited"] * (changes["status"] is Status.CANCELLED)
    assert [error.traceback for error in result.errors] == [
        *(f"trouble {number + 1}" for number in range(failures)),
        *cancelled,
    ]


def test_the_value_is_there_only_after_a_success() -> None:
    """Null is a value too."""
    assert seen(status=Status.SUCCESSFUL, attempt=1, worker="w", result="null").return_value is None
    assert seen(status=Status.SUCCESSFUL, attempt=1, worker="w", result="[1]").return_value == [1]
    for status in set(Status) - {Status.SUCCESSFUL}:
        with pytest.raises(ValueError, match="Task"):
            _ = seen(status=status, result=None).return_value


def test_times_and_arguments_are_those_of_the_row() -> None:
    """Each in its own field."""
    times: dict[str, Any] = {
        "started_at": NOW + timedelta(1),
        "last_attempted_at": NOW + timedelta(2),
        "finished_at": NOW + timedelta(3),
    }
    result = seen(**times)
    assert {name: getattr(result, name) for name in times} == times
    assert (result.enqueued_at, result.args, result.kwargs) == (NOW, [1], {"b": 2})
    assert (result.id, result.backend, result.task) == ("7", "default", tasks.add)


def test_a_new_result_is_what_is_read_back() -> None:
    """The caller of enqueue() sees the same as anybody else."""
    assert new_result(tasks.add, 7, NOW, loaded().arguments) == seen()


def test_a_task_as_it_was_enqueued() -> None:
    """The row's own options, also ones that the settings have no place for any more; the task itself if none differ."""
    assert task_of(loaded()) is tasks.add
    own = task_of(loaded(queue="removed since", priority=99, run_after=NOW, backend="removed too", max_attempts=9))
    assert (own.queue_name, own.priority, own.run_after, own.backend) == ("removed since", 99, NOW, "removed too")
    assert (own.max_attempts, own.func) == (9, tasks.add.func)
    assert tasks.add.queue_name == "default"


@pytest.mark.parametrize(
    ("column", "name", "value"),
    [
        ("priority", "priority", 5),
        ("queue", "queue_name", "slow"),
        ("run_after", "run_after", NOW),
        ("backend", "backend", "other"),
        ("max_attempts", "max_attempts", 3),
    ],
)
def test_each_option_alone_makes_a_task_of_its_own(column: str, name: str, value: Any) -> None:
    """And leaves the others as they were declared."""
    own = task_of(loaded(**{column: value}))
    options = ("priority", "queue_name", "run_after", "backend", "max_attempts")
    assert {option for option in options if getattr(own, option) != getattr(tasks.add, option)} == {name}
    assert getattr(own, name) == value


@pytest.mark.parametrize("path", ["no.such.thing", "tests.testapp.tasks.Any", "tests.testapp", "x", "", "..", ".a.b"])
def test_f27_a_path_to_no_task_is_told(path: str) -> None:
    """In words that begin with the path."""
    with pytest.raises(TaskNotFound, match=r"^no task "):
        find_task(path)


def test_a_task_that_was_not_there_can_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under another name than its own: who renames a task keeps the old name beside the new one."""
    with pytest.raises(TaskNotFound):
        find_task("tests.testapp.tasks.later")
    monkeypatch.setattr(tasks, "later", tasks.add, raising=False)
    assert find_task("tests.testapp.tasks.later") is tasks.add
