"""The contract of django.tasks: what a backend promises to those who enqueue and to those who ask for results."""

from __future__ import annotations

import asyncio
import decimal
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone

from jobsup.backend import JobsupBackend
from jobsup.compat import (
    TASKS_APPS,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
)
from jobsup.models import Job
from jobsup.text import PAYLOAD_BYTES_MAX
from tests.db.conftest import JOBSUP
from tests.db.rows import statements_of
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.db.bench import Bench
    from tests.db.rows import Session

PACKAGE = "django_tasks" if TASKS_APPS else "django.tasks"


def nothing_enqueued(alias: str) -> bool:
    """Tell whether the table is empty."""
    return not Job.objects.using(alias).exists()


def test_the_four_flags_are_true() -> None:
    """What the rest of this file and the files beside it show in fact."""
    assert JobsupBackend.supports_defer
    assert JobsupBackend.supports_async_task
    assert JobsupBackend.supports_get_result
    assert JobsupBackend.supports_priority


def test_an_enqueued_task_has_a_true_result(routed: str) -> None:
    """Everything that is known at that moment, and nothing else."""
    before = timezone.now()
    result: Any = tasks.add.enqueue(1, b=2)
    assert before - timedelta(seconds=1) <= result.enqueued_at <= timezone.now() + timedelta(seconds=1)
    assert (result.task, result.backend, result.status) == (tasks.add, "default", TaskResultStatus.READY)
    assert (result.args, result.kwargs) == ([1], {"b": 2})
    assert isinstance(result.id, str)
    assert 0 < len(result.id) < 64
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert (result.errors, result.worker_ids, result.attempts, result.is_finished) == ([], [], 0, False)
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value


def test_a_result_read_back_is_the_same(routed: str, session: Session) -> None:
    """From any thread, by the task and by the backend."""
    result = tasks.add.enqueue(1, b=[2, None, {"c": True}])
    assert tasks.add.get_result(result.id) == result
    assert session(lambda: task_backends["default"].get_result(result.id)) == result


def test_enqueueing_and_reading_work_from_coroutines(routed: str) -> None:
    """The async twins do the same; the result can be refreshed there."""

    async def go() -> tuple[Any, Any]:
        result = await tasks.add.aenqueue(1, 2)
        again = await tasks.add.aget_result(result.id)
        await again.arefresh()
        return result, again

    result, again = asyncio.run(go())
    assert result == again
    assert result.status == TaskResultStatus.READY
    connections.close_all()


def test_enqueueing_is_one_statement(routed: str) -> None:
    """Whatever the backend does, it asks the database once."""
    tasks.noop.enqueue()
    with statements_of(routed) as statements:
        tasks.noop.enqueue()
    assert len(statements) == 1, statements


def test_d7_a_task_is_enqueued_with_the_transaction(routed: str, session: Session) -> None:
    """Not seen by others before the commit, never if it is rolled back."""
    with transaction.atomic(using=routed):
        result = tasks.noop.enqueue()
        with pytest.raises(TaskResultDoesNotExist):
            session(lambda: tasks.noop.get_result(result.id))
        assert tasks.noop.get_result(result.id) == result
        transaction.set_rollback(True, using=routed)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(result.id)


@pytest.mark.parametrize(
    "rubbish",
    [
        "abc",
        "",
        "-1",
        "0",
        "1.5",
        " 1",
        "1_0",
        "+1",
        "\u0663",
        "1" * 5000,
        str(10**30),
        10**30,
        None,
        1.5,
        float("inf"),
    ],
    ids=repr,
)
def test_a_result_that_does_not_exist_is_told(routed: str, rubbish: Any) -> None:
    """Whatever is asked for that is no id of a job; also what only looks like one."""
    ids = [int(tasks.noop.enqueue().id) for _ in range(2)]
    Job.objects.using(routed).filter(pk=ids[0]).update(id=1)
    Job.objects.using(routed).filter(pk=ids[1]).update(id=10)
    with pytest.raises(TaskResultDoesNotExist):
        tasks.noop.get_result(rubbish)
    with pytest.raises(TaskResultDoesNotExist):
        asyncio.run(tasks.noop.aget_result(rubbish))
    connections.close_all()


def test_another_tasks_result_is_a_mismatch(routed: str) -> None:
    """A task gives out its own results only; the backend gives out any."""
    mismatch = getattr(__import__(f"{PACKAGE}.exceptions", fromlist=["x"]), "TaskResultMismatch")  # noqa: B009
    result = tasks.add.enqueue(1, 2)
    with pytest.raises(mismatch):
        tasks.noop.get_result(result.id)
    assert task_backends["default"].get_result(result.id) == result


