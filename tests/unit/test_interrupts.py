"""An interruption is raised in the code of the job that it is meant for: not before, not after, and once."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from jobsup import cancel_requested, interrupts
from jobsup.attempt import cut
from jobsup.errors import JobCancelled, JobInterrupted, JobTimeout
from jobsup.interrupts import Interrupts
from jobsup.text import traceback_text
from spawnpool.bounds import Bounds, Interrupt
from spawnpool.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUNDS = Bounds(timeout_s=1.5, grace_s=20)
CANCEL, TIMEOUT = Interrupt.CANCEL, Interrupt.TIMEOUT


def nobody() -> bool:
    """Nothing is cancelled."""
    return False


def play(one: Interrupts, function: Callable[[], object]) -> object:
    """Run a job as a worker does; return what it returned or raised."""
    one.bounds = BOUNDS
    try:
        try:
            one.open()
            return function()
        finally:
            one.close()
    except JobInterrupted as error:
        return error


@contextmanager
def signals(handler: Callable[[], object], first_s: float, again_s: float = 0.0) -> Iterator[None]:
    """Have a signal come, once or again and again."""
    before = signal.signal(signal.SIGALRM, lambda _signum, _frame: handler())
    signal.setitimer(signal.ITIMER_REAL, first_s, again_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_it_is_raised_in_the_running_job_and_says_what_is_left() -> None:
    """The reason is known afterwards, too."""
    one = Interrupts(nobody)
    ended = play(one, lambda: one.come(TIMEOUT))
    assert isinstance(ended, JobTimeout)
    assert str(ended) == "the job has used up its time-out of 1.5 s; 20 s are left to clean up"
    assert (one.delivered, one.cancelled) == (TIMEOUT, False)
    one.reset()
    ended = play(one, lambda: one.come(CANCEL))
    assert isinstance(ended, JobCancelled)
    assert (str(ended), one.delivered, one.cancelled) == ("the job was cancelled while it was running", CANCEL, True)


def test_no_except_exception_keeps_it() -> None:
    """Both are what `except Exception` does not see, and can be caught by their own names."""
    for kind in (JobTimeout, JobCancelled):
        assert issubclass(kind, JobInterrupted)
        assert not issubclass(kind, Exception)


def test_one_that_comes_before_the_jobs_code_waits_for_that() -> None:
    """It is not lost, and not raised in our own code."""
    one = Interrupts(nobody)
    one.come(TIMEOUT)
    assert isinstance(play(one, lambda: "never"), JobTimeout)


def test_one_that_comes_too_late_does_nothing_to_anybody() -> None:
    """The job has returned; the next one is none of its business."""
    one = Interrupts(nobody)
    assert play(one, lambda: "returned") == "returned"
    one.come(TIMEOUT)
    assert not one.delivered
    one.reset()
    assert play(one, lambda: "next") == "next"


def test_a_job_is_interrupted_once() -> None:
    """What cleans up is left alone."""
    one = Interrupts(nobody)

    def job() -> str:
        with pytest.raises(JobTimeout):
            one.come(TIMEOUT)
        one.come(CANCEL)
        one.come(TIMEOUT)
        return "cleaned up"

    assert play(one, job) == "cleaned up"
    assert one.delivered is TIMEOUT


def test_whoever_asks_whether_it_is_cancelled_and_hears_so_is() -> None:
    """Asked outside of a worker, nobody is; the answer holds to the job's end and not for the next one."""
    assert not cancel_requested()
    answers = iter([False, True, False, False])
    one = Interrupts(lambda: next(answers))
    interrupts.listen(one.asked_to_end)
    try:
        assert (cancel_requested(), one.cancelled) == (False, False)
        assert (cancel_requested(), one.cancelled) == (True, True)
        assert cancel_requested()
        one.reset()
        assert (cancel_requested(), one.cancelled) == (False, False)
    finally:
        interrupts.listen(nobody)


def test_the_traceback_ends_in_the_jobs_own_code() -> None:
    """What handles the signal is of no interest."""
    one = Interrupts(nobody)
    worker = object.__new__(Worker)
    vars(worker).update(_card=Card(), _log_opened=0, _running=1, _runner=Runner(one))

    def job() -> None:
        worker.on_look(signal.SIGUSR1, None)

    ended = play(one, job)
    assert isinstance(ended, JobTimeout)
    assert "in on_look" in traceback_text(ended)
    cut(ended)
    told = traceback_text(ended)
    assert "in on_look" not in told
    assert "    worker.on_look(signal.SIGUSR1, None)\n" in told, "the last line of the job itself"


