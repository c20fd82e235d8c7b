"""Jobs whose writes and whose success are one commit."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import F

from jobsup import task

from .models import Effect
from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


@task(atomic=True, takes_context=True, max_attempts=100, backoff=0.1)
def once(context: TaskContext[Any, Any], milliseconds: float = 0) -> int:
    """Leave a trace, and take a while with it uncommitted; return the number of the attempt."""
    leave_trace(context)
    time.sleep(random.uniform(0, milliseconds) / 1000)
    return context.attempt


@task(atomic=True, takes_context=True)
def cross(context: TaskContext[Any, Any], first: int, second: int, place: str) -> int:
    """Change two rows, the second when somebody else has changed it as well; return how often this was begun."""
    mine, theirs = Path(place, f"{first}"), Path(place, f"{second}")
    with mine.open("a") as file:
        file.write(".")
    Effect.objects.filter(pk=first).update(attempt=F("attempt") + 1)
    mine.with_suffix(".locked").touch()
    while not theirs.with_suffix(".locked").exists():
        time.sleep(0.005)
    Effect.objects.filter(pk=second).update(attempt=F("attempt") + 1)
    leave_trace(context)
    return len(mine.read_text())
