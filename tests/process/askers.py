"""A control server and its clients in one process, for tests that play both sides."""

from __future__ import annotations

import json
import os
import select
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spawnpool.control import ControlServer, address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spawnpool.control import Request


ROOT_UID, NOBODY = 0, 65534
STATUS = b'{"command": "status"}\n'
DONE = {"ok": True, "words": "done", "status": None, "report": None}


class Clock:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class World:
    """A server with its clients, in one process: neither ever blocks, so they take turns."""

    def __init__(self, path: Path, clock: Callable[[], float] | None = None) -> None:
        self.path, self.clock = path, Clock()
        self.server = ControlServer(path, clock=clock or self.clock)
        self._clients: list[socket.socket] = []

    def unconnected(self) -> socket.socket:
        """Return a socket of a client."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        self._clients.append(client)
        return client

    def client(self, *data: bytes) -> socket.socket:
        """Return a new connection over which some data has been sent."""
        client = self.unconnected()
        with address(self.path) as place:
            client.connect(place)
        for each in data:
            client.sendall(each)
        return client

    @property
    def idle(self) -> bool:
        """Whether the loop around the server would sleep."""
        return not select.select([self.server], [], [], 0)[0]

    def turn(self) -> list[Request]:
        """Let the server do all it can, as its loop would; return the requests."""
        requests: list[Request] = []
        for _ in range(1000):
            if self.idle:
                return requests
            requests += self.server.take()
        raise AssertionError("the loop spins")

    def request(self, *data: bytes) -> tuple[socket.socket, Request]:
        """Return a new client and its request."""
        client = self.client(*(data or (STATUS,)))
        (request,) = self.turn()
        return client, request

    def assert_serves(self) -> None:
        """Fail unless a client that does everything right is served."""
        client, request = self.request()
        request.answer(DONE)
        assert heard(client) == DONE

    def close(self) -> None:
        """End both sides."""
        self.server.close()
        for client in self._clients:
            client.close()


def heard(client: socket.socket) -> Any:
    """Return the answer that a client reads; None when the connection ended without one."""
    with client.makefile("rb") as stream:
        line = stream.readline()
    return json.loads(line) if line else None


def open_fds() -> set[int]:
    """Return the open descriptors of this process."""
    fds = {int(link.name) for link in Path("/proc/self/fd").iterdir()}
    return {fd for fd in fds if Path(f"/proc/self/fd/{fd}").is_symlink()}  # without the one that listed them


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be another user for a while, as the kernel notes it in the connections made meanwhile."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(ROOT_UID)
        os.setegid(ROOT_UID)