@pytest.mark.parametrize("running", [None, 2])
def test_a_worker_whose_card_tells_of_another_job_does_nothing(running: int | None) -> None:
    """Between two jobs, or when the next one has begun: the signal came too late."""
    one = Interrupts(nobody)
    worker = object.__new__(Worker)
    vars(worker).update(_card=Card(), _log_opened=0, _running=running, _runner=Runner(one))
    assert play(one, lambda: worker.on_look(signal.SIGUSR1, None)) is None
    assert not one.delivered
    assert not worker.asked_to_end()


def test_other_errors_keep_their_traceback() -> None:
    """However they came about."""
    with pytest.raises(ZeroDivisionError) as raised:
        1 / 0  # noqa: B018  # it raises
    before = traceback_text(raised.value)
    cut(raised.value)
    assert traceback_text(raised.value) == before


class Card:
    """Says that job 1 is over its time."""

    def read(self) -> tuple[int, Interrupt, int]:
        """Return what stands on it."""
        return 1, TIMEOUT, 0


class Runner:
    """Interrupts."""

    def __init__(self, one: Interrupts) -> None:
        self.interrupt = one.come


# -- coroutines -------------------------------------------------------------------------------------------------------


def test_a_coroutine_is_cancelled_in_its_own_thread_and_cleans_up() -> None:
    """It gets asyncio's own error; what comes out is ours."""
    one, seen = Interrupts(nobody), []

    async def job() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0.01)
            seen.append("cleaned up")
            raise

    with signals(lambda: one.come(TIMEOUT), 0.05):
        assert isinstance(play(one, async_to_sync(one.cancellable(job))), JobTimeout)
    assert seen == ["cancelled", "cleaned up"]


def test_a_coroutine_in_synchronous_code_is_cancelled_when_that_returns() -> None:
    """Nothing is raised in there: that code runs in the main thread for somebody who waits in another one."""
    one, seen = Interrupts(nobody), []

    def slow() -> None:
        time.sleep(0.2)
        seen.append("undisturbed")

    async def job() -> None:
        await sync_to_async(slow)()
        await asyncio.sleep(60)

    with signals(lambda: one.come(CANCEL), 0.05):
        assert isinstance(play(one, async_to_sync(one.cancellable(job))), JobCancelled)
    assert seen == ["undisturbed"]


def test_a_coroutine_that_was_interrupted_before_it_began_does_not_begin() -> None:
    """Nor does one that has returned feel anything."""
    one = Interrupts(nobody)

    async def job() -> str:
        return "done"

    one.come(TIMEOUT)
    assert isinstance(play(one, async_to_sync(one.cancellable(job))), JobTimeout)
    one.reset()
    call = async_to_sync(one.cancellable(job))

    def late() -> object:
        value = call()
        one.come(TIMEOUT)
        return value

    assert play(one, late) == "done"


def test_a_coroutine_that_cancels_itself_was_not_interrupted() -> None:
    """That is its own affair."""
    one = Interrupts(nobody)

    async def job() -> None:
        raise asyncio.CancelledError

    with pytest.raises(BaseException, match=r"^$") as raised:
        play(one, async_to_sync(one.cancellable(job)))
    assert type(raised.value).__name__ == "CancelledError"


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector away: what is raised in one of its callbacks is told, and swallowed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- many -------------------------------------------------------------------------------------------------------------


def test_signals_at_any_moment_hit_jobs_only() -> None:
    """Thousands of them: each job ends as itself or as interrupted, and nothing ever comes out beside one."""
    one = Interrupts(nobody)

    def job() -> int:
        return sum(range(2000))

    ends: list[object] = []
    with no_collection(), signals(lambda: one.come(TIMEOUT), 0.0002, 0.0002):
        until = time.monotonic() + 1
        while time.monotonic() < until:
            one.reset()
            ends.append(play(one, job))
    kinds = {type(end) for end in ends}
    assert kinds == {int, JobTimeout}, f"{len(ends)} jobs ended as {kinds}"
