"""Wake-ups within one machine, for databases that cannot tell anybody: empty datagrams to sockets without a file.

The sockets have names in Linux's abstract namespace: no file, nothing to clean up, gone with their process, and there
only for processes of the same network namespace. So a producer in another container or on another machine is not heard;
the supervisor's looks find what it enqueued. A datagram says nothing, and anybody on the machine may send one: it costs
a look.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import sys
from functools import lru_cache

POSSIBLE = sys.platform == "linux"
_KIND = socket.SOCK_DGRAM | getattr(socket, "SOCK_NONBLOCK", 0)

SLOTS = 4
"""How many supervisors of one database can be woken on one machine; further ones only look."""

HEARD_MAX = 1000
"""How many rings are taken in at once."""


def ring(database: str) -> None:
    """Wake the supervisors of a database on this machine; never waits, and whether anybody hears it is not told.

    The socket lives no longer than this call (about 10 us in all), so that nothing is left open in a user's process.

    Args:
        database: what names it on this machine.
    """
    if not POSSIBLE:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, _KIND) as sending:
        for name in _names(database):
            with contextlib.suppress(OSError):  # nobody is there, or has not heard the last ones yet
                sending.sendto(b"", name)


class Doorbell:
    """Where a supervisor is rung for; closed with its last reference at the latest, and never inherited by a child.

    Args:
        database: what names it on this machine.

    Raises:
        OSError: there can be none here, or all names are taken.
    """

    def __init__(self, database: str) -> None:
        if not POSSIBLE:
            raise OSError("only Linux has sockets in an abstract namespace")
        self.database = database
        self._socket = socket.socket(socket.AF_UNIX, _KIND)
        try:
            self._take_a_name()
        except OSError:
            self._socket.close()
            raise

    def _take_a_name(self) -> None:
        *others, last = _names(self.database)
        for name in others:
            with contextlib.suppress(OSError):
                self._socket.bind(name)
                return
        self._socket.bind(last)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._socket.fileno()

    def heard(self) -> int:
        """Return how often it was rung since the last call, without waiting."""
        times = 0
        with contextlib.suppress(BlockingIOError):
            while times < HEARD_MAX:
                self._socket.recv(1)
                times += 1
        return times

    def close(self) -> None:
        """Hear nothing any more."""
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()


@lru_cache(maxsize=16)
def _names(database: str) -> tuple[bytes, ...]:
    digest = hashlib.sha256(database.encode(errors="surrogateescape")).hexdigest()[:32]
    return tuple(f"\0jobsup/{digest}/{slot}".encode() for slot in range(SLOTS))
