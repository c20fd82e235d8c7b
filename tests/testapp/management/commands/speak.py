"""A command that says what it is told to, and ends as it is told to."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Say a word."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--word", default="word")
        parser.add_argument("--times", type=int, default=1)
        parser.add_argument("--end", default="")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Say it."""
        print("\n".join([options["word"]] * options["times"]))  # noqa: T201  # as many commands do
        self.stderr.write("and on stderr")
        if options["end"] == "error":
            raise CommandError("it cannot")
        if options["end"] == "raise":
            raise KeyError(options["word"])
        if options["end"].startswith("exit"):
            sys.exit(0 if options["end"].endswith("0") else 3)
