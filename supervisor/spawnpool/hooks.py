"""Who wants to close connections before the supervisor looks at its children or spawns one."""

from __future__ import annotations

import logging
from collections.abc import Callable

_log = logging.getLogger("spawnpool")


class Hooks:
    """An ordered set of callables without arguments; one that fails is logged and does not stop the others."""

    def __init__(self) -> None:
        self._callables: list[Callable[[], object]] = []

    def register(self, function: Callable[[], object]) -> Callable[[], object]:
        """Add a callable, once, and return it; also usable as a decorator."""
        if function not in self._callables:
            self._callables.append(function)
        return function

    def unregister(self, function: Callable[[], object]) -> None:
        """Remove a callable if it is there."""
        if function in self._callables:
            self._callables.remove(function)

    def run(self) -> None:
        """Call all of them in the order in which they were registered."""
        for function in list(self._callables):
            try:
                function()
            except Exception:  # noqa: BLE001  # a stranger's code must not stop the supervisor
                _log.exception("the before_check hook %r failed", function)


before_check = Hooks()
"""Closes what the supervisor's process holds open: an SQLAlchemy engine registers its `dispose` here."""
