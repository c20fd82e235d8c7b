"""What has happened, as the database, the witness and the nemesis tell it; `jobsup.torture.judge` says what of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobsup.torture.witness import Run


class JobRow(NamedTuple):
    """A job as it stands in the end.

    Args:
        kind: one of `jobsup.torture.plan.KINDS`.
        status: as in `jobsup.models.Status`.
        attempt, uncounted, limit: as on the row.
        result: its JSON.
    """

    pk: int
    kind: str
    status: int
    attempt: int
    uncounted: int
    limit: int | None
    result: str | None


class Account(NamedTuple):
    """What is kept of an attempt that did not succeed.

    Args:
        kind: the dotted path of the exception that stands for it.
        reason: the traceback, or a sentence.
    """

    job: int
    attempt: int
    kind: str
    reason: str


class Hit(NamedTuple):
    """A fault that has struck.

    Args:
        kind: its name.
        words: what it is, for people.
        pid: the process that was hit; None if it was none.
        from_s, until_s: its time, by the monotonic clock.
        wide: whether it stops more than one worker.
    """

    kind: str
    words: str
    pid: int | None
    from_s: float
    until_s: float
    wide: bool


class Remains(NamedTuple):
    """What is still there when everything has been stopped, each in words.

    Args:
        claims: jobs that somebody owns.
        runs: runs of supervisors that are not over.
        processes: that were not there before.
        sessions, idle: of the database, and those of them that are in a transaction.
    """

    claims: Sequence[str] = ()
    runs: Sequence[str] = ()
    processes: Sequence[str] = ()
    sessions: Sequence[str] = ()
    idle: Sequence[str] = ()


class History(NamedTuple):
    """Everything that the judge needs.

    Args:
        acknowledged: the kinds of the jobs whose enqueue has returned, by their keys.
        rows: all jobs that there are.
        accounts: of all attempts that did not succeed.
        runs: in the order in which they began.
        effects: how many rows each atomic job has left.
        hits: the faults, in the order in which they struck.
        remains: what is left.
        complaints: lines of the supervisors' logs that no fault explains, and ends that none has asked for.
        interrupted: it was ended before its time, so that jobs may wait.
    """

    acknowledged: Mapping[int, str]
    rows: Sequence[JobRow]
    accounts: Sequence[Account]
    runs: Sequence[Run]
    effects: Mapping[int, int]
    hits: Sequence[Hit]
    remains: Remains = Remains()
    complaints: Sequence[str] = ()
    interrupted: bool = False
