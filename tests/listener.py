"""A service manager's socket, to hear what a supervisor says to it."""

from __future__ import annotations

import socket
from typing import Self


class Listener:
    """A socket that takes words in; use it in a `with` block.

    Args:
        name: its path, or an abstract name that begins with @.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.all: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def heard(self) -> list[str]:
        """Return the words that have come since the last call; `all` keeps them, too."""
        words: list[str] = []
        while True:
            try:
                words.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                self.all += words
                return words

    def __enter__(self) -> Self:
        self._socket.bind("\0" + self.name[1:] if self.name.startswith("@") else self.name)
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()
