"""The contract of `django.tasks`, check by check: of jobsup on each database, or of the backend in CONFORMANCE_BACKEND.

The checks run in a process of their own, once per database; here each of them is a test.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LIMIT_S = 300
BACKEND = os.environ.get("CONFORMANCE_BACKEND")
RUNS = ["it"] if BACKEND else ["sqlite", "postgresql"]
JOBSUP = {"CONFORMANCE_DECORATOR": "jobsup.task", "CONFORMANCE_RETRY": '{"max_attempts": 2}'}

KNOWN = {
    "running.is_running_at_once": "the start of a job is written down only once it has run for a while",
    "signals.the_store_knows": "likewise, for a receiver of task_started that looks at once",
}
"""What jobsup does not do, by choice; docs/conformance.md says so, too."""


def checks() -> Iterator[tuple[str, str]]:
    """Yield name and words of each check, without importing it: that would need the settings of a run."""
    for module in sorted((HERE / "checks").glob("[a-z]*.py")):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.FunctionDef) and any(map(_declares, node.decorator_list)):
                yield f"{module.stem}.{node.name}", (ast.get_docstring(node) or "").rstrip(".")


def _declares(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in {"must", "should"}


def examine(directory: Path, *names: str, **environment: str) -> dict[str, Any]:
    """Run checks in a process of their own and return its report."""
    file = directory / "report.json"
    paths = [str(ROOT)] if BACKEND else [str(ROOT), str(ROOT / "supervisor"), str(ROOT / "django_app")]
    python_path = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "JOBSUP_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance", "--json", str(file), "--keep", str(directory), *names],
        cwd=ROOT,
        env={**({} if BACKEND else JOBSUP), **ours, **environment, "PYTHONPATH": python_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )
    assert file.exists(), f"the checks did not come to an end ({done.returncode}):\n{done.stdout}"
    report: dict[str, Any] = json.loads(file.read_text())
    log = directory / "worker.log"
    report["log"] = log.read_text(errors="replace")[-4000:] if log.exists() else ""
    return report


@pytest.fixture(scope="module", params=RUNS)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all checks found on one database."""
    environment = {}
    if request.param == "postgresql":
        environment["CONFORMANCE_DATABASE"] = request.getfixturevalue("postgres_cluster").create_database("conformance")
    made = examine(tmp_path_factory.mktemp("conformance"), **environment)
    return {**made, "found": {check["name"]: check for check in made["checks"]}}


@pytest.mark.timeout(LIMIT_S + 20)
@pytest.mark.parametrize("name", [name for name, _ in checks()])
def test_contract(report: dict[str, Any], name: str) -> None:
    """A check holds or is not offered."""
    check = report["found"][name]
    if check["result"] == "fails" and name in KNOWN and not BACKEND:
        pytest.xfail(KNOWN[name])
    story = [check["words"], check["detail"], "-- rounds:", *report["rounds"], "-- log:", report["log"]]
    assert check["result"] != "fails", "\n".join(story)


@pytest.mark.timeout(LIMIT_S + 20)
def test_naive_datetimes(tmp_path: Path) -> None:
    """With USE_TZ = False every datetime is naive, and run_after is, too."""
    about_time = ("enqueueing.says_when", "running.times", "running.run_after", "declaring.naive_run_after")
    made = examine(tmp_path, *about_time, CONFORMANCE_USE_TZ="0")
    assert len(made["checks"]) >= len(about_time)
    wrong = [f"{check['name']}: {check['detail']}" for check in made["checks"] if check["result"] == "fails"]
    assert not wrong, "\n".join([*wrong, made["log"]])


@pytest.mark.skipif(bool(BACKEND), reason="the page is about jobsup and the others")
def test_every_check_is_published() -> None:
    """docs/conformance.md has a row for each, and tells of what jobsup does not do."""
    page = (ROOT / "docs" / "conformance.md").read_text()
    rows = re.findall(r"^\| (.+?)(?: \(should\))? \| ([^|]+) \|", page, re.MULTILINE)
    published = dict(rows)
    for name, words in checks():
        assert words in published, f"{name} is not on the page: make its tables anew"
        assert ("✗" in published[words]) == (name in KNOWN), f"the page is wrong about {name}"


@pytest.mark.skipif(bool(BACKEND), reason="one is enough")
def test_a_backend_that_breaks_the_contract_is_found_out(tmp_path: Path) -> None:
    """One that runs tasks but reports them wrongly fails where that shows, and nowhere else."""
    environment = {"CONFORMANCE_BACKEND": "tests.conformance.broken.BrokenBackend", "CONFORMANCE_WORKER": ""}
    made = examine(tmp_path, "running.success", "results.plain", "signals.order", "declaring.defaults", **environment)
    found = {check["name"]: check["result"] for check in made["checks"]}
    assert found == {
        "declaring.defaults": "ok",
        "results.plain_values": "fails",
        "running.success": "fails",
        "running.success_worker": "fails",
        "signals.order": "ok",
    }
