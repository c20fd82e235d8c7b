"""Jobs at work: every field while and after, the context, coroutines, order and time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from datetime import timezone as fixed
from typing import Any

from django.conf import settings
from django.utils import timezone

from tests.conformance import api, journal, tasks
from tests.conformance.checks import (
    RUNNING,
    WORKED,
    Need,
    Steps,
    eventually,
    latest,
    must,
    raises,
    ran,
    same,
    should,
    sleep_until,
    succeeded,
    tag,
)

SHOWN_S = 10.0  # a job that has begun has to be shown within

_gate: list[Any] = []  # the one job at the gate, enqueued by whoever asks first


def at_the_gate() -> Any:
    """Return the job that all look at while it runs: workers run one at a time."""
    if not _gate:
        _gate.append(tasks.gate.enqueue(tag("gate")))
    return _gate[0]


def shown(result: Any) -> Any:
    """Return a running job's result as soon as its store shows it, at the latest after a while."""
    eventually(lambda: str(latest(result).status) == "RUNNING", SHOWN_S)
    return latest(result)


@should(Need.WORKER, Need.RESULTS)
def is_running_at_once() -> Steps:
    """A job is shown as RUNNING by the time its function has begun."""
    result = at_the_gate()
    yield RUNNING
    same(str(latest(result).status), "RUNNING", "status")


@must(Need.WORKER, Need.RESULTS)
def is_running() -> Steps:
    """Seen from outside while it runs, a job is RUNNING and not finished, within seconds."""
    result = at_the_gate()
    yield RUNNING
    now = shown(result)
    same((str(now.status), now.is_finished, now.finished_at), ("RUNNING", False, None), "status, is_finished and end")


@must(Need.WORKER, Need.RESULTS)
def running_times() -> Steps:
    """While it runs, started_at and last_attempted_at are set."""
    result = at_the_gate()
    yield RUNNING
    now = shown(result)
    assert now.started_at, "started_at is None"
    assert now.last_attempted_at, "last_attempted_at is None"


@must(Need.WORKER, Need.RESULTS)
def running_worker() -> Steps:
    """While it runs, its worker stands in worker_ids, and attempts is 1."""
    result = at_the_gate()
    yield RUNNING
    now = shown(result)
    same((len(now.worker_ids), now.attempts), (1, 1), "worker_ids, attempts")
    assert isinstance(now.worker_ids[0], str)
    assert now.worker_ids[0]


@must(Need.WORKER, Need.RESULTS)
def running_has_no_value() -> Steps:
    """While it runs, return_value raises ValueError and errors is empty."""
    result = at_the_gate()
    yield RUNNING
    now = shown(result)
    same(now.errors, [], "errors")
    with raises(ValueError, saying="not finished"):
        now.return_value  # noqa: B018


@must(Need.WORKER, Need.RESULTS)
def running_keeps_its_start() -> Steps:
    """What was seen while it ran still stands when it is over: started_at, worker_ids."""
    result = at_the_gate()
    yield RUNNING
    seen = shown(result)
    yield WORKED
    now = succeeded(result)
    same((now.started_at, now.worker_ids), (seen.started_at, seen.worker_ids), "started_at, worker_ids")


@must()
def success() -> Steps:
    """A job that returned is SUCCESSFUL, without errors."""
    result = tasks.add.enqueue(2, 3)
    yield WORKED
    now = succeeded(result)
    same((str(now.status), now.return_value, now.errors), ("SUCCESSFUL", 5, []), "status, return_value, errors")


@must()
def success_worker() -> Steps:
    """Once finished it has one worker id and one attempt."""
    result = tasks.add.enqueue(2, 3)
    yield WORKED
    now = succeeded(result)
    same((len(now.worker_ids), now.attempts), (1, 1), "worker_ids, attempts")


@must()
def times() -> Steps:
    """enqueued_at <= started_at <= finished_at, and last_attempted_at is the start of the only attempt."""
    results = [tasks.add.enqueue(2, 3), tasks.fail.enqueue("ValueError")]
    yield WORKED
    for result in results:
        now = latest(result)
        moments = (now.enqueued_at, now.started_at, now.last_attempted_at, now.finished_at)
        assert all(isinstance(moment, datetime) for moment in moments), moments
        assert now.enqueued_at <= now.started_at <= now.finished_at, moments
        assert now.started_at <= now.last_attempted_at <= now.finished_at, moments


@must()
def times_are_true() -> Steps:
    """All of them are of these minutes, aware exactly where USE_TZ is True."""
    before = timezone.now()
    result = tasks.add.enqueue(2, 3)
    yield WORKED
    now, after = latest(result), timezone.now()
    slack = timedelta(seconds=2)
    for name in ("enqueued_at", "started_at", "last_attempted_at", "finished_at"):
        moment = getattr(now, name)
        assert moment is not None, f"{name} is None"
        assert timezone.is_aware(moment) == settings.USE_TZ, f"{name} is {moment!r}"
        assert before - slack <= moment <= after + slack, f"{name} is {moment}, the job was enqueued at {before}"


