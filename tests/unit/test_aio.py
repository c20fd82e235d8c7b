"""Coroutines run on one loop that lives from call to call; what they leave on it is ended and told (D9)."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections

from jobsup.aio import WorkerLoop
from jobsup.hygiene import coroutines
from jobsup.hygiene.leftovers import Findings
from tests.support import ROOT, environment, eventually
from tests.testapp import loops

if TYPE_CHECKING:
    from collections.abc import Iterator

number = contextvars.ContextVar("number", default=0)


@pytest.fixture
def loop() -> Iterator[WorkerLoop]:
    """A worker's loop, which ends with the test."""
    before = threading.enumerate()
    made = WorkerLoop()
    yield made
    loops.over.set()
    made.close()
    del made
    gc.collect()
    eventually(
        lambda: [each for each in threading.enumerate() if each not in before] == [], 30, "the end of its threads"
    )


def left_by(loop: WorkerLoop, way: str) -> Findings:
    """Return what one way leaves on a loop."""
    findings = Findings()
    loop.to_sync(loops.WAYS[way])()
    loop.restore(findings)
    return findings


async def running() -> asyncio.AbstractEventLoop:
    """Return the loop."""
    return asyncio.get_running_loop()


def test_one_loop_serves_call_after_call(loop: WorkerLoop) -> None:
    """What is bound to it goes on: a lock that somebody waited for, a queue, a future."""
    lock, queue = asyncio.Lock(), asyncio.Queue[int]()

    async def contend(value: int) -> list[int]:
        async def hold() -> None:
            async with lock:
                await asyncio.sleep(0)
                await queue.put(value)

        await asyncio.gather(hold(), hold())
        return [await queue.get(), await queue.get()]

    call = loop.to_sync(contend)
    assert [call(value) for value in range(3)] == [[0, 0], [1, 1], [2, 2]]
    assert loop.to_sync(running)() is loop.to_sync(running)()


def test_the_loop_is_the_same_though_asgiref_forgets_it(loop: WorkerLoop) -> None:
    """What it notes of the loop that called it is no public thing."""
    before = loop.to_sync(running)()
    assert loop._thread is not None
    assert loop._thread._parents
    loop._thread._parents = {"something else": 1}
    assert loop.to_sync(running)() is before


def test_what_a_coroutine_returns_or_raises_comes_out(loop: WorkerLoop) -> None:
    """Also what asyncio lets through the loop, which goes on."""
    before = loop.to_sync(running)()

    async def fail(error: BaseException) -> None:
        raise error

    for kind in (ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError):
        with pytest.raises(kind):
            loop.to_sync(fail)(kind("so"))
    with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
        loop.to_sync(loops.close_loop.func)()
    assert loop.to_sync(running)() is before


def test_d8_synchronous_code_of_a_coroutine_runs_in_the_thread_that_called_it(loop: WorkerLoop) -> None:
    """And a coroutine that such code calls runs on the same loop."""

    def deeper() -> tuple[int, asyncio.AbstractEventLoop]:
        return threading.get_ident(), async_to_sync(running)()

    async def job() -> tuple[int, tuple[int, asyncio.AbstractEventLoop]]:
        return threading.get_ident(), await sync_to_async(deeper)()

    its_thread, (thread, found) = loop.to_sync(job)()
    assert its_thread != thread == threading.get_ident()
    assert found is loop.to_sync(running)()


def test_a_function_that_calls_a_coroutine_itself_has_a_loop_of_its_own(loop: WorkerLoop) -> None:
    """As it had before any coroutine came by: what it starts there is nobody's but its own."""
    for way in (loops.forget_generator, running):
        loop.to_sync(way)()
        assert async_to_sync(running)() is not loop.to_sync(running)()


def test_d9_context_variables_do_not_come_out_of_a_job(loop: WorkerLoop) -> None:
    """Within it they pass to synchronous code and back."""

    async def job() -> tuple[int, int]:
        found = number.get()
        number.set(5)
        await sync_to_async(lambda: number.set(number.get() + 1))()
        return found, number.get()

    number.set(1)
    assert [loop.to_sync(job)() for _ in range(2)] == [(1, 6), (1, 6)]
    assert number.get() == 1


def test_a_job_within_a_job_leaves_the_outer_one_alone(loop: WorkerLoop) -> None:
    """Its tasks go on, its generators stay open: they are not what the inner one left."""
    findings = Findings()

    def inner() -> object:
        return loop.to_sync(loops.leave_task)()

    async def outer() -> list[int]:
        own, counting = asyncio.create_task(asyncio.sleep(0.001, 7)), loops.numbers()
        first = await anext(counting)
        await sync_to_async(inner)()
        return [first, await anext(counting), await own]

    assert loop.to_sync(outer)() == [1, 2, 7]
    loop.restore(findings)
    assert "a coroutine that goes on (linger)" in findings.restored


