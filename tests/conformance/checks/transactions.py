"""Jobs and the transactions of whoever enqueues them: what a database behind the queue is wanted for."""

from __future__ import annotations

from django.db import transaction

from tests.conformance import api, tasks
from tests.conformance.checks import WORKED, Need, Steps, raises, ran, same, should, succeeded, tag


@should(Need.WORKER)
def rolled_back() -> Steps:
    """A job enqueued in a transaction that is rolled back never was."""
    one = tag()
    with transaction.atomic():
        undone = tasks.mark.enqueue(one)
        transaction.set_rollback(True)
    if api.default_task_backend.supports_get_result:
        with raises(api.TaskResultDoesNotExist):
            api.default_task_backend.get_result(undone.id)
    yield WORKED
    same(ran(one), 0, "how often it ran")


@should(Need.WORKER)
def rolled_back_to_a_savepoint() -> Steps:
    """The same for a savepoint; what was enqueued around it stays."""
    outer, inner = tag(), tag()
    with transaction.atomic():
        tasks.mark.enqueue(outer)
        with transaction.atomic():
            tasks.mark.enqueue(inner)
            transaction.set_rollback(True)
    yield WORKED
    same((ran(outer), ran(inner)), (1, 0), "how often outer and inner ran")


@should(Need.WORKER)
def committed() -> Steps:
    """A job enqueued in a transaction that is committed runs once."""
    with transaction.atomic():
        result = tasks.mark.enqueue(one := tag())
    yield WORKED
    same(ran(one), 1, "how often it ran")
    if api.default_task_backend.supports_get_result:
        succeeded(result)


@should(Need.RESULTS, Need.WORKER)
def seen_within() -> None:
    """Its result is found within the transaction already."""
    with transaction.atomic():
        result = tasks.noop.enqueue()
        same(str(tasks.noop.get_result(result.id).status), "READY", "status")


@should(Need.WORKER)
def refused_within() -> Steps:
    """A refused enqueue() leaves the transaction usable."""
    with transaction.atomic():
        with raises(Exception):
            tasks.noop.enqueue(object())
        tasks.mark.enqueue(one := tag())
    yield WORKED
    same(ran(one), 1, "how often the job behind it ran")
