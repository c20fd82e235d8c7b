"""The reference for task authors has everything that there is, once, and nothing else; so has that of the settings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from argparse import SUPPRESS
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandParser

import jobsup
from jobsup import conf, errors
from jobsup.cli.actions import ACTIONS
from jobsup.context import JobContext
from jobsup.management.commands.jobsup_survey import Command as Survey
from jobsup.options import OPTIONS
from jobsup.results import JobsupResult
from jobsup.task import JobsupTask, task
from tests.support import ROOT
from tests.system.test_documented_facts import IN_CODE, rows, section

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
TASKS = (DOCS / "tasks.md").read_text()
SETTINGS = (DOCS / "settings.md").read_text()
DJANGOS = {"priority", "queue_name", "backend", "takes_context"}


def named(cell: str) -> list[str]:
    """Return the names in a cell, of methods without their arguments."""
    return [re.sub(r"^(await )?|\(.*$", "", name) for name in IN_CODE.findall(cell)]


def first_cells(text: str, columns: int) -> list[str]:
    """Return the names in the first cells of the tables with so many columns."""
    return [name for row in rows(text, columns) for name in named(row[0])]


def public(kind: type) -> set[str]:
    """Return the names of a class, its fields among them, that are for its users."""
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    return {name for name in (*vars(kind), *dir(kind), *fields) if not name.startswith("_")}


def test_each_task_option_is_there_once() -> None:
    """With an example among the tasks, in full among the settings; the decorator takes just these."""
    found = first_cells(section(TASKS, "The decorator"), 3)
    assert sorted(found) == sorted(DJANGOS | set(OPTIONS))
    for row in rows(section(TASKS, "The decorator"), 3):
        if found_in := IN_CODE.findall(row[0]):
            assert row[1].startswith(f"`{found_in[0]}="), row
    assert sorted(first_cells(section(SETTINGS, "TASKS"), 4)) == sorted(OPTIONS)
    assert set(OPTIONS) <= {field.name for field in dataclasses.fields(JobsupTask)}
    assert set(inspect.signature(JobsupTask.using).parameters) - {"self", "run_after"} == (DJANGOS | set(OPTIONS)) - {
        "takes_context",
        "atomic",
        "schedule",
    }


def test_examples_of_options_are_taken() -> None:
    """Each is a value that the option may have."""
    for row in rows(section(TASKS, "The decorator"), 3):
        if not (example := IN_CODE.findall(row[1])):
            continue
        names = {"Backoff": jobsup.Backoff, "timedelta": timedelta}
        given = eval(f"dict({example[0]})", names)  # our own page
        for option, value in given.items():
            if option in OPTIONS:
                OPTIONS[option].check(value)
            else:
                assert option in DJANGOS


def test_each_setting_is_there_once() -> None:
    """One row each, and no row of anything else; where there is a range it is that of the code."""
    table = {row[0].strip("`"): row for row in rows(section(SETTINGS, "JOBSUP"), 4) if row[0].startswith("`")}
    assert sorted(first_cells(section(SETTINGS, "JOBSUP"), 4)) == sorted(conf._KEYS)
    for name, (low, high) in conf._RANGES.items():
        powers = {10**6: "10^6", 10**12: "10^12"}
        expected = f"{low:.15g} to {powers.get(int(high), f'{high:.15g}')}"
        assert expected in table[name.removesuffix("_s").upper()][2], f"{name}: {expected}"


def test_what_a_task_can_do_is_there() -> None:
    """Every method and property of a task."""
    told = set(first_cells(section(TASKS, "What a task can do"), 2))
    told |= set(re.findall(r"\btask\.(\w+)", section(TASKS, "What a task can do")))
    assert public(JobsupTask) - {field.name for field in dataclasses.fields(JobsupTask)} - {"get_backend"} <= told


def test_what_a_result_tells_is_there() -> None:
    """Every field, property and method, and nothing that is none."""
    told = set(first_cells(section(TASKS, "The result"), 2))
    assert told == public(JobsupResult)


def test_what_a_context_has_is_there() -> None:
    """Every field and method."""
    assert {name.removeprefix("context.") for name in first_cells(section(TASKS, "The context"), 2)} == public(
        JobContext
    )


def test_what_is_for_tasks_is_there() -> None:
    """Every name of the package, and every exception."""
    for name in jobsup.__all__:
        if not name.startswith("__"):
            assert re.search(rf"\b{name}\b", TASKS), name
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and kind.__module__ == errors.__name__:
            assert f"{name}`" in TASKS, name
    assert inspect.signature(task).parameters.keys() - {"function", "options"} == DJANGOS


@pytest.mark.parametrize("signal", ["task_enqueued", "task_started", "task_finished"])
def test_signals_are_there(signal: str) -> None:
    """With when and where."""
    assert signal in first_cells(section(TASKS, "Signals"), 3)


def test_every_page_is_in_the_index() -> None:
    """And the pages for task authors on the reference, too."""
    index = (DOCS / "README.md").read_text()
    for page in sorted(DOCS.glob("*.md")):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name
    for row in section(index, "Write tasks").splitlines():
        for name in re.findall(r"\]\((\w[\w-]*\.md)\)", row):
            assert name == "tasks.md" or f"]({name}" in TASKS, name


@pytest.mark.parametrize("name", [action.name for action in ACTIONS])
def test_every_option_of_jobs_is_documented(name: str) -> None:
    """On the page of the command."""
    action = next(action for action in ACTIONS if action.name == name)
    parser = CommandParser(add_help=False)
    action.declare(parser)
    assert_documented(parser, DOCS / "jobs-command.md")
    assert (
        f"| [`{name}`]" in (DOCS / "jobs-command.md").read_text()
        or f", [`{name}`]" in (DOCS / "jobs-command.md").read_text()
    )


def test_every_option_of_the_survey_is_documented() -> None:
    """On the page for whom it is."""
    parser = CommandParser(add_help=False)
    Survey().add_arguments(parser)
    assert_documented(parser, DOCS / "coming-from.md")


def assert_documented(parser: CommandParser, page: Path) -> None:
    """Check that a page names every option of a parser."""
    text = page.read_text()
    for action in parser._actions:
        if action.option_strings and action.help != SUPPRESS:
            assert re.search(rf"`[^`]*{action.option_strings[-1]}\b", text), action.option_strings
