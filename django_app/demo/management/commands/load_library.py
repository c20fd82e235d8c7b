"""`manage.py load_library`: the documents of the demo."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from demo import library


class Command(BaseCommand):
    """Make one document of each source file of the running Python's standard library."""

    help = "Make one Document row of each source file of the standard library; loading again changes what differs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the packages."""
        parser.add_argument("--packages", default="", help="only these, separated by commas; default: all")

    def handle(self, *args: Any, **options: Any) -> None:
        """Load and tell."""
        loaded = library.load([name for name in options["packages"].split(",") if name])
        self.stdout.write(f"{loaded.total:,} documents: {loaded.written:,} written, {loaded.removed:,} removed.")
