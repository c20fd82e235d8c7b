"""Counts the statements of all processes on an SQLite database, as the driver's own trace tells them.

`COUNT_FILE` names the file in the environment of those processes: it gets one byte for each statement.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

COUNT_FILE = "JOBSUP_TEST_STATEMENTS"


class Counted(sqlite3.Connection):
    """A connection whose statements are counted from its first one on: `OPTIONS["factory"]` of an alias."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_trace_callback(_count)


def _count(_statement: str) -> None:
    fd = os.open(os.environ[COUNT_FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, b".")
    finally:
        os.close(fd)
