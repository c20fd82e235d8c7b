"""What the pages for operators say is so: codes, signals, messages, times, names of tests."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandParser

from jobsup import conf, hygiene, units
from jobsup.cli.actions import ACTIONS
from jobsup.control import Outcome
from jobsup.management.commands.jobs import Command as Jobs
from jobsup.management.commands.jobsup_survey import Command as Survey
from jobsup.management.commands.jobsupervisor import Command
from spawnpool.limits import Limits
from spawnpool.signals import SUPERVISOR_SIGNALS
from spawnpool.states import ExitCode
from tests.support import ROOT
from tests.system.documents import steps

if TYPE_CHECKING:
    from collections.abc import Iterator

README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
SETTINGS = ROOT / "docs" / "settings.md"
HOW_IT_WORKS = ROOT / "docs" / "how-it-works.md"
LOUD = {"warning", "error", "exception", "critical", "_say", "write"}
NOT_COVERED = "not covered"
IN_CODE = re.compile(r"`([^`]+)`")
CODE = re.compile(r"_(?:fault_|([msydplf]))(\d+)(?=_)")


def rows(text: str, columns: int) -> Iterator[list[str]]:
    """Yield the cells of each row of a table with so many columns."""
    for line in text.splitlines():
        if line.startswith("| ") and len(cells := [cell.strip() for cell in line[1:-1].split("|")]) == columns:
            yield cells


def section(text: str, title: str) -> str:
    """Return what stands below a heading, up to the next one of its level."""
    return text.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


# -- codes and signals ------------------------------------------------------------------------------------------------


def test_every_signal_is_documented() -> None:
    """In the table of the README and in that for operators."""
    for text in (section(README.read_text(), "Signals"), section(OPERATIONS.read_text(), "Signals")):
        told = {name for row in text.splitlines() if row.startswith("| ") for name in IN_CODE.findall(row)}
        assert {signum.name.removeprefix("SIG") for signum in SUPERVISOR_SIGNALS} <= told


def test_every_exit_code_is_documented() -> None:
    """Those of processes on both pages, those of the commands to a supervisor with their table."""
    codes = {str(int(code)) for code in ExitCode}
    for text in (section(README.read_text(), "Exit codes"), section(OPERATIONS.read_text(), "Exit codes")):
        told = set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
        assert codes <= told
        assert told <= codes | {"1", "2"}, "a code that no process ends with"
    told = set(re.findall(r"^\| (\d+) \|", section(OPERATIONS.read_text(), "Talking to it"), re.MULTILINE))
    assert told == {str(int(outcome)) for outcome in Outcome} | {"2"}


# -- messages ---------------------------------------------------------------------------------------------------------


@cache
def sources() -> list[ast.Module]:
    """Return the modules of both packages."""
    packages = (ROOT / "supervisor" / "spawnpool", ROOT / "django_app" / "jobsup")
    return [ast.parse(path.read_text()) for package in packages for path in sorted(package.rglob("*.py"))]


def pieces(node: ast.AST) -> list[str]:
    """Return what is fixed in the texts of a piece of code, docstrings left out, cut at what is filled in."""
    docstrings = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Expr)}
    texts = [
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in docstrings
    ]
    return [piece for text in texts for piece in re.split(r"%[sdrg]", text)]


def fragments(message: str) -> list[str]:
    """Return what is fixed in a message as the page shows it."""
    return [fragment for part in re.split(r"\.\.\.|: ", message) if len(fragment := part.strip(" ;:,.")) > 2]


def messages() -> list[str]:
    """Return the messages that the page explains."""
    table = section(OPERATIONS.read_text(), "Messages")
    return [message for row in rows(table, 4) for message in IN_CODE.findall(row[1])]


def test_every_message_that_is_explained_occurs_in_the_code() -> None:
    """Word for word, but for what differs from case to case."""
    known = "\n".join(piece for module in sources() for piece in pieces(module))
    assert len(messages()) > 40
    for message in messages():
        for fragment in fragments(message):
            assert fragment in known, f"nobody says {fragment!r} of {message!r}"


def calls() -> Iterator[ast.Call]:
    """Yield the calls that log something of level WARNING or above, or write it to stderr."""
    for node in (node for module in sources() for node in ast.walk(module)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in LOUD:
            continue
        text = ast.unparse(node)
        if node.func.attr == "_say" and not re.search(r"logging\.(WARNING|ERROR)", text):
            continue
        if node.func.attr != "write" or text.startswith("sys.stderr.write"):
            yield node


def test_every_loud_message_of_the_code_is_explained() -> None:
    """Those whose words come from elsewhere have none of their own to look for."""
    told = [fragment for message in messages() for fragment in fragments(message)]
    found = 0
    for call in calls():
        words = [piece.strip(" ;:,.()") for piece in pieces(call) if len(re.findall("[a-z]", piece)) > 5]
        if words and (text := ast.unparse(call)):
            assert any(word in fragment or fragment in word for word in words for fragment in told), text
            found += 1
    assert found > 20


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_the_times_of_containers_match_the_grace() -> None:
    """The kill comes after the ladder's end, as in the unit."""
    text = OPERATIONS.read_text()
    stop_s = conf.Conf().grace_s + units.STOP_MARGIN_S
    for name in ("terminationGracePeriodSeconds: ", "stop_grace_period: ", "TimeoutStopSec="):
        assert re.findall(rf"{name}(\d+)", text) == [f"{stop_s:g}"], name
    assert f"start_period: {conf.Conf().boot_timeout_s:g}s" in text


