"""What users install: both packages with everything they need to run, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = {"spawnpool": ROOT / "supervisor", "jobsup": ROOT / "django_app"}
LEFT_BEHIND = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The files in the wheel."""
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_holds_the_two_packages_and_nothing_else(names: set[str]) -> None:
    """No demo, no tests, no stray file at the top."""
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(SOURCES)


@pytest.mark.parametrize("package", SOURCES)
def test_holds_every_file_of_the_package(names: set[str], package: str) -> None:
    """Modules, migrations, templates, static files: what is in the tree is in the wheel."""
    wanted = {
        path.relative_to(SOURCES[package]).as_posix()
        for path in (SOURCES[package] / package).rglob("*")
        if path.is_file() and not LEFT_BEHIND & set(path.parts)
    }
    assert wanted - names == set()


def test_is_typed_migrated_and_licensed(names: set[str]) -> None:
    """What installers and type checkers look for is there."""
    assert {"spawnpool/py.typed", "jobsup/py.typed", "jobsup/migrations/0001_initial.py"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_runs_from_the_wheel_alone(wheel: Path) -> None:
    """Both packages can be imported from the archive, without this tree on the path."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); import spawnpool, jobsup; print(spawnpool, jobsup)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(wheel)],
        capture_output=True,
        text=True,
        check=False,
        cwd=wheel.parent,
    )
    assert done.stdout.count(f"{wheel}/") == 2, done.stdout + done.stderr
