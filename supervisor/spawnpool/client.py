"""Asking a running supervisor through its control socket, and waiting for the fact; `control` is the other side."""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from spawnpool.control import address, peer_uid, socket_path
from spawnpool.errors import SpawnpoolError

ENDING = ("drain", "stop")
"""The commands whose fact is that the supervisor is no more."""

LISTEN_WAIT_S = 5.0
"""How long a supervisor that starts or ends may be without its socket."""
LAST_MOMENT_S = 1.0
"""How long a dead process may still seem to hold its lock after it hung up."""
POLL_S = 0.05
_ROOT = 0


class AskingFailed(SpawnpoolError):
    """The supervisor could not be asked."""


class NotRunning(AskingFailed):
    """No supervisor holds the run file."""


class NotAllowed(AskingFailed):
    """The run file or the supervisor belongs to another user."""


class Unheard(AskingFailed):
    """A supervisor runs, and cannot be asked."""


class EndedMeanwhile(AskingFailed):
    """The supervisor ended before it answered."""


class TimedOut(AskingFailed):
    """The time was over before the fact had come."""


def ask(path: Path, command: str, *, wait: bool, timeout_s: float | None) -> dict[str, Any]:
    """Ask the supervisor that holds a run file; return its answer.

    Args:
        path: the run file.
        command: one of `control.COMMANDS`.
        wait: whether to wait for the fact; that of an ending is that the run file is free.
        timeout_s: how long to wait for all of it, in seconds; None for as long as it takes.

    Raises:
        AskingFailed: as the subclass says, with a sentence for the user.
    """
    deadline = _Deadline(timeout_s)
    until_end = wait and command in ENDING
    if holder(path) is None:
        raise NotRunning(f"no supervisor holds the run file {path}")
    connected = _connect(path, deadline)
    if connected is None:
        if until_end:
            return {"ok": True, "words": "it was ending already and is gone", "status": None, "report": None}
        raise NotRunning(f"the supervisor of the run file {path} has just ended")
    sock, pid = connected
    with sock:
        line = _exchange(sock, {"command": command, "wait": wait}, pid, deadline)
    if line is None:
        _accuse(path, pid)
    if until_end:
        _wait_for_end(path, pid, deadline)
    return _read(line, pid)


def holder(path: Path) -> int | None:
    """Return the pid of the supervisor that holds a run file, 0 if the file does not tell it; None when nobody does.

    Args:
        path: the run file.

    Raises:
        NotAllowed: the file cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotAllowed(f"the run file {path} cannot be opened ({error.strerror}): ask as its user or root") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(ValueError, RecursionError, TypeError, KeyError):
            return int(json.loads(os.pread(fd, 1 << 20, 0))["pid"])
        return 0
    else:
        return None
    finally:
        os.close(fd)


class _Deadline:
    """The moment at which waiting ends.

    Args:
        timeout_s: from now on, in seconds; None for never.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._at = math.inf if timeout_s is None else time.monotonic() + timeout_s

    def left_s(self, what: str) -> float | None:
        """Return the seconds that are left, None for no end.

        Args:
            what: the sentence to fail with.

        Raises:
            TimedOut: none are left.
        """
        if math.isinf(self._at):
            return None
        if (left_s := self._at - time.monotonic()) <= 0:
            raise TimedOut(f"{what} after {self.timeout_s:g} s")
        return left_s


def _connect(path: Path, deadline: _Deadline) -> tuple[socket.socket, int] | None:
    """Return a connection to the supervisor and its pid; None when it ended before there was one."""
    place = socket_path(path)
    give_up_at = time.monotonic() + LISTEN_WAIT_S
    while (pid := holder(path)) is not None:
        left_s = deadline.left_s(f"process {pid} does not listen on {place}")
        if (sock := _connected(place, left_s)) is not None:
            return sock, holder(path) or pid  # one that listens has written its pid down
        if time.monotonic() >= give_up_at:
            raise Unheard(f"process {pid} does not listen on {place}: its log says why, and it still heeds signals")
        time.sleep(POLL_S)
    return None


def _connected(place: Path, timeout_s: float | None) -> socket.socket | None:
    """Return a connection; None when nobody listens at the moment, or too many wait to be let in."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout_s)
        with address(place) as to:
            sock.connect(to)
        uid = peer_uid(sock)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        sock.close()
        return None
    except OSError as error:
        sock.close()
        raise NotAllowed(f"{place} cannot be reached ({error.strerror}): ask as its user or root") from None
    if os.geteuid() not in (_ROOT, uid) and uid != _ROOT:
        sock.close()
        raise NotAllowed(f"user {uid} listens on {place}: ask as that user or as root")
    return sock


def _exchange(sock: socket.socket, request: dict[str, Any], pid: int, deadline: _Deadline) -> bytes | None:
    """Send a request and return the line that answers it; None when the other end hung up without one."""
    still = f"no answer from process {pid}"
    inbox = bytearray()
    try:
        sock.sendall(json.dumps(request).encode() + b"\n")
        while not inbox.endswith(b"\n"):
            sock.settimeout(deadline.left_s(still))
            if not (data := sock.recv(1 << 16)):
                return None
            inbox += data
    except TimeoutError:
        raise TimedOut(f"{still} after {deadline.timeout_s:g} s") from None
    except OSError:
        return None
    return bytes(inbox)


def _read(line: bytes, pid: int) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not {"ok", "words"} <= answer.keys():
        raise Unheard(f"process {pid} answered something else: is it of another version?")
    return answer


def _accuse(path: Path, pid: int) -> NoReturn:
    """Say why there is no answer, once it is known whether the process is dead."""
    try:
        _wait_for_end(path, pid, _Deadline(LAST_MOMENT_S))
    except TimedOut:
        raise Unheard(f"process {pid} hung up without an answer: its log says why") from None
    raise EndedMeanwhile(f"process {pid} ended without an answer: its log says why")


def _wait_for_end(path: Path, pid: int, deadline: _Deadline) -> None:
    """Wait until the run file is free, or in the hands of a successor."""
    while holder(path) == pid:
        deadline.left_s(f"process {pid} still runs")
        time.sleep(POLL_S)
