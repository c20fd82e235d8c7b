"""The supervisor's session: no wait of it is long."""

from __future__ import annotations

from typing import Any

from jobsup.sql.postgresql.ear import Ear
from jobsup.sql.postgresql.wakeups import CHANNEL, Wakeups

WAIT_MAX_S = 5
"""How long the supervisor lets any statement, lock or silent server keep it from its other duties."""


class Session(Wakeups):
    """The session of PostgreSQL."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._attended: Any = None  # the driver's connection that was prepared

    def bound_waits(self) -> None:
        options = self.connection.settings_dict["OPTIONS"]
        options.setdefault("connect_timeout", WAIT_MAX_S)
        options.setdefault("tcp_user_timeout", WAIT_MAX_S * 1000)
        options.setdefault("keepalives_idle", WAIT_MAX_S)

    def attend(self, *, listen: bool) -> int | None:
        self.connection.ensure_connection()
        driver = self.connection.connection
        assert driver is not None
        if self._attended is not driver:
            wait_ms = WAIT_MAX_S * 1000
            self.run(
                f"SET statement_timeout = {wait_ms}; SET lock_timeout = {wait_ms}"
                + (f"; LISTEN {CHANNEL}" if listen else "")
            )
            self._attended = driver
            self._cancel_heard = True  # while nobody listened it may have been told
            self._ear = Ear(driver, CHANNEL)
        fd: int = driver.fileno()
        return fd if listen else None

    def changed(self) -> bool:
        driver = self.connection.connection
        return driver is not None and driver is self._attended and self._heard_anything()
