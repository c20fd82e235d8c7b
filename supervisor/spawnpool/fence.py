r"""The lease of a run, seen by the one who has it: a supervisor that cannot say that it lives stops in time.

Pure; part of the machine. Others give the keys of this run away when its latest beat is older than the lease, by the
source's clock. That beat was sent before it was taken down. So the lease is counted here from the moment of sending:
until it is over by our own clock nobody else can have our keys, and by then every worker is dead.

    HELD --no beat arrived for lease - margin--> CLOSED --one arrives, and the run still counts--> HELD
      \______________ a beat is refused: the run was declared lost ______________/
                                    v
                                  OVER --workers dead, a new run has begun--> HELD
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import Any

from spawnpool import events as e
from spawnpool.roster import Roster
from spawnpool.states import StopReason

MARGIN_MAX_S = 10.0
MARGIN_SHARE = 1 / 3
"""Work stops so long before the lease is over, or this share of a short lease; a beat is sent three times per lease."""
NEVER = float("inf")


def margin_s(lease_s: float) -> float:
    """Return how long before the end of a lease its holder stops, in seconds."""
    return min(MARGIN_MAX_S, lease_s * MARGIN_SHARE)


class Standing(Enum):
    """How a run stands with its source."""

    HELD = "held"  # what it has is its own
    CLOSED = "closed"  # it cannot know; nothing is begun, and nothing goes on
    OVER = "over"  # it was declared lost; another run has to begin


class Fence:
    """Whether this supervisor may have anything done.

    Args:
        lease_s: how old the latest beat may become before our keys are given to others, in seconds; 0 for never.
        roster: the workers.
        do: takes the actions.
        source: what the source is called in sentences.
    """

    def __init__(self, lease_s: float, roster: Roster, do: Callable[[e.Action], None], source: str) -> None:
        self.lease_s, self.standing = lease_s, Standing.HELD
        self._roster, self._do, self._source = roster, do, source
        self._sent_at: float | None = None  # when the latest beat was sent that arrived
        self._seen_at = 0.0
        self._asked = False  # a beat is being tried since we were late
        self._in_vain = False  # it was, and did not arrive
        self._renew_at = 0.0
        self._trouble = ""

    @property
    def open(self) -> bool:
        """Whether work may be dispatched."""
        return self.standing is Standing.HELD and not self._asked

    @property
    def shut(self) -> bool:
        """Whether everything is to end; between that and `open` there is a doubt of an instant."""
        return self.standing is not Standing.HELD

    @property
    def trouble(self) -> str:
        """Why it may not, in words; "" while it may."""
        return "" if self.standing is Standing.HELD else self._trouble

    @property
    def closes_at(self) -> float:
        """When work stops unless a beat arrives before."""
        return self.expires_at - margin_s(self.lease_s)

    @property
    def expires_at(self) -> float:
        """When others may take what we have, at the earliest."""
        return NEVER if self._sent_at is None or not self.lease_s else self._sent_at + self.lease_s

    # ---- what happens

    def handlers(self) -> dict[type, Callable[[Any, float], None]]:
        """Return what takes in which event; beside them there is `lost`."""
        return {
            e.Beaten: lambda event, now: self.beaten(event.sent_at, now),
            e.BeatFailed: lambda event, now: self.failed(),
            e.Renewed: lambda event, now: self.renewed(event.sent_at),
            e.RenewFailed: lambda event, now: self.renewal_failed(now + event.retry_in_s),
            e.Slept: lambda event, now: self.slept(event.seconds),
        }

    def beaten(self, sent_at: float, now: float) -> None:
        """Take in that a beat arrived which was sent then."""
        if self.standing is Standing.OVER:
            return  # it was one of the run that is over
        away_s = now - (sent_at if self._sent_at is None else self._sent_at)
        self._sent_at, self._asked = max(sent_at, self._sent_at or sent_at), False
        if self.standing is Standing.HELD:
            self._roster.fenced = False
        elif now < self.closes_at:
            self._open(f"{self._source} answers again after {away_s:.0f} s and nobody took our jobs: work goes on")

    def failed(self) -> None:
        """Take in that a beat did not arrive."""
        self._in_vain, self._asked = self._asked, False

    def lost(self, now: float) -> None:
        """Take in that the run was declared lost: what it had is somebody else's."""
        if self.standing is not Standing.OVER:
            self.standing, self._renew_at = Standing.OVER, now
            self._shut("this supervisor was silent for longer than its lease and its jobs were given to others", now)

    def renewed(self, sent_at: float) -> None:
        """Take in that a new run has begun, asked for then."""
        was_over = self.standing is Standing.OVER
        self.standing, self._sent_at, self._asked = Standing.HELD, sent_at, False
        if was_over:
            self._open("a new run has begun: work goes on")

    def renewal_failed(self, retry_at: float) -> None:
        """Ask again later: the source could not be reached."""
        self._renew_at = retry_at

    def slept(self, seconds: float) -> None:
        """Take in that the machine was suspended for so long, which our clock did not count."""
        if self._sent_at is not None:
            self._sent_at -= seconds
            self._seen_at -= seconds

    # ---- what is done

    def keep(self, now: float, reason: StopReason) -> None:
        """Stop in time, and begin a new run when the old one is over and its workers are dead."""
        late, self._seen_at = now - self._seen_at > margin_s(self.lease_s), now
        if self.standing is Standing.HELD and now >= self.closes_at:
            if late and not self._in_vain:
                self._asked = self._roster.fenced = True  # it is we who were away: the source may be well, and can tell
                self._do(e.Beat())
            elif not self._asked:
                self._in_vain = False
                silent_s = now - (self._sent_at or now)
                self.standing = Standing.CLOSED
                self._shut(f"{self._source} could not be reached for {silent_s:.0f} s", now)
        elif self.standing is Standing.CLOSED and now >= self.expires_at:
            self._roster.shut(self._trouble, now, patience_s=0.0)  # it is over sooner than was thought: we slept
        elif self._wants_renewal(reason) and now >= self._renew_at:
            self._renew_at = NEVER  # until there is an answer
            self._do(e.Renew())

    def deadlines(self, reason: StopReason) -> list[float]:
        """Return when something here is due."""
        if self.standing is Standing.HELD:
            return [] if self._asked else [self.closes_at]
        return [self._renew_at] if self._wants_renewal(reason) else []

    def _wants_renewal(self, reason: StopReason) -> bool:
        return self.standing is Standing.OVER and reason is StopReason.NONE and not self._roster.members

    def _shut(self, why: str, now: float) -> None:
        """End every worker so that the last one is dead before the lease is over."""
        self._trouble = why
        count = len(self._roster.members)
        workers = f"{count} workers are" if count != 1 else "worker is"
        self._do(e.Say(logging.ERROR, f"{why}: its {workers} ended, nothing is begun until that is settled"))
        left_s = self.expires_at - now
        self._roster.shut(why, now, patience_s=left_s / 2 if self.standing is Standing.CLOSED else 0.0)

    def _open(self, words: str) -> None:
        self.standing, self._trouble = Standing.HELD, ""
        self._roster.fenced = False
        self._do(e.Say(logging.WARNING, words))
