"""`manage.py jobsup_survey [PATH ...] [--json]`: report what would have to change in a project from another queue."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from jobsup.survey import main


class Command(BaseCommand):
    """Report what would have to change; read source, import and change nothing."""

    help = main.DESCRIPTION
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        main.add_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Write the report; the exit code is 1 if something could not be read."""
        code = main.run(options["paths"], self.stdout, self.stderr, as_json=options["json"])  # type: ignore[arg-type]
        if code:
            raise SystemExit(code)
