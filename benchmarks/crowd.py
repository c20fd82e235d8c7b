"""Processes that do something at the same time, each with its connection to the database."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

START_TIMEOUT_S = 300.0


class Done(NamedTuple):
    """What one of them has done, and when, in seconds since the epoch."""

    answer: Any
    began: float
    ended: float


class Crowd(NamedTuple):
    """What all of them have done."""

    done: list[Done]

    @property
    def took_s(self) -> float:
        """From the first beginning to the last end."""
        return max(each.ended for each in self.done) - min(each.began for each in self.done)


def together(work: Callable[[Any], Any], arguments: Sequence[Any]) -> Crowd:
    """Do some work in a process for each argument; all begin once the last one has connected.

    Args:
        work: a function of a module.
        arguments: what each process gets.

    Raises:
        RuntimeError: one of them ended without an answer.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(arguments))
    answers: Queue[Done] = context.Queue()
    processes = [
        context.Process(target=_take_part, args=(work, argument, barrier, answers), daemon=True)
        for argument in arguments
    ]
    for process in processes:
        process.start()
    found: list[Done] = []
    while len(found) < len(processes):
        try:
            found.append(answers.get(timeout=1))
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a process of the crowd failed, see above") from None
    for process in processes:
        process.join()
    return Crowd(found)


def _take_part(work: Callable[[Any], Any], argument: Any, barrier: Barrier, answers: Queue[Done]) -> None:
    import django
    from django.db import connection

    django.setup()
    connection.ensure_connection()
    barrier.wait(START_TIMEOUT_S)
    began = time.time()
    answer = work(argument)
    answers.put(Done(answer, began, time.time()))
