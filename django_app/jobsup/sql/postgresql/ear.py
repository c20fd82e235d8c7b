"""What a PostgreSQL connection has been notified of, by psycopg 2 or 3."""

from __future__ import annotations

import select
import time
from typing import Any


class Ear:
    """Takes in the notifications of one channel on one connection; those of other channels are left alone.

    Args:
        driver: the driver's connection.
        channel: which it listens to.
    """

    def __init__(self, driver: Any, channel: str) -> None:
        self._driver, self._channel = driver, channel
        self._heard: list[str] = []
        if hasattr(driver, "add_notify_handler"):  # psycopg 3 hands them out while it executes statements
            driver.add_notify_handler(self._hear)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        number: int = self._driver.fileno()
        return number

    def close(self) -> None:
        """Take nothing in any more."""
        if hasattr(self._driver, "remove_notify_handler"):
            self._driver.remove_notify_handler(self._hear)

    def heard(self) -> list[str]:
        """Return the payloads that have arrived since the last call, without waiting."""
        driver = self._driver
        if hasattr(driver, "add_notify_handler"):
            driver.pgconn.consume_input()
            while (found := driver.pgconn.notifies()) is not None:
                if found.relname == self._channel.encode():
                    self._heard.append(found.extra.decode())
        else:
            driver.poll()
            self._heard += [found.payload for found in driver.notifies if found.channel == self._channel]
            driver.notifies[:] = [found for found in driver.notifies if found.channel != self._channel]
        heard, self._heard = self._heard, []
        return heard

    def wait(self, payload: str, most_s: float) -> bool:
        """Wait until this payload arrives, at most for some seconds; tell whether it did."""
        readable = select.poll()
        readable.register(self._driver.fileno(), select.POLLIN)
        give_up_at = time.monotonic() + most_s
        while not (found := payload in self.heard()) and (left_s := give_up_at - time.monotonic()) > 0:
            readable.poll(left_s * 1000)
        return found

    def _hear(self, notification: Any) -> None:
        if notification.channel == self._channel:
            self._heard.append(notification.payload)
