"""Coroutines: what they keep from job to job, what they find, and what they leave on the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connection

from jobsup import task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

LONG_S = 3600.0


class Client:
    """Talks to a server over one connection, which is bound to the loop, as a client of the web is."""

    def __init__(self) -> None:
        self.asked = 0
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, place: str, question: str) -> str:
        """Return the server's answer."""
        async with self._lock:
            if self._streams is None:
                self._streams = await asyncio.open_unix_connection(place)
            reader, writer = self._streams
            writer.write(f"{question}\n".encode())
            await writer.drain()
            self.asked += 1
            return (await reader.readline()).decode().strip()


client = Client()
over = threading.Event()
"""Ends threads."""
kept: list[Any] = []
"""Keeps what must not be collected."""


@task
async def ask(place: str, question: str) -> dict[str, Any]:
    """Ask twice at a time; return the answers, and who asked."""
    answers = await asyncio.gather(client.ask(place, question), client.ask(place, question))
    return {"answers": answers, "asked": client.asked, "pid": os.getpid()}


@task
async def session_of_coroutine() -> dict[str, Any]:
    """Return which session synchronous code that a coroutine calls is given, and whether it runs in the main thread."""
    return await sync_to_async(_session)()


@task
def session_of_function() -> dict[str, Any]:
    """Return which session a function is given."""
    return _session()


def _session() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [session] = cursor.fetchone() or (0,)
    in_main = threading.current_thread() is threading.main_thread()
    return {"pid": os.getpid(), "session": session, "in main thread": in_main}


async def linger() -> None:
    """Go on for long."""
    await asyncio.sleep(LONG_S)


async def refuse() -> None:
    """Go on, whatever comes."""
    while True:
        try:
            await asyncio.sleep(LONG_S)
        except BaseException:  # noqa: BLE001  # that is the fault
            continue


async def numbers() -> AsyncIterator[int]:
    """Count to two."""
    yield 1
    yield 2


async def leave_task() -> None:
    """Start what nobody waits for."""
    kept.append(asyncio.create_task(linger()))
    await asyncio.sleep(0)


async def leave_deaf_task() -> None:
    """Start what nobody can end."""
    kept.append(asyncio.create_task(refuse()))
    await asyncio.sleep(0)


async def leave_ending_task() -> None:
    """Start what ends soon."""
    kept.append(asyncio.create_task(asyncio.sleep(0.001)))


async def leave_generator() -> None:
    """Stop in the middle of a generator and keep it."""
    kept.append(numbers())
    await anext(kept[-1])


async def forget_generator() -> None:
    """Stop in the middle of a generator."""
    async for _ in numbers():
        break


async def leave_thread() -> None:
    """Have a thread do something for long."""
    begun = threading.Event()
    over.clear()

    def work() -> None:
        begun.set()
        over.wait(LONG_S)

    kept.append(asyncio.get_running_loop().run_in_executor(None, work))
    await asyncio.to_thread(begun.wait)


async def shut_executor_down() -> None:
    """Leave the loop without threads."""
    await asyncio.to_thread(int)
    await asyncio.get_running_loop().shutdown_default_executor()


async def change_settings() -> None:
    """Have the loop work in another way."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    loop.set_debug(not loop.get_debug())
    loop.set_task_factory(lambda loop, coroutine, **rest: asyncio.Task(coroutine, loop=loop, **rest))


async def stop() -> None:
    """Stop the loop."""
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


async def use_thread() -> None:
    """Ask the database in a thread of the loop."""

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")

    await asyncio.to_thread(work)


WAYS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "task": leave_task,
    "deaf task": leave_deaf_task,
    "ending task": leave_ending_task,
    "generator": leave_generator,
    "forgotten generator": forget_generator,
    "thread": leave_thread,
    "executor": shut_executor_down,
    "settings": change_settings,
    "stopped": stop,
    "used thread": use_thread,
}

# What hygiene is to say to them: put back; not to be put back; nothing to tell.
RESTORED: dict[str, list[str]] = {
    "task": ["a coroutine that goes on (linger)"],
    "generator": ["an async generator that was not closed (numbers)"],
    "executor": ["the event loop (its executor was shut down)"],
    "settings": [
        "the event loop's exception handler",
        "the event loop's task factory",
        "the event loop's debug mode",
    ],
}
SPOILED = {"deaf task": "a coroutine that cannot be cancelled (refuse)", "thread": "a thread that goes on (asyncio_0)"}
FORGIVEN = ["ending task", "forgotten generator", "stopped", "used thread"]


@task
async def leave(way: str) -> int:
    """Leave something on the loop; return the pid."""
    await WAYS[way]()
    return os.getpid()


@task
async def close_loop() -> None:
    """Close the loop."""
    asyncio.get_running_loop().close()


@task
async def lose_descriptors() -> None:
    """Close the descriptor that the loop waits on, and wait."""
    for fd in _event_polls():
        os.close(fd)
    await asyncio.sleep(LONG_S)


@task
async def which_loop() -> list[int]:
    """Return the pid, and a number that stands for the loop."""
    return [os.getpid(), id(asyncio.get_running_loop())]


def _event_polls() -> list[int]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [int(link.name) for link in links if str(link.readlink()) == "anon_inode:[eventpoll]"]
