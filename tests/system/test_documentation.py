"""The documentation is true: every command and every piece of code in it is run, every link leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandParser

from benchmarks.rows import ROWS
from jobsup import conf
from jobsup.management.commands.jobsup_install import Command as Install
from jobsup.management.commands.jobsupervisor import RUN, Command
from tests.support import ROOT, environment
from tests.system.documents import Player, commands, steps

if TYPE_CHECKING:
    from pathlib import Path

    from django.core.management.base import BaseCommand

README = ROOT / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
PLAYED = [path for path in DOCUMENTS if any(step.kind in ("run", "start", "shell") for step in steps(path))]
KINDS = {"run", "start", "log", "file", "append", "append on Django 5.2", "shell", "install", "make", "signal"}
KINDS |= {"not run", "begin with", "end"}
NEEDS_A_MACHINE = re.compile(r"(sudo|systemctl|journalctl) ")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")

of_each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@pytest.mark.timeout(600)  # the longest is a tutorial with a dozen processes
@pytest.mark.parametrize("document", PLAYED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_reader_who_does_what_it_says_sees_what_it_shows(document: Path, tmp_path: Path) -> None:
    """Files are written, commands run, signals sent; everything that is shown appears."""
    with Player(tmp_path, environment({})) as player:
        player.play(document)


@of_each
def test_no_block_goes_untested(document: Path) -> None:
    """Each block says what is done with it, and only pictures and output need no marker."""
    for step in steps(document):
        assert step.kind in KINDS or (not step.kind and step.language == "text"), f"untested or unknown: {step}"
        if step.kind in ("run", "start", "install", "make", "not run"):
            assert step.language == "console", f"commands stand in a block of the language console: {step}"
            assert commands(step), f"no command in {step}"
        if step.kind == "not run":
            assert all(NEEDS_A_MACHINE.match(command) for command, _ in commands(step)), f"could be run: {step}"


@of_each
def test_what_is_not_run_could_be(document: Path) -> None:
    """`make` has those targets, and `pip` installs this project."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:`|^\$ )make ([a-z-]+)", document.read_text(), re.MULTILINE):
        assert target in targets or target.removeprefix("bench-") in ROWS, target
    for step in steps(document):
        for command, _ in commands(step):
            if step.kind == "install":
                assert command in (f"pip install {name}", "pip install ."), command


@of_each
def test_links_lead_somewhere(document: Path) -> None:
    """Relative links name files of this repository, and headings in them."""
    for target, heading in LINK.findall(document.read_text()):
        path = (document.parent / target).resolve() if target else document
        assert path.is_relative_to(ROOT), target
        assert path.exists(), f"{target} does not exist"
        if heading:
            assert heading in headings(path), f"{target} has no heading {heading}"


def headings(document: Path) -> set[str]:
    """Return the anchors that a forge makes of the headings of a document."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_setting_is_documented_with_its_default() -> None:
    """One row per key of JOBSUP; the second column is the default."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*?) \|", SETTINGS.read_text(), re.MULTILINE))
    for field in fields(conf.Conf):
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        assert rows.get(field.name.removesuffix("_s").upper(), "").strip("`\"'") == default, field.name
    assert {"BACKEND", "QUEUES", "OPTIONS"} <= set(rows)


@pytest.mark.parametrize("command", [Command(), Install()], ids=["jobsupervisor", "jobsup_install"])
def test_every_option_of_a_command_is_documented(command: BaseCommand) -> None:
    """One row per option, and every action is named."""
    parser = CommandParser(add_help=False)
    command.add_arguments(parser)
    text = SETTINGS.read_text()
    for action in parser._actions:
        if action.option_strings and not action.required:
            assert f"| `{action.option_strings[-1]}" in text, action.option_strings
        for choice in action.choices or ():
            assert f"`{choice}`" in text or choice == RUN, choice


def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    """It knows every key and every value, once the paths are those of this machine."""
    text = (ROOT / "etc" / "systemd" / "jobsup.service").read_text()
    assert f"TimeoutStopSec={conf.Conf().grace_s + 15:g}" in text
    if shutil.which("systemd-analyze") is not None:
        unit = tmp_path / "jobsup.service"
        unit.write_text(text.replace("/srv/mysite/.venv/bin/python", sys.executable).replace("=mysite\n", "=root\n"))
        verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
        done = subprocess.run(verify, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert unit.name not in done.stdout, done.stdout
