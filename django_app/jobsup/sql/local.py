"""Wake-ups where the database cannot tell anybody: producers on the supervisor's own machine ring its doorbell."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from functools import partial

from django.db import transaction

from jobsup.doorbell import Doorbell, ring
from jobsup.sql.base import Statements


class LocalWakeups(Statements):
    """Rings after the commit, and is rung for; what others enqueue is found by looking."""

    hears_unconnected = True

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._bell: Doorbell | None = None
        self._hushing = False
        self._rung = 0
        self._asked: dict[str, int] = {}  # how often it had rung when this word was asked for

    @abstractmethod
    def identity(self) -> str | None:
        """Return what names the database to every process of this machine; None where no other could reach it."""

    def notify(self, word: str = "") -> None:
        if (database := self.identity()) is None:
            return
        connection = self.connection
        if connection.in_atomic_block:
            call = (set(connection.savepoint_ids), RINGS.setdefault(database, partial(ring, database)))
            if not connection.run_on_commit or connection.run_on_commit[-1][:2] != call:  # once for many in a row
                transaction.on_commit(call[1], using=self.alias, robust=True)
        elif connection.get_autocommit():
            ring(database)

    def bell(self, *, listen: bool) -> int | None:
        """Return the descriptor of this supervisor's doorbell; None where it has none, or does not want to hear it."""
        if not listen or self._hushing or (database := self.identity()) is None:
            return None
        if self._bell is None or self._bell.database != database:
            self._bell = None
            with contextlib.suppress(OSError):
                self._bell = Doorbell(database)
        return None if self._bell is None else self._bell.fileno()

    def leave(self) -> None:
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    @property
    def hears(self) -> bool:
        return self._bell is not None

    def woken(self) -> int:
        rung = 0 if self._bell is None or self._hushing else self._bell.heard()
        self._rung += rung
        return rung

    def heard(self, word: str) -> bool:
        # The bell says no words: each ring may mean any.
        before, self._asked[word] = self._asked.get(word), self._rung
        return before != self._rung

    @property
    def hushing(self) -> bool:
        return self._hushing

    def hush(self, *, wanted: bool) -> None:
        self._hushing = wanted
        if not wanted and self._bell is not None:
            self._bell.heard()  # what was found by looking is no news


RINGS: dict[str, partial[None]] = {}
"""The function that rings for each database: always the same one, so that it is recognised in a transaction."""
