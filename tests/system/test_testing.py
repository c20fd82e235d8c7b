"""The tests of a project that uses `jobsup.testing`, run as its people run them, from what they install."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

PROJECT = {
    "settings.py": """
from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
""",
    "pytest.ini": """
[pytest]
DJANGO_SETTINGS_MODULE = settings
filterwarnings = error
""",
    "shop/__init__.py": "",
    "shop/tasks.py": """
from django.db import connection

from jobsup import task


@task(queue_name="other")
def invoice(order: int) -> str:
    return f"invoice {order}"


@task(max_attempts=2)
def pay(order: int) -> None:
    if order == 13:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM nowhere")
    invoice.enqueue(order)
""",
    "shop/test_by_django.py": """
from django.test import TestCase, TransactionTestCase

from jobsup.compat import TaskResultStatus
from jobsup.testing import Jobs
from shop.tasks import invoice, pay


class Checks(Jobs):
    def test_runs_and_asserts(self):
        pay.enqueue(7)
        self.assert_enqueued(pay, args=[7], count=1)
        self.assert_not_enqueued(invoice)
        paid, invoiced = self.run_pending()
        self.assertEqual(invoiced.return_value, "invoice 7")
        self.assert_not_enqueued()

    def test_survives_a_database_error(self):
        pay.enqueue(13)
        [failed] = self.run_pending(advance=True)
        self.assertEqual((failed.status, failed.attempts), (TaskResultStatus.FAILED, 2))
        invoice.enqueue(1)
        self.assertEqual(len(self.run_pending()), 1)

    def test_nothing_is_left_by_other_tests(self):
        self.assertEqual(self.enqueued(), [])

    def test_immediate(self):
        with self.immediate() as ran:
            pay.enqueue(7)
        self.assertEqual([result.return_value for result in ran], ["invoice 7", None])

    async def test_immediate_in_a_coroutine(self):
        with self.immediate():
            self.assertEqual((await invoice.aenqueue(7)).return_value, "invoice 7")


class InTransaction(Checks, TestCase):
    pass


class WithoutTransaction(Checks, TransactionTestCase):
    pass
""",
}
BY_PYTEST = """
import pytest
from django.db import connection

from shop.tasks import invoice, pay


def check(jobs):
    pay.enqueue(7)
    jobs.assert_enqueued(pay, args=[7])
    jobs.run_pending()
    with jobs.immediate():
        assert invoice.enqueue(8).return_value == "invoice 8"
    return connection.in_atomic_block


def test_the_fixture_asks_for_the_database(jobs):
    assert check(jobs)


def test_with_another_fixture_for_the_database(transactional_db, jobs):
    assert not check(jobs)


@pytest.mark.django_db(transaction=True)
def test_with_a_mark(jobs):
    assert not check(jobs)


def test_a_message_ends_where_the_test_is(jobs):
    with pytest.raises(AssertionError, match="no such job is enqueued: shop.tasks.pay") as caught:
        jobs.assert_enqueued(pay)
    assert caught.traceback.filter(caught)[-1].path.name == "test_by_pytest.py"
"""

ELSEWHERE = """
import django.conf


def test_this(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("jobsup")
    assert not django.conf.settings.configured
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the wheel holds, which is what an installer would make of it."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = target.glob("*.whl")
    with ZipFile(built) as archive:
        archive.extractall(target / "site")
    return target / "site"


def make_project(place: Path, files: dict[str, str]) -> Path:
    """Write a project's files."""
    for name, text in files.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place


def run(project: Path, site: Path, *command: str, **env: str) -> str:
    """Run a command of the project, with what is installed; return what it said."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "JOBSUP_", "PYTEST_"))
    }
    paths = os.pathsep.join(map(str, [project, site, ROOT]))
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=project,
        env={**clean, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_project_tested_by_django(database: Database, tmp_path: Path, site: Path) -> None:
    """TestCase and TransactionTestCase, on each database."""
    project = make_project(tmp_path / "project", PROJECT)
    said = run(project, site, "django", "test", "--no-input", DJANGO_SETTINGS_MODULE="settings", **database.env)
    assert "Ran 10 tests" in said
    assert "OK" in said


def test_a_project_tested_by_pytest(database: Database, tmp_path: Path, site: Path) -> None:
    """The same by pytest-django, and the fixture `jobs`, which is there once jobsup is installed."""
    project = make_project(tmp_path / "project", {**PROJECT, "shop/test_by_pytest.py": BY_PYTEST})
    said = run(project, site, "pytest", "-q", "-p", "no:cacheprovider", "--create-db", **database.env)
    assert "14 passed" in said


def test_the_plugin_leaves_other_projects_alone(tmp_path: Path, site: Path) -> None:
    """It is loaded in each project of the environment, also where there is no Django; it sets nothing up."""
    project = make_project(tmp_path / "project", {"test_this.py": ELSEWHERE})
    said = run(project, site, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:django")
    assert "1 passed" in said
