"""What a job must not leave to the next one in the same worker.

After each job one cheap comparison is made for each thing that jobs are known to leave changed. What differs is put
back as a fresh worker had it; what cannot be put back asks for a fresh worker. Out of reach, and left to a worker's
regular end: module globals, the environment, the configuration of logging and of warnings, handlers of signals that a
library installs from C, threads that Python does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from jobsup.hygiene.connections import Connections, check_connections, drop
from jobsup.hygiene.context import Context
from jobsup.hygiene.leftovers import CLEAN, Findings, Leftovers
from jobsup.hygiene.process import Signals, Streams, Surroundings
from jobsup.hygiene.threads import Threads
from jobsup.text import class_path

__all__ = ["CLEAN", "Hygiene", "Leftovers", "check_connections", "drop"]


class Room(Protocol):
    """What looks after some of the things that a job may leave changed."""

    def restore(self, findings: Findings) -> None:
        """Restore them, and say what was not as it should be."""


class Hygiene:
    """Remembers what clean is; made in the main thread of a fresh worker, once Django is set up.

    Args:
        on_faulthandler_off: called when a job switched faulthandler off, or took signals from it; switches it on
            again as the worker has it.
        others: look after more.
    """

    def __init__(self, on_faulthandler_off: Callable[[], None] | None = None, others: Sequence[Room] = ()) -> None:
        self._findings = Findings()
        self._streams = Streams()
        rooms: Sequence[Room] = (
            Signals(on_faulthandler_off),  # first: a job's alarm may go off at any moment
            self._streams,
            Surroundings(),
            Context(),
            Threads(),
            *others,
            Connections(),
        )
        self._restore = [room.restore for room in rooms]

    def restore(self) -> Leftovers:
        """Restore what the job that just returned has left changed; in the main thread, never in a forked child."""
        findings = self._findings
        for restore in self._restore:
            try:
                restore(findings)
            except BaseException as error:  # noqa: BLE001  # of the job's own code: a late alarm, a handler's __eq__
                findings.spoiled.append(f"something that cannot be looked at ({class_path(error)})")
        if not findings.restored and not findings.spoiled:
            return CLEAN
        self._findings = Findings()
        return Leftovers(tuple(findings.restored), tuple(findings.spoiled))

    def streams_changed(self) -> None:
        """Take the present descriptors 0, 1 and 2 for clean ones, after the log was reopened."""
        self._streams.descriptors_changed()
