"""Where a supervisor or a worker is, why it is stopping, and what an exit code means. Imports nothing of ours.

Where and why are two variables: `SupervisorState` tells how far a stop has come, `StopReason` how urgent it is,
and urgency only rises.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class SupervisorState(Enum):
    """How far the supervisor is, in order."""

    STARTING = "starting"  # no worker has been ready yet
    RUNNING = "running"  # claims and sends work
    RELOADING = "reloading"  # as RUNNING, while workers on new code take over from the old ones
    DRAINING = "draining"  # claims nothing more; running jobs have until the grace ends
    KILLING = "killing"  # the ladder is under way for every worker that is left
    STOPPED = "stopped"  # no worker is left


class StopReason(IntEnum):
    """How urgently a stop was asked for; a weaker request never softens a stronger one."""

    NONE = 0
    DRAIN = 1
    NOW = 2


class WorkerState(Enum):
    """How far one worker process is."""

    BOOTING = "booting"  # spawned; has until the boot deadline to say READY
    SERVING = "serving"  # takes work
    LEAVING = "leaving"  # was told to stop; finishes what it started
    ENDING = "ending"  # the ladder is under way


class Ended(Enum):
    """Why a worker ended while it held work."""

    DIED = "died"  # not our doing
    STOPPED = "stopped"  # cut short by a stop of the supervisor
    FENCED = "fenced"  # cut short since the supervisor could not say that it lives, or was declared lost
    EXPELLED = "expelled"  # ended by the supervisor for what it did or did not do
    TIMED_OUT = "timed out"  # the same, for a job that did not heed its time-out
    OVER_MEMORY = "over memory"  # the same, for a job with more memory than its limit
    CANCELLED = "cancelled"  # the same, for a job that did not heed its cancellation

    @property
    def by_whom(self) -> str:
        """The words that follow "was killed by SIGABRT"."""
        return {Ended.DIED: "", Ended.STOPPED: " by the stop of its supervisor"}.get(self, " by its supervisor")

    @property
    def by_a_limit(self) -> bool:
        """Whether the job itself was the cause, by a limit that it was given."""
        return self in (Ended.TIMED_OUT, Ended.OVER_MEMORY, Ended.CANCELLED)


class ExitCode(IntEnum):
    """What the exit code of a worker or of the supervisor says."""

    OK = 0  # was asked to stop
    BOOT_FAILED = 3  # a worker could not boot; of the supervisor: none ever could
    BAD_CONFIG = 4  # settings, arguments or a second supervisor of the same name
    LANE_LOST = 5  # a job closed or replaced the worker's own descriptors
    DEGRADED = 6  # the supervisor was asked to stop while its workers died too often
    NOT_RECORDED = 7  # the source did not take what a worker had to record
    RUN_OVER = 8  # the supervisor was asked to stop when its jobs had been given to others, for it was silent too long
    WALKED_ON = 70  # a forked child of a job came back into the worker's loop
    CROWDED = 71  # the source had no room for one more worker
