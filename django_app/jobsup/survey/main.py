"""The survey as a command: `manage.py jobsup_survey`, and `python -m jobsup.survey` where no project is set up."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import TextIO

from jobsup.survey import report
from jobsup.survey.look import survey

DESCRIPTION = (
    "Report what would have to change in a project that comes from Celery, django-q, RQ, dramatiq, huey, another "
    "backend of django.tasks, or threads and processes of its own. Source is read, never imported or changed."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders (default: this folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(paths: list[Path], out: TextIO, errors: TextIO, *, as_json: bool) -> int:
    """Write the report.

    Args:
        paths: files and folders; none for the working directory.
        out: where the report goes.
        errors: where it goes what could not be read.
        as_json: whether programs read it.

    Returns:
        The exit code: 0, or 1 if something could not be read.
    """
    found = survey(paths or [Path()])
    if as_json:
        out.write(report.as_json(found) + "\n")
    else:
        out.writelines(f"{line}\n" for line in report.lines(found))
    errors.writelines(f"not read: {path}: {why}\n" for path, why in found.unread)
    return 1 if found.unread else 0
