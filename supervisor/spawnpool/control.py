"""The control socket: other processes ask the supervisor, and it answers when the fact has come.

A Unix socket beside the run file. A connection carries one request and one answer, each an object of JSON on a line of
its own: `{"command": "drain", "wait": true}`, then `{"ok": true, "words": "...", "status": {...}, "report": {...}}`.
Nothing here ever waits: a client that is slow, silent, dead or hostile costs a descriptor for some seconds, no more.
`client` is the other side.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

COMMANDS = ("drain", "stop", "reload", "quiet", "resume", "status")

REQUEST_BYTES_MAX = 4096
CLIENTS_MAX = 64
SILENCE_S = 10.0
"""How long a client may take to send its request, and then to take in the answer."""
LINGER_S = 0.5
"""How long a supervisor that ends waits for clients to take in answers that are on their way."""

_ADDRESS_BYTES_MAX = 107  # unix(7): sun_path has 108, and one is the final NUL
_ACCEPTS_MAX = 2 * CLIENTS_MAX
_PEER = struct.Struct("iII")  # pid, uid, gid: struct ucred of <linux/socket.h>
_ROOT = 0


def socket_path(runfile: Path) -> Path:
    """Return where the control socket of a run file stands: the same folder and stem, with the suffix .sock."""
    return runfile.with_suffix(".sock")


@contextmanager
def address(path: Path) -> Iterator[str]:
    """Provide what a socket binds or connects to; a path too long for that leads through its folder's descriptor."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def peer_uid(sock: socket.socket) -> int:
    """Return the effective user of the process at the other end, as the kernel noted it when they met."""
    uid: int = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1]
    return uid


class Request:
    """What one client asks, until it is answered.

    Args:
        client: its connection.
        command: one of `COMMANDS`.
        wait: whether to answer only when the fact has come.
    """

    def __init__(self, client: _Client, command: str, wait: bool) -> None:  # noqa: FBT001  # as it came
        self._client = client
        self.command, self.wait = command, wait

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more to hear an answer."""
        return self._client.gone

    def answer(self, answer: Mapping[str, Any]) -> None:
        """Send the answer and hang up; never waits, and does nothing for a client that has gone."""
        self._client.answer(answer)


class ControlServer:
    """Listens on the control socket.

    It belongs to the holder of the run file, so what stands at its path was left by the dead.

    Args:
        path: where the socket stands.
        clock: a monotonic clock in seconds.

    Raises:
        OSError: there can be no socket in that place; its strerror is a sentence.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._clients: list[_Client] = []
        self._listener = _listen(path)
        self._epoll = select.epoll()
        self._await_clients = (self._listener.fileno(), select.EPOLLIN | select.EPOLLET)
        self._epoll.register(*self._await_clients)

    def fileno(self) -> int:
        """Return the one descriptor to select on."""
        return self._epoll.fileno()

    def take(self) -> list[Request]:
        """Return the requests that have come in whole; to be called when `fileno()` is readable, or at any time."""
        self._forget()
        by_fd = {client.fileno(): client for client in self._clients}
        ready = [by_fd[fd] for fd, _ in self._epoll.poll(0) if fd in by_fd]
        requests = [request for client in ready if (request := client.go_on()) is not None]
        self._accept()
        return requests

    def close(self) -> None:
        """Take the socket away and hang up on everybody; answers on their way have `LINGER_S` to arrive."""
        with suppress(OSError):
            self._path.unlink()
        self._listener.close()
        for client in self._clients:
            if not client.sending:
                client.close()
        give_up_at = self._clock() + LINGER_S
        while (sending := [client for client in self._clients if client.sending]) and self._clock() < give_up_at:
            self._epoll.poll(max(0.0, give_up_at - self._clock()))
            for client in sending:
                client.go_on()
        for client in sending:
            client.close()
        self._epoll.close()

    def _forget(self) -> None:
        """Hang up on those who have gone or kept silent for too long."""
        now = self._clock()
        for client in self._clients:
            if client.abandoned(now):
                client.close()
        self._clients = [client for client in self._clients if not client.closed]

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_MAX):
            try:
                sock, _address = self._listener.accept()
            except OSError:  # there is none, or no descriptor for it: edge-triggered, so that does not spin the loop
                return
            sock.settimeout(0)
            client = _Client(sock, self._epoll, self._clock)
            if peer_uid(sock) not in (_ROOT, os.geteuid()):
                client.refuse("this supervisor belongs to another user: ask as that user or as root")
            elif len(self._clients) >= CLIENTS_MAX:
                client.refuse(f"{CLIENTS_MAX} others are asking this supervisor: try again in a moment")
            else:
                self._clients.append(client)
        self._epoll.modify(*self._await_clients)  # there may be more: be woken again


