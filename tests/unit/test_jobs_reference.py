"""The page on `manage.py jobs` names every action, every option and every finding of the doctor, and no others."""

from __future__ import annotations

import inspect
import re

from django.core.management.base import CommandParser

from jobsup.cli.actions import ACTIONS
from jobsup.doctor import checks, holders, mariadb
from tests.support import ROOT

PAGE = re.sub(r"^```.*?^```", "", (ROOT / "docs" / "jobs-command.md").read_text(), flags=re.MULTILINE | re.DOTALL)
IN_CODE = re.compile(r"`([^`]+)`")
OF_OTHERS = {"--json", "--force-color", "--exit-when-empty"}


def section(title: str) -> str:
    """Return what stands below a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def options_in(text: str) -> set[str]:
    """Return the options that are named in a text."""
    return {word for code in IN_CODE.findall(text) for word in re.findall(r"--[a-z-]+", code)}


def test_every_action_and_option_is_on_the_page() -> None:
    """Those of an action in its section, the filters in theirs."""
    filters = options_in(section("Which jobs"))
    for action in ACTIONS:
        parser = CommandParser()
        action.declare(parser)
        options = set(re.findall(r"--[a-z-]+", parser.format_usage()))
        title = "pause and resume" if action.name in ("pause", "resume") else action.name
        told = options_in(section(title))
        assert options <= told | filters, action.name
        assert told - filters - OF_OTHERS <= options | {"--all"}, f"{action.name} has no such option"
        assert f"(#{title.replace(' ', '-')})" in PAGE


def test_every_finding_is_on_the_page() -> None:
    """By its code."""
    sources = "".join(map(inspect.getsource, (checks, holders, mariadb)))
    given = set(re.findall(r'Finding\(\s*"([a-z-]+)"', sources))
    told = {
        code for row in re.findall(r"^\| (`.+?`) \|", section("doctor"), re.MULTILINE) for code in IN_CODE.findall(row)
    }
    assert len(given) > 20
    assert given == told
