"""How a running job is interrupted: an exception raised in its own code, and never in ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any

from jobsup.errors import JobCancelled, JobInterrupted, JobTimeout
from spawnpool.bounds import NO_BOUNDS, Interrupt


def _nobody() -> None:
    pass


class Interrupts:
    """Between the signal that interrupts and the job that it is meant for; one job at a time.

    The signal may come before the job's function is entered or while its outcome is being noted: in the first case it
    waits, in the second it comes too late and does nothing. A job is interrupted once.

    Args:
        asked: tells whether the cancellation of the job that runs was asked for.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self.delivered = Interrupt.NONE
        """What the job that runs or ran last was interrupted for."""
        self._asked = asked
        self._told = False
        self.bounds = NO_BOUNDS
        """The limits of the job that runs."""
        self._waiting = Interrupt.NONE
        self._open = False
        self._cancel: Callable[[], object] | None = None  # ends a coroutine, in its own thread

    def reset(self) -> None:
        """Forget the job that ran; before any signal for the next one can come."""
        self._open, self._cancel = False, None
        self.delivered = self._waiting = Interrupt.NONE
        self._told = False
        self.bounds = NO_BOUNDS

    def asked_to_end(self) -> bool:
        """Tell the job whether its cancellation was asked for."""
        self._told = self._told or self._asked()
        return self._told

    @property
    def cancelled(self) -> bool:
        """Whether the job knows that it was cancelled: however it ends, it ends for that."""
        return self._told or self.delivered is Interrupt.CANCEL

    def come(self, why: Interrupt) -> None:
        """Interrupt the job; in the main thread, from the handler of a signal.

        Raises:
            JobInterrupted: into whatever the job is doing.
        """
        if not self._open or self.delivered:
            self._waiting = why
            return
        self.delivered = why
        if self._cancel is None:
            raise self._exception(why)
        self._cancel()

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

    def cancellable(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Return a coroutine function that is interrupted as asyncio does it: cancelled.

        Its event loop runs in another thread, where no handler of a signal ever raises anything.
        """
        self._cancel = _nobody

        @wraps(function)
        async def attended(*args: Any, **kwargs: Any) -> Any:
            loop, running = asyncio.get_running_loop(), asyncio.current_task()
            assert running is not None

            def cancel() -> None:
                with suppress(RuntimeError):  # the loop has just been closed
                    loop.call_soon_threadsafe(running.cancel)

            self._cancel = cancel
            try:
                if self.delivered:
                    raise self._exception(self.delivered)
                return await function(*args, **kwargs)
            except asyncio.CancelledError as error:
                if self.delivered:  # told as hitting the job where asyncio's own error did
                    raise self._exception(self.delivered).with_traceback(error.__traceback__) from None
                raise
            finally:
                self._cancel = _nobody

        return attended

    def _exception(self, why: Interrupt) -> JobInterrupted:
        if why is Interrupt.CANCEL:
            return JobCancelled("the job was cancelled while it was running")
        grace = f"{self.bounds.grace_s:g} s are left to clean up"
        return JobTimeout(f"the job has used up its time-out of {self.bounds.timeout_s or 0:g} s; {grace}")


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