class _Client:
    """One connection: it is read, its request waits for the answer, the answer is sent, and that is all.

    Args:
        sock: the connection, which never blocks.
        epoll: told what the connection waits for; the kernel forgets it when it is closed.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, sock: socket.socket, epoll: select.epoll, clock: Callable[[], float]) -> None:
        self._sock, self._epoll, self._clock = sock, epoll, clock
        self._inbox, self._outbox = bytearray(), b""
        self._silent_since: float | None = clock()  # None while it waits for us
        epoll.register(sock, select.EPOLLIN)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    @property
    def sending(self) -> bool:
        """Whether a part of the answer is still here."""
        return bool(self._outbox) and not self.closed

    @property
    def gone(self) -> bool:
        """Whether it has hung up; one that only closed its own direction still listens."""
        if self.closed:
            return True
        hangup = select.poll()
        hangup.register(self._sock, 0)  # the end of both directions is told all the same
        return bool(hangup.poll(0))

    def abandoned(self, now: float) -> bool:
        """Whether it waits no more for us, or we have waited long enough for it."""
        return self.gone if self._silent_since is None else now >= self._silent_since + SILENCE_S

    def go_on(self) -> Request | None:
        """Do what the connection is ready for; return the request when it is there whole."""
        if self._outbox:
            self._write()
            return None
        line = self._read()
        if line is None:
            return None
        try:
            command, wait = parse(line)
        except ValueError as error:
            self.refuse(str(error))
            return None
        self._epoll.unregister(self._sock)  # whatever else it sends is not read
        self._silent_since = None
        return Request(self, command, wait)

    def answer(self, answer: Mapping[str, Any]) -> None:
        """Send as much as goes at once; the loop sends the rest."""
        if self.closed:
            return
        self._outbox, self._silent_since = json.dumps(answer).encode() + b"\n", self._clock()
        self._write()
        if self.sending:
            self._epoll.register(self._sock, select.EPOLLOUT)

    def refuse(self, words: str) -> None:
        """Answer as far as that goes at once, and hang up."""
        with suppress(OSError):
            self._sock.send(json.dumps(refusal(words)).encode() + b"\n")
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def _read(self) -> bytes | None:
        """Return the line that was asked for; None if it is not there yet, or never will be."""
        try:
            data = self._sock.recv(REQUEST_BYTES_MAX + 1 - len(self._inbox))
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        self._inbox += data
        line, end, _ = bytes(self._inbox).partition(b"\n")
        if end:
            return line
        if not data:
            self.close()
        elif len(self._inbox) > REQUEST_BYTES_MAX:
            self.refuse(f"a request has at most {REQUEST_BYTES_MAX} bytes and ends with a newline")
        return None

    def _write(self) -> None:
        try:
            self._outbox = self._outbox[self._sock.send(self._outbox) :]
        except BlockingIOError:
            return
        except OSError:
            self._outbox = b""
        if not self._outbox:
            self.close()


def parse(line: bytes) -> tuple[str, bool]:
    """Return the command of a request, and whether to wait for the fact.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        asked = json.loads(line)
        command, wait = asked["command"], asked.get("wait", False)
    except (ValueError, RecursionError, TypeError, KeyError):
        raise ValueError('a request is an object of JSON such as {"command": "status", "wait": false}') from None
    if command not in COMMANDS:
        raise ValueError(f"command is {command!r}: this supervisor knows {', '.join(COMMANDS)}")
    if wait not in (True, False):
        raise ValueError(f"wait is {wait!r}: expected true or false")
    return command, bool(wait)


def refusal(words: str) -> dict[str, Any]:
    """Return the answer that says no, and why."""
    return {"ok": False, "words": words, "status": None, "report": None}


def _listen(path: Path) -> socket.socket:
    """Return a listening socket, only for this user and root from its first moment on."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listener.fileno(), 0o600)  # the mode that the file will be made with
        _remove_stale(path)
        with address(path) as place:
            listener.bind(place)
        listener.listen(CLIENTS_MAX)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise OSError(error.errno, f"the control socket {path} cannot be made ({why})") from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a dead supervisor; anything else there is not ours to remove."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "something else stands there: remove it")
        path.unlink()
