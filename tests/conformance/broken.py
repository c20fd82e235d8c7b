"""A backend that breaks the contract: the suite is shown to see that."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tests.conformance.api import ROOT

_immediate: Any = import_module(f"{ROOT}.backends.immediate")


class BrokenBackend(_immediate.ImmediateBackend):  # type: ignore[misc]
    """Runs tasks and forgets by whom and with what result."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Return a result that is not true."""
        result = super().enqueue(task, args, kwargs)
        object.__setattr__(result, "worker_ids", [])
        object.__setattr__(result, "_return_value", "?")
        return result
