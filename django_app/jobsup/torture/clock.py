"""A clock that is wrong, for one supervisor and its workers: what their Python and Django say of the time of day.

The machine's own clock is never touched. The monotonic clock stays right, as it does when somebody sets the time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.utils import timezone

VARIABLE = "JOBSUP_TORTURE_CLOCK"
"""Names the file that says by how many seconds the clock is off."""
LOOK_S = 0.5


def environment(file: Path) -> dict[str, str]:
    """Return what a process needs whose clock a file sets."""
    set_by(file, 0.0)
    return {VARIABLE: str(file)}


def set_by(file: Path, seconds: float) -> None:
    """Set the clocks of all processes that have this file, while they run."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{seconds:.0f}")
    fresh.replace(file)


def install() -> None:
    """Have the clock of this process be wrong if its environment says so."""
    if VARIABLE not in os.environ:
        return
    off = _reader(Path(os.environ[VARIABLE]))
    right_s, right_ns, right_now = time.time, time.time_ns, timezone.now

    def wrong_now() -> datetime:
        return right_now() + timedelta(seconds=off())

    time.time = lambda: right_s() + off()
    time.time_ns = lambda: right_ns() + int(off()) * 10**9
    timezone.now = wrong_now


def _reader(file: Path) -> Callable[[], float]:
    """Return what tells by how much the clock is off; it looks at the file now and then."""
    told_s = 0.0
    looked_s = float("-inf")

    def off() -> float:
        nonlocal told_s, looked_s
        if time.monotonic() - looked_s > LOOK_S:
            looked_s = time.monotonic()
            told_s = float(file.read_text()) if file.exists() else told_s
        return told_s

    return off