def test_a_result_is_refreshed_in_place(bench: Bench) -> None:
    """The same object shows what has become of the job."""
    result = tasks.add.enqueue(1, 2)
    bench.work()
    assert result.status == TaskResultStatus.READY
    result.refresh()
    assert (result.status, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, 3, 1)
    asyncio.run(result.arefresh())
    assert result.return_value == 3
    connections.close_all()


# ---- the arguments


def test_arguments_arrive_as_json_makes_them(bench: Bench) -> None:
    """Tuples are lists, bytes are text, the keys of dicts are strings; the result shows what the job gets."""
    given = [(1, (2,)), b"\xc3\xa9", {1: "one"}, True, None, 1.5, "\u00e9\U0001f600"]
    arrived = [[1, [2]], "\u00e9", {"1": "one"}, True, None, 1.5, "\u00e9\U0001f600"]
    result = tasks.echo.enqueue(given)
    assert result.args == [arrived]
    assert bench.finished(result).return_value == arrived


@pytest.mark.parametrize("text", ["before\0after", "\ud800 alone", "\udcff"], ids=["nul", "surrogate", "escape"])
def test_p12_f24_any_text_is_carried_through(bench: Bench, text: str) -> None:
    """NUL and lone surrogates go in as arguments and come out as the result (fault 24)."""
    result = tasks.echo.enqueue(value=text)
    assert result.kwargs == {"value": text}
    assert bench.finished(result).return_value == text


@pytest.mark.parametrize(
    "value",
    [datetime.now(UTC), uuid.uuid4(), decimal.Decimal(1), {1}, object(), [{"deep": {2}}]],
    ids=["datetime", "uuid", "decimal", "set", "object", "nested"],
)
def test_f26_arguments_that_are_no_json_are_refused_in_the_caller(routed: str, value: Any) -> None:
    """TypeError, as django.tasks has it, with the task's name; nothing is enqueued."""
    with pytest.raises(TypeError, match=r"the arguments of tests\.testapp\.tasks\.echo cannot be stored as JSON"):
        tasks.echo.enqueue(value)
    assert nothing_enqueued(routed)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"\xff", 10**5000], ids=["nan", "inf", "bytes", "int"])
def test_f26_values_that_json_lacks_are_refused_in_the_caller(routed: str, value: Any) -> None:
    """ValueError, in words; nothing is enqueued."""
    with pytest.raises(ValueError, match=r"the arguments of tests\.testapp\.tasks\.echo cannot be stored as JSON"):
        tasks.echo.enqueue(value=value)
    assert nothing_enqueued(routed)


def test_f26_arguments_that_are_too_large_are_refused_with_the_limit(routed: str) -> None:
    """A MiB as JSON and no more; the sentence names both numbers."""
    frame = len('{"args":[""],"kwargs":{}}')
    fits = "x" * (PAYLOAD_BYTES_MAX - frame)
    tasks.echo.enqueue(fits)
    with pytest.raises(ValueError, match=r"1048577 bytes of JSON, the limit is 1048576"):
        tasks.echo.enqueue(fits + "x")
    with pytest.raises(ValueError, match="the limit is 1048576"):
        tasks.echo.enqueue("x" * 100_000_000)
    assert Job.objects.using(routed).count() == 1


def test_f26_circular_arguments_are_refused(routed: str) -> None:
    """In words instead of a RecursionError."""
    circular: list[Any] = []
    circular.append(circular)
    with pytest.raises(ValueError, match="contains itself or is nested too deeply"):
        tasks.echo.enqueue(circular)
    assert nothing_enqueued(routed)


def test_a_refused_enqueue_leaves_the_callers_transaction_alone(routed: str) -> None:
    """The caller may catch the error and go on."""
    with transaction.atomic(using=routed):
        with pytest.raises(TypeError):
            tasks.echo.enqueue({1})
        tasks.echo.enqueue(1)
    assert Job.objects.using(routed).count() == 1


def test_task_enqueued_is_sent_with_the_backends_class(routed: str) -> None:
    """Once per enqueue, with the result that the caller gets."""
    heard: list[Any] = []

    def hear(sender: Any, task_result: Any, **_: Any) -> None:
        heard.append((sender, task_result))

    task_enqueued.connect(hear)
    try:
        result = tasks.noop.enqueue()
    finally:
        task_enqueued.disconnect(hear)
    assert heard == [(JobsupBackend, result)]


def test_making_a_backend_touches_nothing() -> None:
    """It happens while modules are imported: no model, no router, no connection, no complaint about settings."""
    with override_settings(JOBSUP={"NONSENSE": 1}, DATABASE_ROUTERS=[None]):
        backend = JobsupBackend("default", {"BACKEND": JOBSUP})
        assert backend.queues == {"default"}
        assert backend.check() == []