def test_what_containers_run_are_commands_in_their_exec_form() -> None:
    """The parser takes each of them; no shell stands in between."""
    parser = CommandParser()
    Command().add_arguments(parser)
    listed = [
        step.text for step in steps(OPERATIONS) if step.argument in ("Dockerfile", "compose.yaml", "deployment.yaml")
    ]
    found = re.findall(r'\["(?:CMD", ")?python", .*?\]', "".join(listed))
    assert len(found) == 7
    for line in found:
        words = [word for word in json.loads(line) if word != "CMD"]
        assert words[:3] == ["python", "manage.py", "jobsupervisor"]
        parser.parse_args(words[3:])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("abort_grace_s", "{:g} s later"),
        ("silence_max_s", "after {:g} s, and one more second of doubt"),
        ("cancel_ask_s", "`CANCEL_ASK` ({:g} s) later"),
        ("cancel_grace_s", "`CANCEL_GRACE` ({:g} s) later"),
        ("boot_timeout_s", "after `BOOT_TIMEOUT` ({:g} s)"),
        ("grace_s", "after `GRACE` ({:g} s)"),
        ("restarts_max", "`RESTARTS` ({:g})"),
        ("restarts_window_s", "`RESTARTS_WINDOW` ({:g} s)"),
        ("check_interval_s", "The memory is looked at every {:g} s"),
    ],
)
def test_the_times_of_the_ladder_are_those_of_the_code(name: str, words: str) -> None:
    """The page tells the limits as they are without settings."""
    assert words.format(getattr(Limits(), name)) in HOW_IT_WORKS.read_text().replace("\n", " ")


def test_how_often_memory_is_measured() -> None:
    """So many times a second."""
    assert f"{1 / Limits().memory_interval_s:g} times a second" in OPERATIONS.read_text().replace("\n", " ")


def test_what_hygiene_cannot_reach_is_admitted() -> None:
    """As the code's own account of itself does."""
    told = " ".join(section(HOW_IT_WORKS.read_text(), "What a job leaves behind").split())
    for words in ("the environment", "logging and of warnings", "threads that Python does not know"):
        assert words in told
        assert words in " ".join(str(hygiene.__doc__).split())


def test_every_task_option_is_documented() -> None:
    """One row per option that jobsup's decorator adds."""
    from jobsup.options import OPTIONS

    for option in OPTIONS:
        assert re.search(rf"^\| `{option}` \|", SETTINGS.read_text(), re.MULTILINE), option


def test_every_system_check_is_documented() -> None:
    """One row per check, and none that is not there."""
    code = (ROOT / "django_app" / "jobsup" / "checks.py").read_text()
    told = re.findall(r"^\| `(jobsup\.[EW]\d+)` \|", SETTINGS.read_text(), re.MULTILINE)
    assert sorted(told) == sorted(set(re.findall(r'"(jobsup\.[EW]\d+)"', code)))


# -- the table of codes -----------------------------------------------------------------------------------------------


@cache
def codes_of_tests() -> dict[str, set[str]]:
    """Return the names of the tests that carry a code, M1 or a number of the list of faults."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in re.findall(r"def (test_\w+)", path.read_text()):
            for letter, number in CODE.findall(name):
                code = number if letter in ("", "f") else f"{letter.upper()}{number}"
                found.setdefault(code, set()).add(name)
    return found


def every_test() -> set[str]:
    """Return the names of all tests."""
    return {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }


def test_the_table_of_codes_names_tests_that_exist() -> None:
    """Every code that a test carries has a row, and a row without a test says so and is right."""
    table = {row[0]: row for row in rows(RELIABILITY.read_text(), 4) if re.fullmatch(r"[A-Z]?\d+", row[0])}
    assert set(codes_of_tests()) <= set(table), "a code without a row"
    assert {str(number) for number in range(1, 51)} <= set(table), "a fault without a row"
    existing = every_test()
    for code, (_, _, _, cell) in table.items():
        named = set(re.findall(r"`(test_\w+)`", cell))
        assert named <= existing, f"{code}: {sorted(named - existing)}"
        assert named or NOT_COVERED in cell, f"{code} names no test and does not say so"
        if code in codes_of_tests():
            assert named & codes_of_tests()[code], f"{code}: none of its own tests is named"


def test_every_test_that_a_page_names_exists() -> None:
    """In tables and in sentences, on every page."""
    for path in sorted((ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"`(test_\w+)`", path.read_text()))
        assert named <= every_test(), f"{path.name}: {sorted(named - every_test())}"


def test_commands_of_the_pages_are_quoted_rightly() -> None:
    """What stands in code within a sentence and begins like a command of jobsup's is taken by its parser."""
    for name, command in (("jobsupervisor", Command()), ("jobs", Jobs()), ("jobsup_survey", Survey())):
        parser = CommandParser()
        command.add_arguments(parser)
        quoted = re.compile(rf"`(?:(?:python )?manage\.py )?{name}( [^`]*)?`")
        for path in (README, *sorted((ROOT / "docs").glob("*.md"))):
            prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
            for words in quoted.findall(prose):
                first, *others = words.split() or [""]
                if name == "jobs" and (first not in {action.name for action in ACTIONS} or not others):
                    continue  # a sentence about jobs, such as a message, or an action that is just named
                if not re.search(r"[A-Z]{2}|\.\.\.|[|\\]", words):  # ACTION, dots and the like stand for something
                    parser.parse_args(shlex.split(words))