@must(Need.RESULTS)
def enqueued_at_stays() -> Steps:
    """enqueued_at does not change by running."""
    result = tasks.add.enqueue(2, 3)
    yield WORKED
    same(succeeded(result).enqueued_at, result.enqueued_at, "enqueued_at")


@must()
def context() -> Steps:
    """A task with takes_context is given a TaskContext first, then its arguments."""
    result = tasks.tell.enqueue(1, b=2)
    yield WORKED
    told = succeeded(result).return_value
    same((told["kind"], told["given"], told["attempt"]), ("TaskContext", [[1], {"b": 2}], 1))


@must()
def context_result() -> Steps:
    """context.task_result is its own result: RUNNING, started, with one worker, with its arguments."""
    result = tasks.tell.enqueue(1, b=2)
    yield WORKED
    told = succeeded(result).return_value
    same((told["id"], told["status"], told["name"]), (result.id, "RUNNING", "tell"), "id, status, name")
    same((told["attempts"], len(told["worker_ids"]), told["errors"]), (1, 1, 0), "attempts, worker_ids, errors")
    same([told[each] for each in ("enqueued", "started", "attempted", "finished")], [True, True, True, False], "times")
    same((told["args"], told["kwargs"]), ([1], {"b": 2}), "args, kwargs")


@must(Need.RESULTS)
def context_worker() -> Steps:
    """The worker id that the context tells is the one that stays."""
    result = tasks.tell.enqueue()
    yield WORKED
    now = succeeded(result)
    same(now.return_value["worker_ids"], now.worker_ids, "worker_ids in the context")


@must(Need.ASYNC)
def coroutine() -> Steps:
    """A coroutine function is run and its value returned, with a context, too."""
    result, told = tasks.add_async.enqueue(2, 3), tasks.tell_async.enqueue("x")
    yield WORKED
    same(succeeded(result).return_value, 5, "return_value")
    same(succeeded(told).return_value, [1, told.id, "x"], "attempt, id, argument")


@must()
def swallowed() -> Steps:
    """An exception that the task itself handled leaves no trace."""
    result = tasks.swallow.enqueue()
    yield WORKED
    same((succeeded(result).return_value, latest(result).errors), ("fine", []), "return_value, errors")


@must(Need.PRIORITY, Need.WORKER)
def priority_order() -> Steps:
    """Of jobs that wait, those of higher priority run first."""
    marks = {priority: tag("priority") for priority in (0, -100, 50, 100, -1, 1, 99)}
    for priority, mine in marks.items():
        tasks.mark.using(priority=priority).enqueue(mine)
    yield WORKED
    order = [line["tag"] for line in journal.read("ran") if line["tag"] in marks.values()]
    same(order, [marks[priority] for priority in sorted(marks, reverse=True)], "the order")


@should(Need.WORKER)
def order_of_arrival() -> Steps:
    """Jobs of one queue and priority run in the order in which they came."""
    marks = [tag("order") for _ in range(20)]
    for mine in marks:
        tasks.mark.enqueue(mine)
    yield WORKED
    same([line["tag"] for line in journal.read("ran") if line["tag"] in marks], marks, "the order")


@must(Need.DEFER, Need.WORKER)
def run_after_future() -> Steps:
    """A job whose run_after is hours away is not run now, and stays READY; whatever its time zone."""
    later = timezone.now() + timedelta(hours=1)
    moments = [later] if not settings.USE_TZ else [later, later.astimezone(fixed(timedelta(hours=-11)))]
    marks = [tag() for _ in moments]
    results = [tasks.mark.using(run_after=moment).enqueue(mine) for moment, mine in zip(moments, marks, strict=True)]
    yield WORKED
    same([ran(mine) for mine in marks], [0] * len(marks), "how often they ran")
    if api.default_task_backend.supports_get_result:
        same([str(latest(result).status) for result in results], ["READY"] * len(marks), "status")


@must(Need.DEFER, Need.WORKER)
def run_after_past() -> Steps:
    """A job whose run_after has passed is run at once."""
    past = timezone.now() - timedelta(days=1)
    moments = [past] if not settings.USE_TZ else [past, (past + timedelta(hours=23)).astimezone(UTC)]
    marks = [tag() for _ in moments]
    for moment, mine in zip(moments, marks, strict=True):
        tasks.mark.using(run_after=moment).enqueue(mine)
    yield WORKED
    same([ran(mine) for mine in marks], [1] * len(marks), "how often they ran")


@must(Need.DEFER, Need.WORKER)
def run_after_comes() -> Steps:
    """A job is run once its run_after has come, and not before."""
    one, due = tag(), time.time() + 4
    moment = datetime.fromtimestamp(due, UTC) if settings.USE_TZ else datetime.fromtimestamp(due)  # noqa: DTZ006
    tasks.mark.using(run_after=moment).enqueue(one)
    yield WORKED
    if not ran(one):
        sleep_until(due + 0.5)
        yield WORKED
    lines = journal.read("ran", tag=one)
    same(len(lines), 1, "how often it ran")
    assert lines[0]["at"] >= due, f"it ran {due - lines[0]['at']:.2f} s too early"
