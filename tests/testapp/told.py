"""What those are told who want to know how jobs end.

JOBSUP_TEST_TOLD names a file that gets a line of JSON for each `task_finished`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jobsup.compat import task_finished

PLACE = "JOBSUP_TEST_TOLD"


def hear(sender: Any, task_result: Any, **_: Any) -> None:
    """Write down what is told of the end of a job; of some jobs nobody hears who survives it."""
    error = sys.exc_info()[1]
    told = {
        "job": int(task_result.id),
        "status": str(task_result.status),
        "errors": [each.exception_class_path for each in task_result.errors],
        "error": None if error is None else type(error).__name__,
        "words": str(error),
        "finished": task_result.finished_at is not None,
        "sender": sender.__name__,
        "in_worker": multiprocessing.parent_process() is not None,
        "pid": os.getpid(),
    }
    with Path(os.environ[PLACE]).open("a") as file:
        file.write(json.dumps(told) + "\n")
    if task_result.task.name == "die_twice_over":
        os.kill(os.getpid(), signal.SIGKILL)


def install() -> None:
    """Listen if the environment asks for it."""
    if PLACE in os.environ:
        task_finished.connect(hear)
