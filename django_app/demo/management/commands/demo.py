"""`manage.py demo`: all of it, from an empty database to a compared result."""

import sys
from argparse import ArgumentParser, BooleanOptionalAction
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from demo.show import Options, Show
from demo.terminal import Screen


class Command(BaseCommand):
    """Run the demo in this terminal."""

    help = "Load the standard library, start a supervisor and the site, analyse, kill a worker, compare; until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take how much of it to show."""
        flag = BooleanOptionalAction
        parser.add_argument(
            "--once", action="store_true", help="end after one analysis, with exit code 0 if all is well"
        )
        parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
        parser.add_argument(
            "--port", type=int, default=8000, help="port of the site; a taken one gives way to the next"
        )
        parser.add_argument("--kill", action=flag, default=True, help="kill a worker in the middle of its work")
        parser.add_argument("--serial", action=flag, default=True, help="do it again serially, and compare")
        parser.add_argument("--packages", default="", help="analyse only these, separated by commas (default: all)")
        parser.add_argument("--chunk-size", type=int, default=25, help="documents in one job (default: 25)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the options, run, and end with the exit code."""
        if options["workers"] < 1 or options["chunk_size"] < 1:
            raise CommandError("--workers and --chunk-size must be at least 1.")
        wanted = Options(
            once=options["once"],
            workers=options["workers"],
            port=options["port"],
            kill=options["kill"],
            serial=options["serial"],
            packages=[name for name in options["packages"].split(",") if name],
            chunk_size=options["chunk_size"],
        )
        sys.exit(Show(wanted, Screen(sys.stdout)).run())
