"""The contract of django.tasks: what a task may ask for, and how what it may not is refused."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.test import override_settings
from django.utils import timezone

from jobsup import task
from jobsup.compat import TASKS_APPS, InvalidTask, TaskResultStatus, task_backends
from jobsup.models import Job, Status
from jobsup.task import JobsupTask
from tests.db import misfits
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.db.bench import Bench

BACKENDS = "django_tasks.backends" if TASKS_APPS else "django.tasks.backends"


def test_using_changes_what_is_given_and_nothing_else(routed: str) -> None:
    """Each parameter reaches the row and comes back with the result; the task itself stays as it was."""
    soon = timezone.now() + timedelta(hours=1)
    changed = tasks.noop.using(priority=7, queue_name="slow", run_after=soon, backend="default", max_attempts=3)
    result = tasks.noop.get_result(changed.enqueue().id)
    assert result.task == changed
    assert (changed.priority, changed.queue_name, changed.run_after, changed.max_attempts) == (7, "slow", soon, 3)
    assert (tasks.noop.priority, tasks.noop.queue_name, tasks.noop.run_after, tasks.noop.max_attempts) == (
        0,
        "default",
        None,
        None,
    )
    again = misfits.declared.using(priority=-1)
    assert (again.priority, again.queue_name, again.max_attempts) == (-1, "slow", 4)


def test_using_another_backend_validates_by_its_rules(routed: str) -> None:
    """A queue that only the other backend has is refused there and taken here."""
    result = tasks.noop.using(backend="any queue", queue_name="anything").enqueue()
    assert result.backend == "any queue"
    assert task_backends["any queue"].get_result(result.id).task.queue_name == "anything"
    with pytest.raises(InvalidTask, match="anything"):
        tasks.noop.using(queue_name="anything")


def test_the_decorators_options_hold(routed: str) -> None:
    """Priority, queue and attempts of the declaration stand in the row."""
    result = misfits.declared.enqueue()
    job = Job.objects.using(routed).get(pk=result.id)
    assert (job.priority, job.queue, job.max_attempts, job.backend) == (10, "slow", 4, "default")


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_priorities_are_taken_from_end_to_end(routed: str, priority: int) -> None:
    """Both ends belong to the range."""
    result = tasks.noop.using(priority=priority).enqueue()
    assert tasks.noop.get_result(result.id).task.priority == priority


@pytest.mark.parametrize("priority", [-101, 101, 1.5])
def test_other_priorities_are_refused(routed: str, priority: Any) -> None:
    """Outside of the range, or not whole."""
    with pytest.raises(InvalidTask, match="priority"):
        tasks.noop.using(priority=priority)


@pytest.mark.parametrize("attempts", [0, -1, 1001, 1.0, "3", True])
def test_max_attempts_has_a_range(routed: str, attempts: Any) -> None:
    """A whole number from 1 to 1000, refused in words."""
    with pytest.raises(InvalidTask, match=r"max_attempts is .*: expected a whole number from 1 to 1000"):
        tasks.noop.using(max_attempts=attempts)


def test_a_later_task_waits_for_its_time(bench: Bench) -> None:
    """It is READY for django.tasks, and not run before."""
    result = tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    assert bench.finished(result).status == TaskResultStatus.READY
    due = tasks.noop.using(run_after=timezone.now() - timedelta(hours=1)).enqueue()
    assert bench.finished(due).status == TaskResultStatus.SUCCESSFUL
    assert bench.tried_again(result).status == TaskResultStatus.SUCCESSFUL


def test_run_after_is_aware_or_naive_as_the_project_is(routed: str) -> None:
    """Naive times are refused with USE_TZ and taken, as local ones, without."""
    naive = datetime.now() + timedelta(hours=1)  # noqa: DTZ005
    with pytest.raises(InvalidTask, match="aware"):
        tasks.noop.using(run_after=naive)
    with override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        local = timezone.now() + timedelta(hours=1)
        result = tasks.noop.using(run_after=local).enqueue()
        assert tasks.noop.get_result(result.id).task.run_after == local
        assert Job.objects.using(routed).get(pk=result.id).status == Status.SCHEDULED


@pytest.mark.parametrize("queue", ["nowhere", ""])
def test_unknown_queues_are_refused(routed: str, queue: str) -> None:
    """A queue that QUEUES does not name is an InvalidTask at the declaration already."""
    with pytest.raises(InvalidTask, match="Queue"):
        tasks.noop.using(queue_name=queue)


@pytest.mark.parametrize("queue", ["x" * 65, "nul\0", "\ud800", ""], ids=repr)
def test_p12_a_queue_that_no_row_can_name_is_refused(routed: str, queue: str) -> None:
    """Also where any queue goes: in words, before the database says it in its own and spoils the transaction."""
    with pytest.raises(InvalidTask, match="queue"):
        tasks.noop.using(backend="any queue", queue_name=queue)


def test_only_functions_of_modules_are_tasks(routed: str) -> None:
    """A worker could not find the others."""

    def local() -> None: ...

    with pytest.raises(InvalidTask):
        task(local)
    with pytest.raises(InvalidTask):
        task(lambda: None)
    with pytest.raises(InvalidTask, match="context"):
        task(takes_context=True)(misfits.no_task)


def test_an_unknown_option_is_told_in_words() -> None:
    """With the names of those that there are."""
    wrong: Callable[..., Any] = task
    with pytest.raises(TypeError, match=r"@task has no option retries; it has priority, .*max_attempts"):
        wrong(retries=3)


@pytest.mark.parametrize("name", ["immediate.ImmediateBackend", "dummy.DummyBackend"])
def test_jobsups_options_are_tolerated_by_other_backends(name: str) -> None:
    """A project that tests with another backend can declare its tasks all the same."""
    with override_settings(TASKS={"default": {"BACKEND": f"{BACKENDS}.{name}"}}):
        assert not isinstance(task(max_attempts=3)(misfits.no_task), JobsupTask)
        assert misfits.plain.enqueue(1).args == [1], "a task that was declared under jobsup's backend"


def test_django_tasks_own_decorator_makes_the_same_tasks(bench: Bench) -> None:
    """`from django.tasks import task` and `from jobsup import task` mix in one project."""
    assert {type(misfits.plain), type(tasks.noop)} == {JobsupTask}
    assert bench.finished(misfits.plain.enqueue(4)).return_value == 5


def test_a_task_can_be_pickled_where_django_can() -> None:
    """By its path, with its options, since Django 6.1; before, no task can be, whatever its backend."""
    changed = misfits.declared.using(priority=3)
    if django.VERSION >= (6, 1):
        assert pickle.loads(pickle.dumps(changed)) == changed
    else:
        with pytest.raises(pickle.PicklingError):
            pickle.dumps(changed)
