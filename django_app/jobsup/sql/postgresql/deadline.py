"""A deadline of the client's own for every wait for PostgreSQL.

A server whose processes are stopped acknowledges what it is sent, and one behind a lost route says nothing at all: no
time-out of the server fires then, nor one of TCP soon. So here the client gives up, closes the connection without
another word and raises. A statement that was sent may take effect all the same.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from jobsup.sql.postgresql.driver import is_psycopg3

T = TypeVar("T")

_READ, _WRITE = 1, 2
"""What a driver waits for: `POLL_READ` and `POLL_WRITE` of psycopg 2, flags of `Wait` and `Ready` in psycopg 3."""


def bounded(most_s: float) -> AbstractContextManager[None]:
    """Let no wait of this process for PostgreSQL be longer, within a block; it raises the driver's OperationalError.

    It holds for the whole process, and with psycopg 2 no COPY is possible meanwhile: for a process of a single thread.
    Connecting is bounded as well, for each of several hosts; with psycopg 3 it is by `connect_timeout`. Host names are
    resolved by the C library, which has time-outs of its own (resolv.conf).

    Args:
        most_s: how long one wait may be, in seconds.
    """
    return _psycopg3(most_s) if is_psycopg3() else _psycopg2(most_s)


@contextmanager
def _psycopg2(most_s: float) -> Iterator[None]:
    """Wait in Python; else libpq does, deep in C."""
    from psycopg2 import OperationalError, extensions

    connected = (extensions.STATUS_READY, extensions.STATUS_BEGIN, extensions.STATUS_PREPARED)

    def wait(driver: Any) -> None:
        hosts = 1 if driver.status in connected else driver.info.dsn_parameters.get("host", "").count(",") + 1
        give_up_at = time.monotonic() + most_s * hosts
        while (state := driver.poll()) != extensions.POLL_OK:
            if not _ready(driver.fileno(), state, give_up_at):  # psycopg 2 closes the connection for what is raised
                raise OperationalError(_words(most_s * hosts))

    before = extensions.get_wait_callback()
    extensions.set_wait_callback(wait)
    try:
        yield
    finally:
        extensions.set_wait_callback(before)


@contextmanager
def _psycopg3(most_s: float) -> Iterator[None]:
    """Stand in for the one method that waits for everything on a connection that is there."""
    from psycopg import Connection, OperationalError

    def wait(self: Any, gen: Generator[int, int, T], *_interval: Any, **_timeout: Any) -> T:
        give_up_at = time.monotonic() + most_s
        try:
            wanted = next(gen)
            while ready := _ready(self.pgconn.socket, wanted, give_up_at):
                wanted = gen.send(ready)
        except StopIteration as stop:
            result: T = stop.value
            return result
        gen.close()
        self.close()  # nobody knows what its next answer would be to
        raise OperationalError(_words(most_s))

    before = Connection.wait
    setattr(Connection, "wait", wait)  # noqa: B010  # a method that is replaced for a while
    try:
        yield
    finally:
        setattr(Connection, "wait", before)  # noqa: B010


def _ready(fd: int, wanted: int, give_up_at: float) -> int:
    """Wait until a descriptor is ready; return for what, 0 when the time is over."""
    events = (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0)
    poll = select.poll()
    poll.register(fd, events)
    found = poll.poll(max(0.0, give_up_at - time.monotonic()) * 1000)
    if not found:
        return 0
    happened = found[0][1]
    if not happened & events:  # an error: reading tells it
        return wanted
    return (_READ if happened & select.POLLIN else 0) | (_WRITE if happened & select.POLLOUT else 0)


def _words(most_s: float) -> str:
    return f"no answer within {most_s:g} s"