@pytest.mark.parametrize("way", loops.RESTORED)
def test_d9_what_a_job_leaves_on_the_loop_is_ended_and_told_once(loop: WorkerLoop, way: str) -> None:
    """Tasks are cancelled, generators closed, settings put back."""
    found = left_by(loop, way)
    assert (found.restored, found.spoiled) == (loops.RESTORED[way], [])
    assert left_by(loop, "forgotten generator") == Findings()


def test_d9_a_task_that_is_cancelled_cleans_up(loop: WorkerLoop) -> None:
    """With synchronous code in the thread of the job, too."""
    seen: list[int] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await sync_to_async(lambda: seen.append(threading.get_ident()))()

    async def job() -> None:
        loops.kept.append(asyncio.create_task(clean_up()))
        await asyncio.sleep(0)

    loop.to_sync(job)()
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize("way", loops.SPOILED)
def test_d9_m18_what_cannot_be_ended_asks_for_a_fresh_worker(
    loop: WorkerLoop, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """It is named."""
    monkeypatch.setattr(coroutines, "CANCELLING_S", 0.05)
    found = left_by(loop, way)
    assert (found.restored, found.spoiled) == ([], [loops.SPOILED[way]])


@pytest.mark.parametrize("way", loops.FORGIVEN)
def test_d9_a_tidy_coroutine_is_not_accused(loop: WorkerLoop, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """What ends by itself is nothing to tell, and the loop stays."""
    monkeypatch.setattr(coroutines, "ENDING_S", 30)  # the machine may be busy
    before = loop.to_sync(running)()
    assert left_by(loop, way) == Findings()
    assert loop.to_sync(running)() is before


def test_d1_a_thread_of_the_loop_keeps_no_connection(loop: WorkerLoop, sqlite_template: object) -> None:
    """What it did on one is over when its call returns; asyncio's bound for the number of threads holds."""

    def find() -> tuple[int, list[str]]:
        found = [each.alias for each in connections.all(initialized_only=True) if each.connection is not None]
        connections["default"].ensure_connection()
        return threading.get_ident(), found

    async def job() -> list[tuple[int, list[str]]]:
        return await asyncio.gather(*(asyncio.to_thread(find) for _ in range(200)))

    found = [each for _ in range(2) for each in loop.to_sync(job)()]
    assert [held for _, held in found if held] == []
    assert len({thread for thread, _ in found}) <= min(32, (os.cpu_count() or 1) + 4)


def test_a_job_whose_loop_breaks_fails_and_the_next_one_gets_a_new_loop(loop: WorkerLoop) -> None:
    """It does not hang; it is told."""
    before, findings = loop.to_sync(running)(), Findings()
    message = r"^the event loop of this worker is broken: OSError; the next coroutine gets a new one$"
    with pytest.raises(RuntimeError, match=message):
        loop.to_sync(loops.lose_descriptors.func)()
    assert loop.to_sync(running)() is not before, "also before anybody looked"
    with pytest.raises(RuntimeError, match=message):
        loop.to_sync(loops.lose_descriptors.func)()
    loop.restore(findings)
    assert (findings.restored, findings.spoiled) == (["the event loop (broken: OSError)"], [])
    assert loop.to_sync(running)() is not before


def test_what_is_still_there_ends_with_the_loop(loop: WorkerLoop) -> None:
    """A task that a timer has started after the job, too; it may clean up."""
    before = len(loops.kept)

    async def set_timer() -> None:
        running = asyncio.get_running_loop()
        running.call_later(0.01, lambda: loops.kept.append(running.create_task(loops.linger())))

    loop.to_sync(set_timer)()
    eventually(lambda: len(loops.kept) > before, 30, "the task")
    loop.close()
    assert loops.kept[-1].cancelled()


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that tells every neglect, with `loop` made."""
    given = "import asyncio, os, django; django.setup()\nfrom jobsup.aio import WorkerLoop\nloop = WorkerLoop()\n"
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", given + code],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_loop_ends_silently_with_its_process() -> None:
    """Whether or not somebody closed it; after `asyncio.to_thread`, too."""
    ended = in_a_process("loop.to_sync(asyncio.to_thread)(print, 'done', flush=True)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


FORKING = """
async def fork():
    if (pid := os.fork()) == 0:
        await asyncio.sleep(0)
        print("the child walked on")
        return
    return os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, pid, 0))[1])
print(loop.to_sync(fork)(), loop.to_sync(fork)())
"""


def test_a_forked_child_that_comes_back_to_the_loop_ends_there() -> None:
    """The loop's descriptors are its parent's, which goes on."""
    ended = in_a_process(FORKING)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "70 70\n", "")


def test_a_loop_that_was_closed_is_made_anew_when_it_is_wanted(loop: WorkerLoop) -> None:
    """It is closed for certain, with its threads."""
    first = loop.to_sync(running)()
    loop.to_sync(asyncio.to_thread)(int)
    loop.close()
    assert first.is_closed()
    assert loop.to_sync(running)() is not first
