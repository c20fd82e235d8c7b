"""What every action has at hand, and what an action is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.management.base import CommandParser

from jobsup.cli.screen import Screen
from jobsup.conf import Conf
from jobsup.store import Store

DONE = 0
FAILED = 1
TIMED_OUT = 124
"""As timeout(1) says it."""
INTERRUPTED = 130
"""As a shell says it after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What an action works with.

    Args:
        store: the jobs.
        settings: the setting JOBSUP.
        screen: where it prints.
    """

    store: Store
    settings: Conf
    screen: Screen


@dataclass(frozen=True, slots=True)
class Action:
    """One word after `manage.py jobs`.

    Args:
        name: the word.
        help: what it does, one sentence without its full stop.
        declare: adds its options to a parser.
        run: does it and returns the exit code; raises CommandError with a sentence for what cannot be done.
        interrupted: what is said after Ctrl-C.
    """

    name: str
    help: str
    declare: Callable[[CommandParser], None]
    run: Callable[[Desk, dict[str, Any]], int]
    interrupted: str = "interrupted"
