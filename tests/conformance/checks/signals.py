"""The three signals: who sends them, where, in which order, with what."""

from __future__ import annotations

import os
import time
from typing import Any

from asgiref.sync import async_to_sync

from tests.conformance import api, journal, tasks
from tests.conformance.checks import WORKED, Need, Steps, must, ran, same, should, tag
from tests.conformance.checks.outcomes import again_s, killer

ENQUEUED, STARTED, FINISHED = ("task_enqueued", "task_started", "task_finished")


def told(result: Any, signal: str) -> dict[str, Any]:
    """Return what a receiver of a signal was told of a job, once."""
    lines = journal.read(signal, tag=str(result.id))
    same(len(lines), 1, f"how often {signal} was sent")
    return lines[0]


@must()
def enqueued() -> None:
    """task_enqueued is sent once by enqueue(), in that process, and by aenqueue()."""
    for result in (tasks.noop.enqueue(), async_to_sync(tasks.noop.aenqueue)()):
        line = told(result, ENQUEUED)
        same((line["pid"], line["function"], line["enqueued"]), (os.getpid(), "noop", True), "pid, task, enqueued_at")


@must(Need.WORKER)
def enqueued_shows_it_ready() -> None:
    """Its receivers see a READY job that has not begun."""
    line = told(tasks.noop.enqueue(), ENQUEUED)
    same((line["status"], line["attempts"], line["started"]), ("READY", 0, False), "status, attempts, started_at set")


@must()
def senders() -> Steps:
    """The sender of each signal is the class of the backend."""
    result = tasks.noop.enqueue()
    backend = type(api.task_backends["default"])
    yield WORKED
    for signal in (ENQUEUED, STARTED, FINISHED):
        same(told(result, signal)["sender"], f"{backend.__module__}.{backend.__qualname__}", f"the sender of {signal}")


@must()
def started() -> Steps:
    """task_started is sent once, before the function runs: RUNNING, started, one attempt."""
    result = tasks.mark.enqueue(one := tag())
    yield WORKED
    line = told(result, STARTED)
    same((line["status"], line["started"], line["finished"]), ("RUNNING", True, False), "status, times set")
    same(line["attempts"], 1, "attempts")
    assert _place(line) < _place(journal.read("ran", tag=one)[0]), "it came after the function had begun"


@must()
def finished() -> Steps:
    """task_finished is sent once, after the function: SUCCESSFUL, with times."""
    result = tasks.mark.enqueue(one := tag())
    yield WORKED
    line = told(result, FINISHED)
    same((line["status"], line["started"], line["finished"]), ("SUCCESSFUL", True, True), "status, times set")
    same(line["attempts"], 1, "attempts")
    assert _place(line) > _place(journal.read("ran", tag=one)[0]), "it came before the function had run"


@must(Need.RESULTS)
def finished_tells_the_value() -> Steps:
    """Its receivers can read return_value, as it will be read later."""
    result = tasks.add.enqueue(2, 3)
    yield WORKED
    same(told(result, FINISHED)["value"], 5, "return_value")


@must()
def finished_tells_the_failure() -> Steps:
    """For a failure it is sent once, FAILED, with the error in the result."""
    result = tasks.fail.enqueue("ValueError")
    yield WORKED
    line = told(result, FINISHED)
    same((line["status"], line["errors"], line["finished"]), ("FAILED", ["builtins.ValueError"], True))


@must()
def exception_is_alive() -> Steps:
    """Its receivers find the exception in sys.exc_info(), as Django's own does, with the function's frame."""
    results = [tasks.fail.enqueue("ValueError")]
    if api.default_task_backend.supports_async_task:
        results.append(tasks.fail_async.enqueue())
    yield WORKED
    for result, function in zip(results, ("fail", "fail_async"), strict=False):
        line = told(result, FINISHED)
        same(line["error"], "ValueError", "the class in sys.exc_info()")
        assert function in line["frames"], f"no frame of the function among {line['frames']}"


@must()
def no_exception_of_a_success() -> Steps:
    """For a success sys.exc_info() is empty."""
    result = tasks.swallow.enqueue()
    yield WORKED
    same(told(result, FINISHED)["error"], None, "the class in sys.exc_info()")


@must(Need.RESULTS)
def unstorable_value_is_told() -> Steps:
    """A value that is no JSON is told as a failure, with its TypeError or ValueError."""
    result = tasks.give_no_json.enqueue("object")
    yield WORKED
    line = told(result, FINISHED)
    same(line["status"], "FAILED", "status")
    assert line["error"] in {"TypeError", "ValueError"}, f"the class in sys.exc_info() is {line['error']}"


@must()
def order() -> Steps:
    """enqueued, started, finished come in this order."""
    results = [tasks.noop.enqueue(), tasks.fail.enqueue("ValueError")]
    yield WORKED
    for result in results:
        lines = journal.read(ENQUEUED, STARTED, FINISHED, tag=str(result.id))
        same([line["event"] for line in lines], [ENQUEUED, STARTED, FINISHED], "the order")


@must()
def in_the_process_that_runs_it() -> Steps:
    """task_started and task_finished are sent in the process that runs the function."""
    jobs = {one: tasks.mark.enqueue(one) for one in (tag(), tag())}
    yield WORKED
    for one, result in jobs.items():
        (run,) = journal.read("ran", tag=one)
        same({told(result, STARTED)["pid"], told(result, FINISHED)["pid"]}, {run["pid"]}, "the processes")


@should(Need.RESULTS)
def the_store_knows() -> Steps:
    """Receivers who look the job up find what they were told: READY, RUNNING, SUCCESSFUL."""
    result = tasks.looked_up.enqueue()
    yield WORKED
    seen = [told(result, signal)["stored"] for signal in (ENQUEUED, STARTED, FINISHED)]
    same(seen, ["READY", "RUNNING", "SUCCESSFUL"], "the status in the store")


def _survives(task: Any) -> Steps:
    one, after = tag(), tag()
    result = task.enqueue(one)
    tasks.mark.enqueue(after)
    yield WORKED
    same(ran(one), 1, "how often it ran")
    same(ran(after), 1, "how often the job behind it ran")
    if api.default_task_backend.supports_get_result:
        same(str(api.default_task_backend.get_result(result.id).status), "SUCCESSFUL", "status")


@should(Need.WORKER, alone="started")
def receiver_of_started_raises() -> Steps:
    """A receiver of task_started that raises harms neither the job nor the worker."""
    yield from _survives(tasks.receiver_of_started_raises)


@should(Need.WORKER, alone="finished")
def receiver_of_finished_raises() -> Steps:
    """A receiver of task_finished that raises harms neither the job nor the worker."""
    yield from _survives(tasks.receiver_of_finished_raises)


@should(Need.WORKER, Need.RESULTS, alone="killer")
def killed_worker() -> Steps:
    """task_finished is also sent for a job that was FAILED because its worker was killed."""
    result = killer()
    yield WORKED
    if not api.default_task_backend.get_result(result.id).is_finished:
        time.sleep(again_s())
        yield WORKED
    same(told(result, FINISHED)["status"], "FAILED", "status")


def _place(line: dict[str, Any]) -> int:
    """Return where a line stands in the journal."""
    return journal.read().index(line)
