"""What the machine hears (events) and what it wants done (actions), as plain data.

A worker process is named by its `wid`, a serial number that is never used twice; its `number` (1, 2, ...) is what
people see and is taken over by its successor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spawnpool.bounds import Interrupt
from spawnpool.card import where_of
from spawnpool.drain import DrainReport
from spawnpool.pools import DEFAULT, Pool
from spawnpool.reports import Report
from spawnpool.source import Loss, Running
from spawnpool.states import StopReason

# ---- events


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker's reports arrived, in order; a STARTED says in its amount how many microseconds ago that was."""

    wid: int
    reports: Sequence[Report]


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The process could not be made at all."""

    wid: int
    words: str


@dataclass(frozen=True, slots=True)
class Died:
    """A worker process is gone; `unstarted` keys of its lane were never begun.

    `cause` is what the kernel tells of it, `stack` where it was in Python.
    """

    wid: int
    unstarted: int
    code: int | None
    words: str
    peak_bytes: int | None = None
    cause: str = ""
    stack: str = ""

    @property
    def where(self) -> str:
        """Where it was, to go on with; "" if that is not known."""
        return where_of(self.stack)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker had reported was read, as `Listen` asked."""

    wid: int


@dataclass(frozen=True, slots=True)
class Measured:
    """How much resident memory a worker has, in bytes."""

    wid: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Keys of ours whose cancellation was asked for."""

    pks: Sequence[int]


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """Keys of ours whose feed was paused: those that were not begun are to go back to the source."""

    pks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Babbled:
    """A worker sent what is no report."""

    wid: int
    words: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Somebody wants the supervisor to end; asking twice is up to the shell to turn into NOW."""

    reason: StopReason


@dataclass(frozen=True, slots=True)
class QuietAsked:
    """Take no new work (True) or take work again (False)."""

    quiet: bool


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """Replace the workers by ones on new code and settings."""


@dataclass(frozen=True, slots=True)
class ResizeAsked:
    """One worker more (+1) or fewer (-1)."""

    by: int


@dataclass(frozen=True, slots=True)
class Woken:
    """There may be new work."""


@dataclass(frozen=True, slots=True)
class SourceBack:
    """The source answers again after it could not be reached, or had no room."""


@dataclass(frozen=True, slots=True)
class Crowded:
    """The source has no room for the supervisor itself beside its workers."""

    why: str


@dataclass(frozen=True, slots=True)
class Beaten:
    """The source has taken a beat down that was sent then: this run still counts."""

    sent_at: float


@dataclass(frozen=True, slots=True)
class BeatFailed:
    """The source could not be reached; the beat is tried again later."""


@dataclass(frozen=True, slots=True)
class RunLost:
    """The source has refused a beat: somebody declared this run lost and gave its keys to others."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The answer to `Renew`: a new run has begun, asked for then."""

    sent_at: float


@dataclass(frozen=True, slots=True)
class RenewFailed:
    """The other answer: the source could not be reached; ask again in `retry_in_s` seconds."""

    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine was suspended for so long, which our clock did not count."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to `Claim`: keys that are ours now, and when the next one that waits for its time is due.

    `feeds` tells the feed of each key whose feed has a limit in that pool.
    """

    pks: Sequence[int]
    asked: int
    due_in_s: float | None
    pool: str = DEFAULT
    feeds: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """The source could not be reached; ask again in `retry_in_s` seconds."""

    retry_in_s: float


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The answer to `TakeBack`: so many keys from the end of the worker's lane will never be started there."""

    wid: int
    count: int


@dataclass(frozen=True, slots=True)
class FoundEmpty:
    """The answer to `AskEmpty`."""

    empty: bool


Event = (
    Tick | Reported | SpawnFailed | Died | Babbled | StopAsked | QuietAsked | ReloadAsked | ResizeAsked | Woken
    | SourceBack | Claimed | ClaimFailed | TakenBack | FoundEmpty | Measured | Heard | CancelAsked | PauseAsked
    | Beaten | BeatFailed | RunLost | Renewed | RenewFailed | Slept | Crowded
)  # fmt: skip

# ---- actions


@dataclass(frozen=True, slots=True)
class Check:
    """Close every connection of the supervisor's, then look at the children."""


@dataclass(frozen=True, slots=True)
class Beat:
    """Tell the source that this run lives; answered by `Beaten`, `BeatFailed` or `RunLost`."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Begin a new run in the place of the one that is over; answered by `Renewed` or `RenewFailed`."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker process; `pool` is "" where there is only one."""

    wid: int
    number: int
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Put keys on a worker's lane."""

    wid: int
    epoch: int
    pks: Sequence[int]


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Revoke up to `most` unstarted keys of a worker; answered by `TakenBack`, before anything else."""

    wid: int
    most: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask a worker, on its lane, to leave."""

    wid: int


@dataclass(frozen=True, slots=True)
class Order:
    """Write on a worker's card that a key is to end, and why; with `loudly` it is interrupted, too."""

    wid: int
    pk: int
    why: Interrupt
    loudly: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """Find out how much memory a worker has; answered by `Measured`."""

    wid: int


@dataclass(frozen=True, slots=True)
class Listen:
    """Read what a worker has reported before it is ended; answered by `Reported`, if there is anything, and `Heard`."""

    wid: int


@dataclass(frozen=True, slots=True)
class LookForOrders:
    """Ask the source which of our keys are cancelled or paused; answered by `CancelAsked` and `PauseAsked`."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Send SIGABRT: the worker says where it hangs and dies."""

    wid: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL."""

    wid: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Ask the source for keys of a pool; answered by `Claimed` or `ClaimFailed`.

    `rooms` tells how many keys it may take of each feed that has a limit in that pool.
    """

    limit: int
    pool: str
    rooms: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Serve:
    """Tell the source which pools there are from now on."""

    pools: Sequence[Pool]


@dataclass(frozen=True, slots=True)
class AskEmpty:
    """Ask the source whether nothing is left at all; answered by `FoundEmpty`."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give keys back that were claimed and never started."""

    pks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Lose:
    """Account for the keys that a dead worker had begun; pid and words are filled in by the shell."""

    wid: int
    losses: Sequence[Loss]


@dataclass(frozen=True, slots=True)
class Mark:
    """Write down a key that has been running for a while; the pid is filled in by the shell."""

    wid: int
    mark: Running


@dataclass(frozen=True, slots=True)
class Say:
    """Log a sentence; with a wid it begins with "worker 3 (pid 812) "."""

    level: int
    text: str
    wid: int | None = None


@dataclass(frozen=True, slots=True)
class ReloadBegun:
    """New workers take over from the old ones from now on."""


@dataclass(frozen=True, slots=True)
class ReloadEnded:
    """All workers run the new code, or it was refused; `words` say which, and why."""

    ok: bool
    words: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to do: leave the loop with this exit code."""

    code: int
    report: DrainReport


Action = (
    Check | Beat | Renew | Serve | Spawn | Send | TakeBack | Stop | Order | Measure | Listen | LookForOrders | Abort
    | Kill | Claim | AskEmpty | Release | Lose | Mark | Say | ReloadBegun | ReloadEnded | Finish
)  # fmt: skip
