"""The moment of `enqueue()`: what comes back, who is told, many at once."""

from __future__ import annotations

import pickle
import threading
from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from tests.conformance import api, journal, tasks
from tests.conformance.checks import WORKED, Need, Steps, must, raises, ran, same, should, tag

THREADS, EACH = 6, 8


@must()
def returns_a_result() -> None:
    """enqueue() returns a TaskResult of this task and backend."""
    result = tasks.echo.enqueue(1, two=3)
    assert isinstance(result, api.TaskResult)
    assert result.task == tasks.echo
    same(result.backend, "default", "backend")


@must()
def keeps_arguments() -> None:
    """`args` is a list and `kwargs` a dict of what was given."""
    result = tasks.echo.enqueue(1, "b", two=3)
    same((result.args, result.kwargs), ([1, "b"], {"two": 3}), "args, kwargs")
    result = tasks.noop.enqueue()
    same((result.args, result.kwargs), ([], {}), "args, kwargs without arguments")


@must(Need.WORKER)
def is_ready() -> None:
    """The result is READY, and nothing has happened to it yet."""
    result = tasks.noop.enqueue()
    same(str(result.status), "READY", "status")
    assert not result.is_finished
    same((result.started_at, result.finished_at, result.last_attempted_at), (None, None, None), "the times")
    same((result.errors, result.worker_ids, result.attempts), ([], [], 0), "errors, worker_ids, attempts")


@must()
def says_when() -> None:
    """enqueued_at is now, aware exactly where USE_TZ is True."""
    result = tasks.noop.enqueue()
    assert isinstance(result.enqueued_at, datetime), f"enqueued_at is {result.enqueued_at!r}"
    assert timezone.is_aware(result.enqueued_at) == settings.USE_TZ
    away = abs(timezone.now() - result.enqueued_at)
    assert away < timedelta(minutes=1), f"enqueued_at is {away} away"


@must()
def has_an_id() -> None:
    """`id` is a str of 1 to 63 characters, another one each time."""
    ids = [tasks.noop.enqueue().id for _ in range(3)]
    assert all(isinstance(each, str) and 0 < len(each) < 64 for each in ids), ids
    assert len(set(ids)) == 3, ids


@must()
def by_the_backend() -> None:
    """backend.enqueue(task, args, kwargs) does the same."""
    result = api.default_task_backend.enqueue(tasks.echo, (1,), {"two": 3})
    assert result.task == tasks.echo
    same((result.args, result.kwargs), ([1], {"two": 3}), "args, kwargs")


@must()
def awaited() -> Steps:
    """aenqueue() of task and backend do the same, and the jobs run."""
    one, two = tag(), tag()
    result = async_to_sync(tasks.mark.aenqueue)(one)
    assert result.task == tasks.mark
    same(result.args, [one], "args")
    async_to_sync(api.default_task_backend.aenqueue)(tasks.mark, (two,), {})
    yield WORKED
    same((ran(one), ran(two)), (1, 1), "how often each ran")


@must()
def validates_again() -> None:
    """enqueue() and aenqueue() refuse a task whose queue was taken from QUEUES since."""
    task = tasks.noop.using(queue_name="other")
    with override_settings(TASKS={"default": {**settings.TASKS["default"], "QUEUES": ["default"]}}):
        with raises(api.InvalidTask):
            task.enqueue()
        with raises(api.InvalidTask):
            async_to_sync(task.aenqueue)()


@must()
def other_queue() -> Steps:
    """A job of another queue is run, and its result tells that queue."""
    one, two = tag(), tag()
    declared = tasks.on_other_queue.enqueue(one)
    chosen = tasks.mark.using(queue_name="other").enqueue(two)
    same((declared.task.queue_name, chosen.task.queue_name), ("other", "other"), "queue_name")
    yield WORKED
    same((ran(one), ran(two)), (1, 1), "how often each ran")


@must()
def runs_once() -> Steps:
    """A job is run once."""
    one = tag()
    tasks.mark.enqueue(one)
    yield WORKED
    same(ran(one), 1, "how often it ran")


@must()
def from_many_threads() -> Steps:
    """Threads enqueue side by side: every job has an id of its own and runs once."""
    tags = [[tag("thread") for _ in range(EACH)] for _ in range(THREADS)]
    ids: list[str] = []
    problems: list[BaseException] = []

    def enqueue(mine: list[str]) -> None:
        try:
            ids.extend(tasks.mark.enqueue(each).id for each in mine)
        except Exception as error:  # noqa: BLE001  # told below, in the main thread
            problems.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=enqueue, args=(mine,)) for mine in tags]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(problems, [], "what went wrong")
    assert len(set(ids)) == THREADS * EACH, f"{len(set(ids))} different ids of {THREADS * EACH}"
    yield WORKED
    wrong = {each: ran(each) for mine in tags for each in mine if ran(each) != 1}
    same(wrong, {}, "jobs that did not run once")


@must(Need.PICKLE)
def pickled_results() -> None:
    """A result can be pickled, and comes back equal."""
    result = tasks.echo.enqueue(1, two=3)
    assert pickle.loads(pickle.dumps(result)) == result


@must(Need.RESULTS, Need.WORKER)
def is_what_the_store_says() -> None:
    """What enqueue() returns equals what get_result() returns right after it."""
    result = tasks.echo.enqueue([1], two="3")
    stored = api.default_task_backend.get_result(result.id)
    for name in ("id", "status", "args", "kwargs", "backend", "errors", "worker_ids", "enqueued_at", "started_at"):
        same(getattr(stored, name), getattr(result, name), name)
    assert stored.task == result.task, f"{stored.task} instead of {result.task}"
    assert stored == result


@should(Need.RESULTS)
def result_keeps_options() -> None:
    """The task of a stored result has the options that using() gave it."""
    options: dict[str, Any] = {"queue_name": "other"}
    backend = api.default_task_backend
    if backend.supports_priority:
        options["priority"] = -7
    if backend.supports_defer:
        options["run_after"] = timezone.now() + timedelta(hours=1)
    task = backend.get_result(tasks.noop.using(**options).enqueue().id).task
    for name, value in options.items():
        seen = getattr(task, name)
        assert seen == value, f"{name} is {seen!r} instead of {value!r}"


@must()
def does_not_share_arguments() -> Steps:
    """What the caller does to an argument after enqueue() changes nothing about the job."""
    one, given = tag(), [1, [2]]
    tasks.arrive.enqueue(one, given)
    given.append(3)
    given[1].append(4)  # type: ignore[attr-defined]
    yield WORKED
    (line,) = journal.read("arrived", tag=one)
    same(line["value"], [1, [2]], "what arrived")
