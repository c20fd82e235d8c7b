"""What happened, in which order and process: a file of JSON lines, written by tasks and by receivers of signals.

It tells of backends that cannot return results, too, and does not rely on the database that is examined.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def directory() -> Path:
    """Return the directory of the run."""
    return Path(os.environ["CONFORMANCE_DIR"])


def write(event: str, tag: str, **more: Any) -> None:
    """Add a line, in one write so that processes do not mix theirs.

    Args:
        event: what happened, e.g. "ran".
        tag: to whom: the name that a check gave its job, or the id of a result.
        more: what else is to be known, as JSON.
    """
    line = json.dumps({"event": event, "tag": tag, "pid": os.getpid(), "at": time.time(), **more}) + "\n"
    file = os.open(directory() / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read(*events: str, tag: str | None = None) -> list[dict[str, Any]]:
    """Return the lines of some events, or of all, in the order in which they were written; of one tag or of all."""
    try:
        *lines, _ = (directory() / "journal").read_text().split("\n")  # the last one may be half written
    except FileNotFoundError:
        return []
    told = [json.loads(line) for line in lines]
    return [line for line in told if line["event"] in (events or (line["event"],)) and tag in (None, line["tag"])]


def size() -> int:
    """Return the journal's length in bytes."""
    try:
        return (directory() / "journal").stat().st_size
    except FileNotFoundError:
        return 0
