"""The limits of one pool, each with its unit in its name; a value that cannot work is refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from spawnpool.errors import LimitError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every number that bounds a pool.

    Args:
        workers: how many workers are kept alive, at least 1.
        grace_s: how long running jobs may go on after a drain was asked for.
        leave_s: how long a worker may take to leave that was asked to and has no running key any more; it may have
            ends to record while the source is away.
        abort_grace_s: between SIGABRT and SIGKILL on the ladder.
        boot_timeout_s: from the spawn of a worker to its READY.
        check_interval_s: how often the children are looked at, with every connection closed before.
        poll_interval_s: how often work is asked for when nothing wakes the supervisor.
        beat_interval_s: how often the source hears that the supervisor lives.
        lease_s: how old the latest beat may become before the source gives our keys to others; 0 for never.
        window_s: how much expected work may wait in front of one worker (design: about 50 ms).
        window_max: how many keys may wait in front of one worker, whatever their expected length. Together they
            fit into one pipe (64 KiB on Linux; a hand of one key takes 31 bytes), so that none of them has to wait
            for room there.
        recall_after_s: a key waiting behind a job that runs longer than this is taken back for a free worker.
        release_after_s: keys that no worker can begin within this time go back to the source, for others to take.
        mark_after_s: a job that runs longer than this is written down as running.
        exit_when_empty: drain by itself when the source has nothing left.
        silence_max_s: how long an idle worker may say nothing; it says that it is well every 5 s. Twice as long for one
            that may be recording.
        cancel_ask_s: between asking a job to end and interrupting it, when it is cancelled.
        cancel_grace_s: between interrupting a cancelled job and ending its worker.
        memory_interval_s: how often the memory of a worker is measured whose job has a limit of memory.
        running_interval_s: how often the source is asked which running keys are cancelled.
        max_jobs: after how many keys a worker is replaced; 0 for never.
        max_rss_bytes: above how much resident memory a worker is replaced after its key, in bytes; 0 for never.
        max_age_s: after how long a worker is replaced; 0 for never.
        restarts_max: how many workers may die within `restarts_window_s` before the pool is degraded, that is, before
            they are replaced no faster than at that rate (the restart intensity of OTP's supervisors).
        restarts_window_s: see `restarts_max`.

    Raises:
        LimitError: a number is out of its range.
    """

    workers: int = 2
    grace_s: float = 30.0
    leave_s: float = 60.0
    abort_grace_s: float = 2.0
    boot_timeout_s: float = 60.0
    check_interval_s: float = 5.0
    poll_interval_s: float = 1.0
    beat_interval_s: float = 10.0
    lease_s: float = 0.0
    window_s: float = 0.05
    window_max: int = 1000
    recall_after_s: float = 0.02
    release_after_s: float = 1.0
    mark_after_s: float = 0.5
    exit_when_empty: bool = False
    silence_max_s: float = 25.0
    cancel_ask_s: float = 1.0
    cancel_grace_s: float = 10.0
    memory_interval_s: float = 0.05
    running_interval_s: float = 1.0
    max_jobs: int = 0
    max_rss_bytes: int = 0
    max_age_s: float = 0.0
    restarts_max: int = 20
    restarts_window_s: float = 60.0

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[float, float]] = {
            "workers": (1, 1024),
            "window_max": (1, 2000),
            "grace_s": (0, 7 * 86400),
            "lease_s": (0, 86400),
            "boot_timeout_s": (0.1, 86400),
            "cancel_ask_s": (0, 86400),
            "cancel_grace_s": (0, 86400),
            "max_jobs": (0, 10**12),
            "max_rss_bytes": (0, 2**50),
            "max_age_s": (0, 366 * 86400),
            "restarts_max": (1, 10**6),
        }
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                continue
            low, high = ranges.get(field.name, (0.001, 86400))
            if not low <= value <= high:
                raise LimitError(f"{field.name} is {value}: it must lie between {low:g} and {high:g}")

    def changed(self, values: Mapping[str, float]) -> Limits:
        """Return these limits with some replaced; names that are unknown here are left out.

        Raises:
            LimitError: a new number is out of its range.
        """
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        return replace(self, **{name: known[name](value) for name, value in values.items() if name in known})


RELOADABLE = (
    "workers",
    "grace_s",
    "boot_timeout_s",
    "cancel_ask_s",
    "cancel_grace_s",
    "max_jobs",
    "max_rss_bytes",
    "max_age_s",
    "restarts_max",
    "restarts_window_s",
)
"""The limits that a freshly started worker reads from the new settings and reports, in the order of the report."""
