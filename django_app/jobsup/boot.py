"""The first code of jobsup in a worker: sets Django up, and only then imports what needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from jobsup.runner import Runner
    from spawnpool.source import Reports


def make_runner(number: int, reports: Reports, run: int, verbosity: int) -> Runner:
    """Return the runner of worker `number`; see `Runner` for the arguments."""
    _set_up()
    from jobsup.runner import Runner

    return Runner(number, reports, run, verbosity)


def make_debugged_runner(number: int, reports: Reports, run: int, verbosity: int) -> Runner:
    """Do as `make_runner`, with the debugger for jobs that fail."""
    _set_up()
    from jobsup.debugger import DebuggedRunner

    return DebuggedRunner(number, reports, run, verbosity)


def _set_up() -> None:
    django.setup()
    from jobsup.sql import connecting

    connecting.for_worker()
