"""The line between the packages: jobsup imports spawnpool, never the reverse, and neither knows demo or tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPAWNPOOL = ROOT / "supervisor" / "spawnpool"
JOBSUP = ROOT / "django_app" / "jobsup"
NOBODY_IMPORTS = {"demo", "tests", "benchmarks", "supervisor", "django_app"}
FORBIDDEN = {
    SPAWNPOOL: NOBODY_IMPORTS | {"django", "django_tasks", "jobsup", "psycopg", "psycopg2", "sqlite3"},
    JOBSUP: NOBODY_IMPORTS,
}


def imported_packages(source: str) -> Iterator[tuple[str, int]]:
    """Yield the package and the line of every absolute import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], node.lineno


@pytest.mark.parametrize("package", FORBIDDEN, ids=lambda package: package.name)
def test_imports_only_to_the_right(package: Path) -> None:
    """Every module of the package imports only what its place allows."""
    modules = sorted(package.rglob("*.py"))
    assert modules, f"{package} is empty"
    trespasses = [
        f"{module.relative_to(ROOT)}:{line} imports {name}"
        for module in modules
        for name, line in imported_packages(module.read_text())
        if name in FORBIDDEN[package]
    ]
    assert not trespasses, "\n".join(trespasses)


def test_every_kind_of_import_is_seen() -> None:
    """The check finds imports in functions, in conditions and under other names."""
    source = """
if x:
    import django.db as d
def f():
    from psycopg2.extensions import quote_ident
    from . import demo
"""
    assert {name for name, _ in imported_packages(source)} == {"django", "psycopg2"}


def test_a_process_knows_only_of_the_database_that_it_has() -> None:
    """The statements for other databases cost it neither time nor memory."""
    code = (
        "import sys, django; django.setup()\n"
        "import jobsup.runner, jobsup.source, jobsup.sql\n"
        "jobsup.sql.statements('default')\n"
        "print(*({'postgresql', 'mariadb', 'sqlite'} & {name.split('.')[2] for name in sys.modules "
        "if name.startswith('jobsup.sql.')}))"
    )
    env = environment({"JOBSUP_TEST_DEFAULT": "sqlite"})
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("sqlite\n", "")
