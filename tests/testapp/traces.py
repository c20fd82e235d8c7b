"""How a job says that it ran."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .models import Effect

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


def leave_trace(context: TaskContext[Any, Any]) -> None:
    """Write which attempt of which job runs in this process."""
    Effect.objects.create(job=int(context.task_result.id), attempt=context.attempt, pid=os.getpid())
