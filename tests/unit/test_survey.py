"""The survey of a project that comes from another queue: what it finds, line by line, and that its advice is true."""

from __future__ import annotations

import ast
import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from jobsup import Backoff, Schedule, conf
from jobsup.cli.actions import ACTIONS
from jobsup.compat import Task
from jobsup.options import OPTIONS
from jobsup.survey import main
from jobsup.survey.libraries import LIBRARIES
from jobsup.survey.look import survey
from jobsup.survey.report import MARKS
from jobsup.survey.rules import Fit
from tests.support import ROOT
from tests.unit.surveyed import CELERY, PROJECTS


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write a project; return its folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", PROJECTS)
def test_each_line_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    """As the comments in the source say."""
    found: dict[tuple[str, int], list[str]] = {}
    for finding in survey([written(tmp_path, PROJECTS[name])]).findings:
        place = str(Path(finding.path).relative_to(tmp_path)), finding.line
        found.setdefault(place, []).append(f"{MARKS[finding.fit]} {finding.what}")
    expected = {
        (path, number): sorted(line.partition("#: ")[2].split(", "))
        for path, text in PROJECTS[name].items()
        for number, line in enumerate(text.splitlines(), 1)
        if "#: " in line
    }
    assert {place: sorted(marks) for place, marks in found.items()} == expected


def test_a_project_of_jobsup_has_nothing_to_change(tmp_path: Path) -> None:
    """Neither its tasks nor its settings are taken for another queue's."""
    text = """
from jobsup import task
TASKS = {"default": {"BACKEND": "jobsup.backend.JobsupBackend"}}
JOBSUP = {"WORKERS": 3}

@task(schedule="0 3 * * *", max_attempts=2)
def clean():
    clean.using(priority=3).enqueue()
"""
    found = survey([written(tmp_path, {"tasks.py": text})])
    assert (found.files, found.findings, found.unread) == (1, [], [])


def test_what_cannot_be_read_is_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    """A path that is not there, a file that does not parse, one of another encoding, one that nests too deeply."""
    written(tmp_path, {"good.py": "import os\nos.fork()\n", "wrong.py": "def f(:\n", "deep.py": f"{'-' * 5000}1\n"})
    (tmp_path / "latin.py").write_bytes(b"\n\nname = '\xe4'\n")
    (tmp_path / "nul.py").write_bytes(b"a = 1\0\n")
    out, errors = io.StringIO(), io.StringIO()
    assert main.run([tmp_path, tmp_path / "missing"], out, errors, as_json=False) == 1
    assert "2 ? os.fork" in out.getvalue()
    told = dict(re.findall(r"not read: \S+/(\S+): (.*)", errors.getvalue()))
    assert set(told) == {"wrong.py", "deep.py", "latin.py", "nul.py", "missing"}
    assert told["missing"] == "it does not exist"
    assert told["wrong.py"].startswith("line 1: ")
    assert "Traceback" not in errors.getvalue()


def test_other_peoples_code_is_left_out(tmp_path: Path) -> None:
    """Virtual environments, hidden folders, installed packages."""
    text = "import os\nos.fork()\n"
    files = dict.fromkeys(["a.py", ".tox/b.py", "node_modules/c.py", "lib/site-packages/d.py", "own_env/e.py"], text)
    written(tmp_path, {**files, "own_env/pyvenv.cfg": ""})
    assert [Path(finding.path).name for finding in survey([tmp_path]).findings] == ["a.py"]


def test_json_has_everything(tmp_path: Path) -> None:
    """Findings with their place, sums by library, what is missing, what was not read."""
    written(tmp_path, {**CELERY, "wrong.py": "("})
    out = io.StringIO()
    assert main.run([tmp_path], out, io.StringIO(), as_json=True) == 1
    told = json.loads(out.getvalue())
    assert told["files"] == len(CELERY)
    assert [Path(each["path"]).name for each in told["unread"]] == ["wrong.py"]
    assert sum(told["summary"]["Celery"].values()) == len(told["findings"])
    assert told["missing"]["chord"] == 1
    assert set(told["findings"][0]) == {"path", "line", "library", "what", "fit", "advice"}


def test_a_report_without_findings_says_so(tmp_path: Path) -> None:
    """In one line."""
    out = io.StringIO()
    assert main.run([written(tmp_path, {"a.py": ""})], out, io.StringIO(), as_json=False) == 0
    assert out.getvalue() == "1 Python file looked at: nothing of another queue was found\n"


# ---- the advice is true

ADVICE = sorted({rule.advice for library in LIBRARIES for rule in library.rules.values()})
KNOWN = (
    {*OPTIONS, *(field.name for kind in (Task, Backoff, Schedule) for field in dataclasses.fields(kind))}
    | {"after", "raise_errors", "retry", "seconds", "minutes"}  # of Retry, immediate, huey's CancelExecution, timedelta
)


def test_advice_names_only_what_there_is() -> None:
    """Options, settings, actions of the command, pages, and names of jobsup."""
    for advice in ADVICE:
        for name in re.findall(r"\b([a-z_]+)=", advice):
            assert name in KNOWN, advice
        for key in re.findall(r"JOBSUP\['([A-Z_]+)'\]", advice):
            assert key in conf._KEYS, advice
        for action in re.findall(r"manage\.py jobs ([a-z]+)", advice):
            assert action in {"and", *(each.name for each in ACTIONS)}, advice
        for page in re.findall(r"docs/[\w-]+\.md", advice):
            assert (ROOT / page).exists(), advice
        for path in re.findall(r"(?<![`'])\bjobsup(?:\.\w+)+", advice):
            resolve_name(path)


def test_every_rule_can_be_found() -> None:
    """No key is spelled so that nothing in source has it: settings in capitals, keywords as names, texts in quotes."""
    form = re.compile(
        r"'[\w.*]+'|view:[\w.*]+|[A-Z][A-Z_*]*(\[[\w*]+\])?|on_commit|\(\)|self\.[\w.*]+|"
        r"(@|(<app>|[a-z_]+)?(\(\))?(\.[\w*]+(\(\))?)*\*?)(\([\w*]+\))?"
    )
    for library in LIBRARIES:
        for key in library.rules:
            assert form.fullmatch(key), key
        assert {task for task in library.tasks if library.find(task) is None} == set()
    assert {rule.fit for library in LIBRARIES for rule in library.rules.values()} == set(Fit)


def test_the_package_imports_none_of_these_libraries() -> None:
    """It reads what the project imports, and has none of it itself."""
    for path in (ROOT / "django_app" / "jobsup" / "survey").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert node.module.split(".")[0] in {"jobsup", "django", *sys.stdlib_module_names}
