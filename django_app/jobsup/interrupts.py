"""How a running job is interrupted: an exception raised in its own code, and never in ours."""

from __future__ import annotations

from collections.abc import Callable

from jobsup.errors import JobCancelled, JobInterrupted, JobTimeout
from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt


class Interrupts:
    """Between the signal that interrupts and the job that it is meant for; one job at a time.

    The signal may come before the job's function is entered or while its outcome is being noted: in the first case it
    waits, in the second it comes too late and does nothing. A job is interrupted once.
    """

    def __init__(self) -> None:
        self.delivered = Interrupt.NONE
        """What the job that runs or ran last was interrupted for."""
        self._waiting = Interrupt.NONE
        self._open = False
        self._bounds = NO_BOUNDS

    def reset(self, bounds: Bounds) -> None:
        """Get ready for the next job.

        Args:
            bounds: its limits.
        """
        self._open = False
        self.delivered = self._waiting = Interrupt.NONE
        self._bounds = bounds

    def come(self, why: Interrupt) -> None:
        """Interrupt the job; in the main thread, from the handler of a signal.

        Raises:
            JobInterrupted: into whatever the job is doing.
        """
        if self._open and not self.delivered:
            self.delivered = why
            raise self._exception(why)
        self._waiting = why

    def open(self) -> None:
        """The job's own code runs from now on.

        Raises:
            JobInterrupted: it was interrupted before that.
        """
        self._open = True
        if self._waiting:
            self.come(self._waiting)

    def close(self) -> None:
        """The job's own code is over."""
        self._open = False

    def _exception(self, why: Interrupt) -> JobInterrupted:
        if why is Interrupt.CANCEL:
            return JobCancelled("the job was cancelled while it was running")
        grace = f"{self._bounds.grace_s:g} s are left to clean up"
        return JobTimeout(f"the job has used up its time-out of {self._bounds.timeout_s or 0:g} s; {grace}")


def _nobody_asked() -> bool:
    return False


_asked: Callable[[], bool] = _nobody_asked


def listen(asked: Callable[[], bool]) -> None:
    """Say where to find out whether the running job is to end; once per worker."""
    global _asked  # noqa: PLW0603  # a worker runs one job at a time
    _asked = asked


def cancel_requested() -> bool:
    """Return whether the job that runs in this process was asked to end, since it was cancelled.

    A long job that looks now and then, and returns, ends before it is interrupted. False outside of a worker.
    """
    return _asked()
