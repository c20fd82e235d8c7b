"""Jobs that somebody waits for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import transaction

from jobsup import task
from tests.testapp.models import Effect
from tests.testapp.traces import leave_trace

if TYPE_CHECKING:
    from jobsup.context import JobContext

MANY_S = 60


def hold(go: str) -> None:
    """Wait until a file is there."""
    give_up_at = time.monotonic() + MANY_S
    while not Path(go).exists() and time.monotonic() < give_up_at:
        time.sleep(0.01)


@task(takes_context=True)
def begin_well(context: JobContext, go: str) -> str:
    """Say so, then take a while."""
    context.ready("the file has 3 sheets")
    hold(go)
    return "done"


@task(takes_context=True)
async def begin_well_async(context: JobContext) -> None:
    """Say so from a coroutine, without a message."""
    await context.aready()


@task(takes_context=True)
def begin_in_a_transaction(context: JobContext, go: str) -> None:
    """Say so in a transaction that goes on, and is undone in the end."""
    with transaction.atomic():
        leave_trace(context)
        Effect.objects.filter(job=int(context.task_result.id)).update(pid=0)
        context.ready("in the middle")
        hold(go)
        raise ValueError("undo all that")


@task(max_attempts=2)
def fail_early(path: str) -> None:
    """Refuse at once."""
    raise FileNotFoundError(f"{path} is not there")


@task
def refuse(path: str) -> None:
    """Refuse at once, and for good."""
    raise FileNotFoundError(f"{path} is not there")
