"""What the service manager is told: readiness, reload, stop, a status line, and that the loop still turns.

The protocol is that of sd_notify(3): datagrams of NAME=value lines to the socket that $NOTIFY_SOCKET names. Nothing
here blocks or raises: a service manager that is away must not hurt the jobs. Without one everything does nothing.
"""

from __future__ import annotations

import os
import re
import socket
from collections import deque
from collections.abc import Mapping

WATCHDOG_SHARE = 3
"""The service manager hears from us this many times in its watchdog interval; sd_watchdog_enabled(3) advises 2."""

KEPT_WORDS = 16
"""How many words wait for a service manager that takes none: a start, a stop and some reloads."""

STATUS_CHARS = 500
"""More of a status line is of no use, and a datagram that is too long could never be sent."""


class ServiceManager:
    """The other end of $NOTIFY_SOCKET.

    A word that could not be sent goes before the next one, so that a full queue loses no READY.

    Args:
        environ: where the socket and the watchdog's interval are named. Workers must not inherit that, or a job could
            speak for the service.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        if name.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._unsent: deque[str] = deque(maxlen=KEPT_WORDS)
        self._status = ""
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        watched = self.listens and pid in ("", str(os.getpid())) and re.fullmatch("0*[1-9][0-9]{0,17}", usec)
        self.alive_interval_s = int(usec) / 1e6 / WATCHDOG_SHARE if watched else None
        """How often `alive` has to be said, in seconds; None if nobody waits for it."""

    @property
    def listens(self) -> bool:
        """True when there is somebody to tell."""
        return self._socket is not None

    def ready(self) -> None:
        """Say that the service has started, or that a reload is over, well or not."""
        self._say("READY=1")

    def reloading(self, monotonic_s: float) -> None:
        """Say that a reload begins.

        Args:
            monotonic_s: when it was asked for, in seconds of CLOCK_MONOTONIC, which is `time.monotonic()`.
        """
        self._say(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_s * 1e6)}")

    def stopping(self) -> None:
        """Say that the service is on its way down."""
        self._say("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for patience with a start, a reload or a stop that is under way.

        Args:
            seconds: how long from now; it must be said again before they are over.
        """
        self._say_now(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows; the same line again is not sent again."""
        line = " ".join(text.split())[:STATUS_CHARS]  # a line break would begin another assignment
        if line != self._status:
            self._status = line
            self._unsent = deque((word for word in self._unsent if not word.startswith("STATUS=")), KEPT_WORDS)
            self._say(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog; only after a full turn of the loop, or it would prove nothing."""
        self._say_now("WATCHDOG=1")

    def close(self) -> None:
        """Let go of the socket; what is said from now on reaches nobody."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _say(self, word: str) -> None:
        if self._socket is not None:
            self._unsent.append(word)
            self._flush()

    def _say_now(self, word: str) -> None:
        """Say what is said again and again: one that is lost is made good by the next one."""
        if self._flush():
            self._send(word)

    def _flush(self) -> bool:
        """Send what waits, in its order; True when nothing waits any more."""
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()
        return not self._unsent

    def _send(self, word: str) -> bool:
        if self._socket is None:
            return True
        try:
            self._socket.sendto(word.encode(errors="replace"), self._address)
        except OSError:  # its queue is full, or it is about to start again
            return False
        return True
