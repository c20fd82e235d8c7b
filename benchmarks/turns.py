"""`python -m benchmarks.turns jobsupervisor ...`: a supervisor that notes how long the turns of its loop take.

A turn lasts from the end of one wait to the beginning of the next. Nothing of the supervisor is changed but the
selector that it waits with. What was noted stands in the file BENCH_TURNS once it has ended.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import sys
import time
from array import array
from pathlib import Path
from typing import Any

STEP_S = 1e-5
STEPS = 100_000
"""Turns are counted by their length, in steps of 10 us, up to a second: the memory for that is there from the start."""


class Turns(selectors.EpollSelector):
    """A selector that counts what happens between two waits, in the process that it was made in."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = array("Q", bytes(8 * (STEPS + 1)))
        self._longest_s = 0.0
        self._woke_at: float | None = None
        atexit.register(self._tell)

    def select(self, timeout: float | None = None) -> Any:
        """Wait as ever."""
        if self._woke_at is not None:
            took_s = time.perf_counter() - self._woke_at
            self._counts[min(STEPS, int(took_s / STEP_S))] += 1
            self._longest_s = max(self._longest_s, took_s)
        try:
            return super().select(timeout)
        finally:
            self._woke_at = time.perf_counter()

    def _tell(self) -> None:
        shares = {f"turn_{name}_ms": self._quantile(share) for name, share in (("p50", 0.5), ("p99", 0.99))}
        told = {"turns": sum(self._counts), **shares, "turn_max_ms": 1000 * self._longest_s}
        Path(os.environ["BENCH_TURNS"]).write_text(json.dumps(told))

    def _quantile(self, share: float) -> float:
        left = share * sum(self._counts)
        for step, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return 1000 * STEP_S * (step + 1)
        return 1000.0


def main() -> None:
    """Run the command."""
    from django.core.management import execute_from_command_line

    selectors.EpollSelector = Turns  # type: ignore[misc]
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
