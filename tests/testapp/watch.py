"""What a supervisor under test holds open whenever it spawns a worker or looks who is alive.

JOBSUP_TEST_WATCH names a file that gets a line of JSON for each such moment. Meanwhile strangers open what they can:
every alias as soon as one is connected, an engine beside Django, and a socket that may be inherited.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sqlite3
from multiprocessing import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from django.db import connections
from django.db.backends.signals import connection_created

from spawnpool.hooks import before_check

if TYPE_CHECKING:
    from collections.abc import Callable


class Engine:
    """Holds a connection of its own, as an engine of SQLAlchemy does in its pool."""

    def __init__(self) -> None:
        self.connection: Any = None

    def connect(self) -> None:
        """Connect to the database behind `default`, past Django."""
        if self.connection is None:
            known = connections["default"].get_connection_params()
            if connections["default"].vendor == "sqlite":
                self.connection = sqlite3.connect(known["database"])
            else:
                self.connection = psycopg2.connect(**{name: known[name] for name in ("dbname", "user", "host", "port")})
            self.connection.cursor().execute("SELECT 1")

    def dispose(self) -> None:
        """Close what is open."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Watch:
    """Looks at its own process when it spawns, and when it asks for the state of a child."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.engine = Engine()
        self.opened = 0
        self.stranger, self.friend = socket.socketpair()
        self.stranger.set_inheritable(True)

    def install(self) -> None:
        """Begin to watch."""
        before_check.register(self.engine.dispose)
        connection_created.connect(self.open_everything, weak=False)
        self._wrap(util, "spawnv_passfds", "spawn")
        self._wrap(os, "wait4", "look")

    def open_everything(self, connection: Any, **_kwargs: Any) -> None:
        """Connect every alias and the engine."""
        self.opened += 1
        if connection.alias == "default":
            self.engine.connect()
            for alias in connections:
                connections[alias].ensure_connection()

    def _wrap(self, module: Any, name: str, moment: str) -> None:
        function: Callable[..., Any] = getattr(module, name)

        def wrapped(*args: Any) -> Any:
            self._note(moment)
            return function(*args)

        setattr(module, name, wrapped)

    def _note(self, moment: str) -> None:
        targets = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        found = sorted(target for target in targets if "socket:" in target or "sqlite" in target)
        for known in (self.stranger, self.friend):
            found.remove(f"socket:[{os.fstat(known.fileno()).st_ino}]")
        found = [target for target in found if target not in unconnected()]
        connected = [each.alias for each in connections.all(initialized_only=True) if each.connection is not None]
        facts = {"moment": moment, "open": found, "connected": connected, "engine": self.engine.connection is not None}
        with self.place.open("a") as file:
            file.write(json.dumps({**facts, "opened": self.opened}) + "\n")


def unconnected() -> set[str]:
    """Return the Unix sockets that wait for others to connect, as the control socket, or are rung: doorbells."""
    lines = [line.split() for line in Path("/proc/self/net/unix").read_text().splitlines()[1:]]
    found = [
        fields for fields in lines if fields[3] == "00010000" or fields[-1].startswith("@jobsup/")
    ]  # __SO_ACCEPTCON
    return {f"socket:[{fields[6]}]" for fields in found}


def install() -> None:
    """Watch this process if it is a supervisor and the environment asks for it."""
    if (place := os.environ.get("JOBSUP_TEST_WATCH")) and multiprocessing.parent_process() is None:
        Watch(Path(place)).install()
