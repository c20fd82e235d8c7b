"""What became of the keys that were in our possession when the stop was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_NAMED_MAX = 10


@dataclass(slots=True)
class DrainReport:
    """The account of a drain; `cut_short` with the seconds that each had run, None for one that had returned."""

    finished: list[int] = field(default_factory=list)
    given_back: list[int] = field(default_factory=list)
    cut_short: list[tuple[int, float | None]] = field(default_factory=list)

    def words(self) -> str:
        """Return it as one sentence."""
        cut = [f"{pk}{'' if ran_s is None else f' after {ran_s:.1f} s'}" for pk, ran_s in self.cut_short]
        return (
            f"drain report: {_named('finished', self.finished)}, {_named('given back', self.given_back)}, "
            f"{_named('cut short', cut)}"
        )

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON can carry it."""
        return {
            "finished": self.finished,
            "given_back": self.given_back,
            "cut_short": [{"pk": pk, "ran_s": ran_s} for pk, ran_s in self.cut_short],
            "words": self.words(),
        }


def _named(what: str, items: Sequence[object]) -> str:
    names = ", ".join(str(item) for item in items[:_NAMED_MAX])
    more = f" and {len(items) - _NAMED_MAX} more" if len(items) > _NAMED_MAX else ""
    return f"{len(items)} {what}" + (f" ({names}{more})" if items else "")
