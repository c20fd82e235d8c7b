"""The begins of one worker's keys, each told once and in its place among the reports. Pure.

A begin is noted on the card, which wakes nobody, and stands on the lane before whatever is reported next. So the card
is read before the lane: all that was reported before that begin has arrived by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spawnpool.card import Begin
from spawnpool.reports import AMOUNT_MAX, Kind, Report


class Begins:
    """Which begins have been told."""

    def __init__(self) -> None:
        self._count = 0  # of them, as far as they are told; as an amount

    def are_new(self, begin: Begin | None) -> bool:
        """Tell whether a begin has not been told yet."""
        return begin is not None and self._is_later(begin.number & AMOUNT_MAX)

    def tell(self, reports: Sequence[Report], begin: Begin | None, now: float) -> Iterator[Report]:
        """Yield the reports with the begins that are news; the amount of those: how many microseconds ago.

        Args:
            reports: what was read from the lane.
            begin: what was read from the card before.
            now: the time on the monotonic clock of the card.
        """
        latest = None if begin is None else begin.number & AMOUNT_MAX
        ago_us = 0 if begin is None else max(0, int((now - begin.at) * 1e6))
        for report in reports:
            if report.kind != Kind.STARTED:
                yield report
            elif self._is_later(report.amount):
                self._count = report.amount
                yield report._replace(amount=ago_us if report.amount == latest else 0)
        if begin is not None and latest is not None and self._is_later(latest):
            self._count = latest
            yield Report(Kind.STARTED, begin.key, ago_us)

    def _is_later(self, count: int) -> bool:
        """Compare counts of which a report has the lower 32 bits only."""
        return 0 < (count - self._count) & AMOUNT_MAX <= AMOUNT_MAX // 2
