"""SQLAlchemy beside Django: engines whose connections keep the rules that Django's connections keep.

    from jobsup.sqlalchemy import register

    engine = create_engine("postgresql://...")
    Session = scoped_session(sessionmaker(engine))
    register(engine, Session)

The supervisor disposes of a registered engine before it looks at its children or spawns one. A worker is a fresh
process and imports, so makes, an engine of its own. After each job its sessions are removed, what was not committed is
rolled back, and a connection that the job left open or marked is not given to the next one.

SQLAlchemy 2 is needed for this and for nothing else.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, overload

from jobsup.hygiene.leftovers import Findings
from jobsup.hygiene.statements import QUESTIONS, WORDS, marks
from spawnpool.hooks import before_check

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import scoped_session
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_MARKS = "jobsup: marks"


@overload
def register(engine: Engine, session: scoped_session[Any] | None = None) -> Engine: ...
@overload
def register(engine: Callable[[], Engine], session: scoped_session[Any] | None = None) -> Callable[[], Engine]: ...
def register(
    engine: Engine | Callable[[], Engine], session: scoped_session[Any] | None = None
) -> Engine | Callable[[], Engine]:
    """Have an engine, and the sessions on it, looked after in supervisors and workers; once, where it is made.

    Args:
        engine: an engine, or a callable that makes one, which is called at the first use in each process.
        session: the sessions that are to be removed after each job.

    Returns:
        The engine; of a callable, one that returns this process's engine.

    Raises:
        TypeError: it is neither.
    """
    from sqlalchemy import Engine

    if not isinstance(engine, Engine) and not callable(engine):
        raise TypeError(f"register() was given {_a(engine)}: expected an Engine, or a callable that makes one.")
    if session is not None and session not in _known.sessions:
        _known.sessions.append(session)
    if isinstance(engine, Engine):
        _known.add(engine)
        return engine
    return engine if isinstance(engine, Maker) else Maker(engine)


def release() -> None:
    """Remove the sessions of this thread and close every connection that no one uses."""
    remove_sessions()
    for engine in _known.engines:
        engine.dispose()


def remove_sessions() -> None:
    """Remove the sessions of this thread; what was not committed is rolled back."""
    for session in _known.sessions:
        try:
            with suppress(Exception):  # the server may be gone
                session.remove()
        finally:
            session.registry.clear()


class Maker:
    """Makes an engine at the first call in this process, and returns it.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Engine:
        """Return the engine.

        Raises:
            TypeError: what was made is none.
        """
        from sqlalchemy import Engine

        with self._lock:
            if self._engine is None:
                made: object = self._make()
                if not isinstance(made, Engine):
                    raise TypeError(f"a callable that was given to register() returned {_a(made)}: expected an Engine.")
                _known.add(made)
                self._engine = made
            return self._engine


class Pools:
    """What jobs leave behind in the pools of registered engines; a room of the hygiene, made once in a worker."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._out: dict[ConnectionPoolEntry, weakref.ref[PoolProxiedConnection]] = {}
        self._marked: set[ConnectionPoolEntry] = set()
        _known.watch(self._watch)

    def restore(self, findings: Findings) -> None:
        """Remove the sessions, take back what is still in use, drop what was marked."""
        if not _known.engines:
            return
        remove_sessions()
        if self._out:
            self._take_back(findings)
        for entry in self._marked:
            kinds = entry.info.get(_MARKS, set())
            entry.invalidate()
            if told := [WORDS[kind] for kind in WORDS if kind in kinds and kind not in QUESTIONS]:
                findings.restored.append(f"{told[0]} on a connection of SQLAlchemy")
        self._marked.clear()

    def _take_back(self, findings: Findings) -> None:
        from sqlalchemy.orm import close_all_sessions

        with suppress(Exception):  # the server may be gone
            close_all_sessions()
        for connection in list(self._connections):
            with suppress(Exception):
                connection.close()
        for proxied in [each for ref in self._out.values() if (each := ref()) is not None]:
            with suppress(Exception):
                proxied.invalidate()
        findings.restored.append("an open connection of SQLAlchemy")
        self._out.clear()

    def _watch(self, engine: Engine) -> None:
        from sqlalchemy import event

        def begins(connection: Connection) -> None:
            self._connections.add(connection)

        def goes_out(_driver: Any, entry: ConnectionPoolEntry, proxied: PoolProxiedConnection) -> None:
            self._out[entry] = weakref.ref(proxied)
            if _MARKS in entry.info:
                self._marked.add(entry)

        def comes_in(_driver: Any, entry: ConnectionPoolEntry) -> None:
            self._out.pop(entry, None)
            if _MARKS in entry.info:
                self._marked.add(entry)

        def executes(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
            if found := marks(statement):
                connection.info.setdefault(_MARKS, set()).update(found)

        event.listen(engine, "engine_connect", begins)
        event.listen(engine, "checkout", goes_out)
        event.listen(engine, "checkin", comes_in)
        event.listen(engine, "before_cursor_execute", executes)


class Known:
    """What is registered in this process."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.sessions: list[scoped_session[Any]] = []
        self._watches: list[Callable[[Engine], None]] = []

    def add(self, engine: Engine) -> None:
        """Have one more engine looked after."""
        if engine in self.engines:
            return
        if not self.engines:
            before_check.register(release)
            os.register_at_fork(after_in_child=self.forget_connections)
        self.engines.append(engine)
        for watch in self._watches:
            watch(engine)

    def watch(self, watch: Callable[[Engine], None]) -> None:
        """Have something done to each engine, now or when it is registered."""
        self._watches.append(watch)
        for engine in self.engines:
            watch(engine)

    def forget_connections(self) -> None:
        """In a forked child: leave the connections to the parent, whose they are."""
        for engine in self.engines:
            engine.dispose(close=False)


_known = Known()


def _a(thing: object) -> str:
    if thing is None or isinstance(thing, str):
        return repr(thing)
    name = type(thing).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
