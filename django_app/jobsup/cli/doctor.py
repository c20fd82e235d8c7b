"""`jobs doctor`: what will hurt, and what to do."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from jobsup.cli.desk import DONE, FAILED, Action, Desk
from jobsup.doctor import Severity, examine


def _declare(_parser: CommandParser) -> None:
    """Take no options."""


def _run(desk: Desk, _options: dict[str, Any]) -> int:
    found = examine(desk.store, desk.settings)
    bad = [finding for finding in found if finding.severity is not Severity.NOTE]
    if desk.screen.as_json:
        desk.screen.json({"ok": not bad, "findings": [finding._asdict() for finding in found]})
    else:
        for finding in found:
            desk.screen.say(f"{finding.severity.upper()} {finding.code}: {finding.words}")
            desk.screen.say(f"    {finding.remedy}")
        if not bad:
            desk.screen.say("nothing that hurts was found")
    return FAILED if bad else DONE


DOCTOR = Action("doctor", "look for what will hurt, and say what to do", _declare, _run)
