"""Tasks that are enqueued by themselves, each second."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobsup import Schedule, task
from tests.testapp.traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


@task(
    takes_context=True,
    queue_name="other",
    schedule=[
        Schedule(timedelta(seconds=1), args=[1], name="interval", catch_up="all"),
        Schedule("* * * * * *", kwargs={"number": 2}, name="cron", timezone="Europe/Berlin", catch_up="all"),
    ],
)
def tick(context: TaskContext[Any, Any], number: int) -> int:
    """Leave a trace and return the number."""
    leave_trace(context)
    return number
