"""`jobsupervisor --reload`: workers on new code after each change of a file; the supervisor goes on all the while."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from jobsup.autoreload import changed, look, roots
from jobsup.models import Job, Status
from jobsup.store import Store
from tests import settings
from tests.db.rows import put
from tests.support import ROOT, eventually
from tests.system.jobs import ON_SQLITE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database
    from tests.support import Supervisor

WAIT_S = 60
TASKS = """
from jobsup import task
from shop.wisdom import ANSWER

@task
def answer() -> int:
    return ANSWER
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An app whose task imports a module that the supervisor itself never does."""
    place = tmp_path / "code" / "shop"
    place.mkdir(parents=True)
    (place / "__init__.py").touch()
    (place / "tasks.py").write_text(TASKS)
    (place / "wisdom.py").write_text("ANSWER = 1\n")
    return place


def answer(supervisor: Supervisor) -> int:
    """Run the task; return what it returned."""
    [pk] = put(Store(), task="shop.tasks.answer")
    eventually(lambda: Job.objects.get(pk=pk).status == Status.SUCCESSFUL, WAIT_S, "the answer", supervisor.picture)
    return int(json.loads(Job.objects.get(pk=pk).result or "0"))


@ON_SQLITE
def test_each_change_is_taken_and_broken_code_is_not(database: Database, shop: Path) -> None:
    """A module of a task, then a mistake, which keeps the old workers at work, then its correction."""
    supervisor = database.supervisor(
        "--reload", "--workers", "1", DEBUG=True, INSTALLED_APPS=[*settings.INSTALLED_APPS, "shop"]
    )
    supervisor.env["PYTHONPATH"] = os.pathsep.join([str(shop.parent), supervisor.env["PYTHONPATH"]])
    with supervisor:
        supervisor.wait_ready(WAIT_S)
        assert answer(supervisor) == 1

        (shop / "wisdom.py").write_text("ANSWER = 1 + 1\n")
        eventually(lambda: answer(supervisor) == 2, WAIT_S, "the new code", supervisor.picture)
        assert "shop/wisdom.py" in supervisor.log()
        supervisor.wait_log("reload done", WAIT_S)

        (shop / "tasks.py").write_text(TASKS + "\n:-)\n")
        supervisor.wait_log("the module shop.tasks cannot be imported", WAIT_S)
        supervisor.wait_log("the old workers", WAIT_S)
        assert answer(supervisor) == 2, "the old workers are still there"

        (shop / "wisdom.py").write_text("ANSWER = 42\n")
        (shop / "tasks.py").write_text(TASKS)
        eventually(lambda: answer(supervisor) == 42, WAIT_S, "the corrected code", supervisor.picture)
        assert supervisor.process.poll() is None


def test_what_is_watched(tmp_path: Path) -> None:
    """Code and templates of the project; nothing that is hidden, generated or installed."""
    for name in (
        *("shop/tasks.py", "shop/templates/mail.txt", "lib/deep/er.py", "manage.py"),
        *("shop/data.txt", ".git/hook.py", "node_modules/x.py", "shop/__pycache__/y.py", "venv/lib/z.py"),
        *("venv/pyvenv.cfg", "site-packages/other/models.py"),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    packages = [str(tmp_path / "shop"), str(tmp_path / "site-packages" / "other")]
    places = roots(packages, [str(tmp_path), str(tmp_path / "site-packages"), str(ROOT / "docs"), os.sep])
    assert places == [str(tmp_path)]
    before = look(places)
    assert {os.path.relpath(path, tmp_path) for path in before} == {
        *("shop/tasks.py", "shop/templates/mail.txt", "lib/deep/er.py", "manage.py"),
    }

    (tmp_path / "manage.py").unlink()
    (tmp_path / "shop" / "tasks.py").write_text("22")
    (tmp_path / "new.py").touch()
    names = [os.path.relpath(path, tmp_path) for path in changed(before, look(places))]
    assert names == ["manage.py", "new.py", "shop/tasks.py"]
    assert changed(before, before) == []
