"""Every row of the benchmarks can still be measured: as little of each as shows that it works, and nothing of speed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from benchmarks.report import Result, load
from benchmarks.rows import ROWS
from tests import mariadb
from tests.support import ROOT, assert_nothing_left, environment, processes_of

if TYPE_CHECKING:
    from pathlib import Path

HERE = [name for name in ROWS if name != "mariadb" or mariadb.is_installed() or os.environ.get("CI") == "true"]


def bench(*arguments: str, timeout_s: float = 300) -> tuple[int, str]:
    """Run the command to its end; return its exit code and what it said."""
    with tempfile.TemporaryFile("w+") as said:  # a pipe would be waited for as long as anybody left behind has it
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments],
            cwd=ROOT,
            env=environment({}),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            timeout=timeout_s,
            check=False,
        )
        said.seek(0)
        return done.returncode, said.read()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run over all rows says, and where it has put the figures; one run, since the server takes a while."""
    before = processes_of(os.getpid())
    folder = tmp_path_factory.mktemp("results")
    _, said = bench("--smoke", "--runs", "1", "--rivals", "none", "--results", str(folder), *HERE)
    assert_nothing_left(besides=before)
    return said, folder


@pytest.mark.timeout(330)  # all rows are measured by the first that asks
@pytest.mark.parametrize("name", HERE)
def test_a_row_is_measured(name: str, measured: tuple[str, Path]) -> None:
    """It has figures, which are printed and kept with what is needed to understand them."""
    printed, folder = measured
    assert (folder / f"{name}.json").exists(), printed
    result: Result = load(name, folder)
    assert result.missing == {}
    (figures,) = result.runs
    values = [value for each in figures.values() for value in each.values()]
    assert values, "no figures"
    assert all(math.isfinite(value) for value in values), figures
    for who in figures:
        assert f"{name:9} {who}" in printed
    assert result.sizes == json.loads(json.dumps(ROWS[name].smoke))
    assert {"processor", "kernel", "python", "django", "postgresql", "jobsup"} <= result.machine.keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dryn"], "no row dryn; there are drain, "),
        (["start", "--jobs", "5"], "--jobs: start is not measured by a number of jobs"),
        (["drain", "--runs", "0"], "--runs and --jobs must be at least 1"),
        (["drain", "--rivals", "pgqueuer,selery"], "no rival selery; there are pgqueuer, "),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], words: str) -> None:
    """In words, and before anything is started."""
    code, said = bench(*arguments, timeout_s=30)
    assert code == 2
    assert words in said


def test_each_row_has_a_command() -> None:
    """`make bench-ROW` measures that row."""
    for target, command in {
        "bench-drain": "-m benchmarks drain ",
        "bench": "-m benchmarks ",
        "bench-rivals": "-m benchmarks.rivals",
        "bench-pictures": "-m benchmarks.publish",
    }.items():
        run = ["make", "--dry-run", "--no-print-directory", target]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
        assert command in done.stdout, done.stdout
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make bench-ROW" in done.stdout
