"""Stands between a client and PostgreSQL's Unix socket, and cuts the connection at a COMMIT."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

COMMIT = b"COMMIT\0"
LATE_S = 0.5

Cut = Literal["not sent", "answer lost", "under way"]
"""What became of the COMMIT: the server never got it; it did, and its answer was lost; it got it after the cut."""


class CommitProxy:
    """Passes everything on until it is told to cut; use it in a `with` block.

    Args:
        directory: a short path, where its socket is made.
        server: the directory of the server's socket.
        port: the number in the names of both.
    """

    def __init__(self, directory: Path, server: Path, port: int) -> None:
        self.cuts: list[Cut | None] = []
        """What to do at the COMMITs to come, None to let one pass; after that they all pass."""
        self._name = f".s.PGSQL.{port}"
        self._server = server / self._name
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / self._name))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._pass_on, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            server.connect(str(self._server))
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            with suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        source: socket.socket = key.fileobj  # type: ignore[assignment]
                        data = source.recv(65536)
                        if not data:
                            return
                        if source is client and COMMIT in data and self.cuts and (cut := self.cuts.pop(0)):
                            self._cut(cut, client, server, data)
                            return
                        key.data.sendall(data)

    def _cut(self, cut: Cut, client: socket.socket, server: socket.socket, data: bytes) -> None:
        if cut == "not sent":
            return
        if cut == "under way":
            client.close()
            time.sleep(LATE_S)
        server.sendall(data)
        server.recv(65536)
