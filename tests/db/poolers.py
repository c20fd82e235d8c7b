"""A stand-in for a pooler between a client and a PostgreSQL server, as a client sees one."""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.postgres import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY_DATA, NOTIFICATION, READY = b"K", b"A", b"Z"  # of the frontend/backend protocol, version 3


@contextmanager
def pooler(server: Path, *, by_sessions: bool = False) -> Iterator[str]:
    """Provide the folder of a socket that leads to a server's through something that acts like PgBouncer.

    It makes up the process and the key that a client is told, and by transactions it lets a notification through only
    with the answer to a statement.
    """
    folder = tempfile.mkdtemp(prefix="jobsup-pool-")
    name = f".s.PGSQL.{PORT}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / name))
        listener.listen()
        threading.Thread(target=_accept, args=(listener, str(server / name), by_sessions), daemon=True).start()
        try:
            yield folder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            shutil.rmtree(folder)


def _accept(listener: socket.socket, server: str, by_sessions: bool) -> None:  # noqa: FBT001
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(server)
            threading.Thread(target=_upwards, args=(client, upstream), daemon=True).start()
            threading.Thread(target=_downwards, args=(upstream, client, by_sessions), daemon=True).start()


def _upwards(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(1 << 16):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _downwards(server: socket.socket, client: socket.socket, by_sessions: bool) -> None:  # noqa: FBT001
    ready = False  # between two statements
    with suppress(OSError), server, client, server.makefile("rb") as incoming:
        while len(head := incoming.read(5)) == 5:
            kind, size = head[:1], struct.unpack("!i", head[1:])[0]
            body = incoming.read(size - 4)
            if kind == KEY_DATA:
                body = struct.pack("!ii", 1, 2)
            if kind != NOTIFICATION or by_sessions or not ready:
                client.sendall(head + body)
            ready = kind == READY or (ready and kind == NOTIFICATION)
