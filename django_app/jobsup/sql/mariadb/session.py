"""The supervisor's session: no wait of it is long."""

from __future__ import annotations

from math import ceil
from typing import Any

from jobsup.sql.base import WAIT_MAX_S
from jobsup.sql.local import LocalWakeups
from jobsup.sql.mariadb.base import Common


class Session(Common, LocalWakeups):
    """The session of MariaDB and MySQL."""

    # Nobody wakes the supervisor from another machine.
    poll_interval_s = 1.0

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._most_s = WAIT_MAX_S
        self._attended: Any = None  # the driver's connection that was prepared
        self._rung = 0
        self._asked: dict[str, int] = {}  # how often it had rung when this word was asked for

    def bound_waits(self, most_s: float) -> None:
        self._most_s = most_s
        options = self.connection.settings_dict["OPTIONS"]
        # In whole seconds, as mysqlclient takes them, and a little longer: it is the server who says no, where it can.
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            options.setdefault(name, ceil(most_s + 0.5))

    def attend(self, *, listen: bool) -> int | None:
        self.connection.ensure_connection()
        driver = self.connection.connection
        if self._attended is not driver:
            limit = f"max_statement_time = {self._most_s}"
            if not self.connection.mysql_is_mariadb:  # type: ignore[attr-defined]
                limit = f"max_execution_time = {int(self._most_s * 1000)}"  # of what only reads
            lock_s = max(1, int(self._most_s))
            self.run(f"SET SESSION {limit}, innodb_lock_wait_timeout = {lock_s}, lock_wait_timeout = {lock_s}")
            self._attended = driver
        return self.bell(listen=listen)

    def identity(self) -> str | None:
        """Return where the settings say that the database is; processes that say it in other words are not heard."""
        said = self.connection.settings_dict
        options = said["OPTIONS"]
        host = options.get("unix_socket") or said["HOST"] or options.get("host") or "localhost"
        return f"mysql {host} {said['PORT'] or options.get('port') or 3306} {said['NAME']}"

    def woken(self) -> int:
        rung = super().woken()
        self._rung += rung
        return rung

    def heard(self, word: str) -> bool:
        # The bell says no words: each ring may mean any.
        before, self._asked[word] = self._asked.get(word), self._rung
        return before != self._rung

    def changed(self) -> bool:
        return False
