"""What a job left behind, in short phrases for its record and for the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

PHRASES_MAX = 10
"""How many things of a kind are named; a job may leave a thousand threads."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What one job left behind.

    Args:
        restored: what was put back as it was, such as "the umask".
        spoiled: what cannot be put back, such as "a thread that goes on (Thread-3)": the worker must be replaced.
    """

    restored: tuple[str, ...]
    spoiled: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.restored or self.spoiled)

    def words(self) -> str:
        """Return all of it as one line; empty when nothing was left."""
        parts = []
        if self.restored:
            parts.append(f"{_listed(self.restored)} (restored)")
        if self.spoiled:
            parts.append(f"{_listed(self.spoiled)} (the worker is replaced)")
        return f"left behind: {'; '.join(parts)}" if parts else ""


CLEAN = Leftovers((), ())
"""What nearly every job leaves."""


@dataclass(slots=True)
class Findings:
    """Leftovers while they are being looked for."""

    restored: list[str] = field(default_factory=list)
    spoiled: list[str] = field(default_factory=list)


def _listed(phrases: Sequence[str]) -> str:
    """Return phrases in a row, of very many the first ones and how many more there are."""
    shown = list(phrases[:PHRASES_MAX])
    if len(phrases) > PHRASES_MAX:
        shown.append(f"{len(phrases) - PHRASES_MAX} more")
    return ", ".join(shown)
