"""The supervisor's session: no wait of it is long."""

from __future__ import annotations

from math import ceil
from typing import Any

from jobsup.sql.base import WAIT_MAX_S
from jobsup.sql.local import LocalWakeups
from jobsup.sql.mariadb.base import Common


class Session(Common, LocalWakeups):
    """The session of MariaDB and MySQL."""

    # As often as it beats, over the same connection, as long as all who enqueue ring. Nobody rings from other machines:
    # once work has come from there it looks every second.
    poll_interval_s = 10.0

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._most_s = WAIT_MAX_S
        self._attended: Any = None  # the driver's connection that was prepared

    def bound_waits(self, most_s: float) -> None:
        self._most_s = most_s
        options = self.connection.settings_dict["OPTIONS"]
        # In whole seconds, as mysqlclient takes them, and a little longer: it is the server who says no, where it can.
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            options.setdefault(name, ceil(most_s + 0.5))
        options.setdefault("autocommit", True)  # else the drivers switch it off, and Django on again

    def attend(self, *, listen: bool) -> int | None:
        connection = self.connection
        isolation = None if connection.connection is not None else self._connect()
        if self._attended is not connection.connection:
            self._prepare(isolation)
            self._attended = connection.connection
        return self.bell(listen=listen)

    def _connect(self) -> str | None:
        """Connect without the statement in which Django names the isolation level; return that level."""
        options = self.connection.settings_dict["OPTIONS"]
        named = "isolation_level" in options
        level: str | None = options.get("isolation_level", "read committed")
        options["isolation_level"] = None
        try:
            self.connection.ensure_connection()
        finally:
            if named:
                options["isolation_level"] = level
            else:
                del options["isolation_level"]
        return level

    def _prepare(self, isolation: str | None) -> None:
        """Have a session wait for nothing for long, by one statement: a supervisor connects anew every few seconds.

        Args:
            isolation: the level of its transactions; None to leave it as it is.
        """
        connection: Any = self.connection
        lock_s = max(1, int(self._most_s))
        values: list[object] = [lock_s, lock_s]
        names = ["innodb_lock_wait_timeout", "lock_wait_timeout"]
        if connection.mysql_is_mariadb:
            names.append("max_statement_time")
            values.append(self._most_s)
        else:
            names.append("max_execution_time")  # of what only reads
            values.append(int(self._most_s * 1000))
        if isolation:
            old = connection.mysql_is_mariadb and connection.mysql_version < (11, 1)
            names.append("tx_isolation" if old else "transaction_isolation")
            values.append(isolation.upper().replace(" ", "-"))
        self.run(f"SET SESSION {', '.join(f'{name} = %s' for name in names)}", values)

    def identity(self) -> str | None:
        """Return where the settings say that the database is; processes that say it in other words are not heard."""
        said = self.connection.settings_dict
        options = said["OPTIONS"]
        host = options.get("unix_socket") or said["HOST"] or options.get("host") or "localhost"
        return f"mysql {host} {said['PORT'] or options.get('port') or 3306} {said['NAME']}"

    def changed(self) -> bool:
        return False
