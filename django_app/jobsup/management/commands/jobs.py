"""`manage.py jobs`: look after jobs from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from jobsup import conf, homes
from jobsup.cli.actions import ACTIONS
from jobsup.cli.desk import INTERRUPTED, Action, Desk
from jobsup.cli.screen import Screen
from jobsup.compat import TASKS_LOGGER
from jobsup.sql import UnsupportedDatabase
from jobsup.store import Store

READER_GONE = 141
"""As a shell says it of a program that SIGPIPE ended."""


class Command(BaseCommand):
    """Look after jobs: list, show, cancel, retry them, watch queues and supervisors, find out what will hurt."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions and their options."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for action in ACTIONS:
            own = actions.add_parser(action.name, help=action.help, description=f"{action.help.capitalize()}.")
            action.declare(own)
            own.add_argument("--json", action="store_true", help="print JSON")
            if action.name != "torture":  # that has one of its own made
                own.add_argument(
                    "--database", dest="home", metavar="ALIAS", help="the database with the jobs (that of the router)"
                )
            _add_djangos_own(own)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what was asked for; the exit code is the action's."""
        action = next(each for each in ACTIONS if each.name == options["action"])
        try:
            code = self._run(action, options)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at the exit fails no more
            code = READER_GONE
        if code:
            raise SystemExit(code)

    def _run(self, action: Action, options: dict[str, Any]) -> int:
        colour = False if options["no_color"] else True if options["force_color"] else None
        screen = Screen(self.stdout, self.stderr, colour=colour, as_json=options["json"])
        try:
            settings = conf.load()
            database = homes.checked(options.get("home"))
            with _off_the_terminal(TASKS_LOGGER), homes.at(database):
                code = action.run(Desk(Store(database, notify=settings.notify), settings, screen), options)
            self.stdout.flush()
        except (ImproperlyConfigured, UnsupportedDatabase) as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CommandError(f"the database refuses: {why}; can it be reached, and was `migrate` run?") from error
        except KeyboardInterrupt:
            raise CommandError(action.interrupted, returncode=INTERRUPTED) from None
        return code


@contextmanager
def _off_the_terminal(name: str) -> Iterator[None]:
    """Keep what a logger says off the terminal: Django's tells of each job that is cancelled by a traceback."""
    logger: logging.Logger | None = logging.getLogger(name)
    assert logger is not None
    own, nobody = logger, logging.NullHandler()

    def others(record: logging.LogRecord) -> bool:
        return record.name != name

    own.addHandler(nobody)  # without any handler it would be Python's last resort that speaks
    heard = []
    while logger is not None:
        heard += [each for each in logger.handlers if getattr(each, "stream", None) in (sys.stdout, sys.stderr)]
        logger = logger.parent if logger.propagate else None
    for handler in heard:
        handler.addFilter(others)
    try:
        yield
    finally:
        own.removeHandler(nobody)
        for handler in heard:
            handler.removeFilter(others)


def _add_djangos_own(parser: CommandParser) -> None:
    """Let Django's own options stand behind the action, too; what is not given there does not count."""
    own = parser.add_argument_group("of every command")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    own.add_argument("--settings", **absent)
    own.add_argument("--pythonpath", **absent)
    own.add_argument("-v", "--verbosity", type=int, choices=(0, 1, 2, 3), **absent)
    for name in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        own.add_argument(name, action="store_true", **absent)
