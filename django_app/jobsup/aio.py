"""Coroutines of jobs, on one event loop that lives from job to job in a thread of its own.

What is bound to a loop, such as the client of a web service with its open connections, so serves many jobs. What a
coroutine does by `sync_to_async`, the ORM's asynchronous methods among it, runs in the thread that runs jobs, on that
thread's own database connections: that is how asgiref has it for whatever is called by `async_to_sync`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet, finalize

from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async
from django.db import connections

from jobsup.hygiene.connections import drop
from jobsup.hygiene.coroutines import ENDING_S, Coroutines
from jobsup.hygiene.leftovers import Findings
from jobsup.sqlalchemy import remove_sessions
from spawnpool.states import ExitCode

CLOSING_S = 1.0
"""How long the end of the loop's thread is waited for when the process ends."""

_running: WeakSet[LoopThread] = WeakSet()


class WorkerLoop:
    """The event loop of a process that runs jobs: made for the first coroutine, made anew when a job broke it."""

    def __init__(self) -> None:
        self._thread: LoopThread | None = None
        self._end: Callable[[], object] = int  # ends it, once; there is nothing to end yet
        self._findings = Findings()

    def to_sync(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Return what calls a coroutine function on the loop and returns what it returned; one at a time."""
        return partial(self._call, function)

    def restore(self, findings: Findings) -> None:
        """Tell what the last coroutine has left on the loop; as a room of the hygiene."""
        if self._thread is not None and self._thread.flaw:
            self._findings.restored.append(f"the event loop ({self._thread.flaw})")
            self.close()
        if self._findings.restored or self._findings.spoiled:
            findings.restored += self._findings.restored
            findings.spoiled += self._findings.spoiled
            self._findings = Findings()

    def close(self) -> None:
        """End the loop; the next coroutine gets a new one."""
        self._thread = None
        self._end()

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any) -> Any:
        if self._thread is not None and (self._thread.flaw or not self._thread.is_here()):
            self.close()
        if self._thread is None:
            self._thread = LoopThread()
            self._end = finalize(self, self._thread.close)  # also when we are collected, and at the process's end
        return self._thread.call(partial(function, *args, **kwargs), self._findings)


class LoopThread:
    """A thread with a running event loop."""

    def __init__(self) -> None:
        self.flaw = ""
        """Why this loop is fit for no further coroutine."""
        self._loop = asyncio.new_event_loop()
        self._debug = self._loop.get_debug()
        self._executor = Aides()
        self._desk = Desk()
        self._coroutines = Coroutines()
        self._attended: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._parents: dict[str, Any] = {}
        self._leaving = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="jobsup event loop", daemon=True)
        if not _running:
            _watch_forks()
        _running.add(self)
        self._thread.start()

    def is_here(self) -> bool:
        """Tell whether the thread is of this process, not of the one that this was forked from."""
        return self._pid == os.getpid()

    def call(self, function: Callable[[], Coroutine[Any, Any, Any]], findings: Findings) -> Any:
        """Run a coroutine, and meanwhile in this thread what it calls here; return what it returned.

        Args:
            function: makes the coroutine.
            findings: what the coroutine leaves on the loop is told here.

        Raises:
            RuntimeError: the loop broke.
            BaseException: whatever the coroutine raised.
        """
        jobs: list[asyncio.Task[Any]] = []
        errors: list[BaseException] = []

        async def attended() -> None:
            if asyncio.get_running_loop() is not self._loop:
                return
            self._loop.set_default_executor(self._executor)  # a job may have set another one
            if (own := asyncio.current_task()) is not None:
                self._attended.add(own)
            known = self._coroutines.present()
            jobs.append(asyncio.ensure_future(function()))
            await asyncio.wait(jobs)
            await self._coroutines.clear(known, findings)
            await self._executor.clear(findings)
            self._restore_settings(findings)
            remove_sessions()

        def here() -> None:
            try:
                async_to_sync(attended)()
            except BaseException as error:  # noqa: BLE001  # raised below, outside of what brought us here
                errors.append(error)

        before = dict(_parents())
        try:
            if self._parents:
                _parents().update(self._parents)
                here()
            if not jobs and not errors:  # it is the first time, or asgiref goes another way than it did
                self._call_back(here)
        finally:  # else asgiref would let synchronous jobs use the loop as well, where nobody looks after theirs
            _parents().clear()
            _parents().update(before)
        if errors:
            raise errors.pop()
        if not jobs or not jobs[0].done():
            raise self._broken()
        return jobs.pop().result()

    def _call_back(self, function: Callable[[], None]) -> None:
        """Have the loop call a function in this thread: then asgiref runs what that awaits on the loop.

        What asgiref notes of it in this thread is kept, so that this detour is made once.
        """

        def call() -> None:
            self._parents = dict(_parents())
            function()

        call_here: Any = sync_to_async(call, thread_sensitive=False, executor=self._desk)  # type: ignore[call-overload]
        asyncio.run_coroutine_threadsafe(call_here(), self._loop)
        self._desk.serve()

    def close(self) -> None:
        """Have the thread end, unless it hangs."""
        if not self.is_here():
            return
        self._leaving = True
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSING_S)

    def stop_child(self) -> None:
        """In a forked child: leave the loop, whose descriptors are the parent's, if a coroutine comes back to it."""
        if threading.get_ident() == self._thread.ident:
            self._loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        broken = False
        while not self._leaving and not broken:
            try:
                self._loop.call_soon(self._coroutines.watch)
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                pass  # asyncio raises these through the loop as well as in the task that waits for the one that raised
            except BaseException as error:  # noqa: BLE001  # a job closed its descriptors
                broken, self.flaw = True, f"broken: {type(error).__name__}"
            if not self.is_here():
                os._exit(ExitCode.WALKED_ON)
        if broken:
            self._give_up()
        else:
            with suppress(SystemExit, KeyboardInterrupt, RuntimeError):  # of a task; it stopped the loop
                self._loop.run_until_complete(self._finish())
        self._executor.shutdown(wait=False, cancel_futures=True)
        with suppress(OSError):
            self._loop.close()

    async def _finish(self) -> None:
        """End what is still there, most often nothing."""
        await self._coroutines.clear({asyncio.current_task()}, Findings())

    def _give_up(self) -> None:
        """Have whoever waits for the loop hear that it is broken."""
        self._loop.set_exception_handler(lambda _loop, _context: None)  # of tasks that nobody will end
        self._desk.submit(lambda: None)
        for task in [each for each in self._attended if not each.done()]:
            with suppress(StopIteration):
                task.get_coro().throw(self._broken())

    def _broken(self) -> RuntimeError:
        return RuntimeError(f"the event loop of this worker is {self.flaw}; the next coroutine gets a new one")

    def _restore_settings(self, findings: Findings) -> None:
        if self._loop.get_exception_handler() is not None:
            self._loop.set_exception_handler(None)
            findings.restored.append("the event loop's exception handler")
        if self._loop.get_task_factory() is not None:
            self._loop.set_task_factory(None)
            findings.restored.append("the event loop's task factory")
        if self._loop.get_debug() != self._debug:
            self._loop.set_debug(self._debug)
            findings.restored.append("the event loop's debug mode")
        if self._executor.ended:
            self.flaw = "its executor was shut down"


class Desk(Executor):
    """Where the loop leaves what the thread that waits for it is to do first."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Leave a call."""
        future: Future[Any] = Future()
        self._calls.put(partial(_perform, future, partial(function, *args, **kwargs)))
        return future

    def serve(self) -> None:
        """Wait for a call and perform it."""
        self._calls.get()()


class Aides(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`, as many as asyncio has; none keeps a database connection after a call."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="asyncio")
        self.ended = False
        self._busy: set[threading.Thread] = set()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a thread call a function."""
        return super().submit(self._call, function, *args, **kwargs)

    async def clear(self, findings: Findings) -> None:
        """Find the calls that go on, of which Python tells nobody: threads of a daemon are daemons."""
        rounds = 10
        while self._busy and rounds:
            rounds -= 1
            await asyncio.sleep(ENDING_S / 10)
        findings.spoiled += [f"a thread that goes on ({thread.name})" for thread in tuple(self._busy)]

    def _call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        thread = threading.current_thread()
        self._busy.add(thread)
        try:
            return function(*args, **kwargs)
        finally:
            for connection in connections.all(initialized_only=True):
                drop(connection)
            self._busy.discard(thread)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  # Python's signature
        """End the threads; a job may ask the loop for that."""
        self.ended = True
        super().shutdown(wait, cancel_futures=cancel_futures)


def _perform(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001  # it is the caller's
        future.set_exception(error)
    else:
        future.set_result(result)


def _parents() -> dict[str, Any]:
    """Return what asgiref knows in this thread of the loop that called it last."""
    return vars(getattr(SyncToAsync, "threadlocal", threading.local()))


def _watch_forks() -> None:
    global _watching  # noqa: PLW0603  # what is registered for forks stays so
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_stop_children)


_watching = False


def _stop_children() -> None:
    for each in _running:
        each.stop_child()
