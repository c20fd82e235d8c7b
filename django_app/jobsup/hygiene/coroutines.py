"""What a job leaves on the event loop, which lives from job to job: tasks, and generators that were not closed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Set
from typing import Any
from weakref import WeakSet

from jobsup.hygiene.leftovers import Findings
from jobsup.text import bounded

ENDING_S = 0.05
"""How long tasks that are just ending are waited for, all of them together; as threads are."""

CANCELLING_S = 1.0
"""How long tasks that were cancelled, and generators that are being closed, may take to clean up."""

_NAME_CHARS_MAX = 60


class Coroutines:
    """The tasks and asynchronous generators of one event loop; used in its thread only."""

    def __init__(self) -> None:
        self._generators: WeakSet[AsyncGenerator[Any, Any]] = WeakSet()

    def watch(self) -> None:
        """Take note of each generator that begins; to be said again whenever the loop begins to run."""
        hooks = sys.get_asyncgen_hooks()

        def begins(generator: AsyncGenerator[Any, Any]) -> None:
            self._generators.add(generator)
            if hooks.firstiter is not None:
                hooks.firstiter(generator)

        sys.set_asyncgen_hooks(firstiter=begins)  # the loop's own finalizer stays

    def present(self) -> Set[object]:
        """Return the tasks and generators that there are; a job that comes now may not end them."""
        return {*asyncio.all_tasks(), *self._generators}

    async def clear(self, known: Set[object], findings: Findings) -> None:
        """End what the job that just returned has left.

        Args:
            known: what was `present` before it.
            findings: what was left is told here.
        """
        if left := asyncio.all_tasks() - known:
            await _end_tasks(left, findings)
        if generators := [each for each in self._generators if each not in known and not _is_over(each)]:
            await _close(generators, findings)


async def _end_tasks(tasks: set[asyncio.Task[Any]], findings: Findings) -> None:
    """Cancel tasks; one that does not end of that keeps the loop to itself."""
    _, pending = await asyncio.wait(tasks, timeout=ENDING_S)
    if not pending:
        return
    for task in pending:
        task.cancel()
    _, deaf = await asyncio.wait(pending, timeout=CANCELLING_S)
    findings.restored += [f"a coroutine that goes on ({_name(task.get_coro())})" for task in pending - deaf]
    findings.spoiled += [f"a coroutine that cannot be cancelled ({_name(task.get_coro())})" for task in deaf]


async def _close(generators: list[AsyncGenerator[Any, Any]], findings: Findings) -> None:
    closing = [asyncio.ensure_future(_closed(each)) for each in generators]
    done, deaf = await asyncio.wait(closing, timeout=CANCELLING_S)
    for task, generator in zip(closing, generators, strict=True):
        where = findings.restored if task in done and task.exception() is None else findings.spoiled
        where.append(f"an async generator that was not closed ({_name(generator)})")
    for task in deaf:
        task.cancel()


async def _closed(generator: AsyncGenerator[Any, Any]) -> None:
    await generator.aclose()


def _is_over(generator: AsyncGenerator[Any, Any]) -> bool:
    return getattr(generator, "ag_frame", None) is None


def _name(code: Any) -> str:
    return bounded(getattr(code, "__qualname__", type(code).__name__))[:_NAME_CHARS_MAX]
