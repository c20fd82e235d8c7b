"""The limits of one job, as its worker tells them to the supervisor. Imports nothing of ours."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple


class Bounds(NamedTuple):
    """What one job may use.

    Args:
        timeout_s: after how long it is interrupted, in seconds; None for never.
        grace_s: how long it may go on after that, in seconds, before its worker is ended.
        memory_bytes: how much resident memory its worker may have while it runs, in bytes; None for any.
    """

    timeout_s: float | None = None
    grace_s: float = 10.0
    memory_bytes: int | None = None

    def encode(self) -> str:
        """Return it as the text of a report."""
        timeout_s = 0.0 if self.timeout_s is None else max(0.001, self.timeout_s)  # 0 stands for never
        return f"{timeout_s:.3f} {self.grace_s:.3f} {self.memory_bytes or 0}"

    @classmethod
    def decode(cls, text: str) -> Bounds:
        """Return what a report's text says.

        Raises:
            ValueError: it says something else.
        """
        timeout, grace, memory = text.split()
        timeout_s, grace_s, memory_bytes = float(timeout), float(grace), int(memory)
        if not all(math.isfinite(number) and number >= 0 for number in (timeout_s, grace_s, memory_bytes)):
            raise ValueError(f"no job can have the limits {text!r}")
        return cls(timeout_s or None, grace_s, memory_bytes or None)


NO_BOUNDS = Bounds()


class Interrupt(IntEnum):
    """Why a running job is interrupted."""

    NONE = 0
    TIMEOUT = 1
    CANCEL = 2
