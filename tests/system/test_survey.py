"""`manage.py jobsup_survey` in a project of another queue: it reads, and neither runs nor changes anything."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support import environment

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
from pathlib import Path
from celery import shared_task

Path("imported").touch()
raise SystemExit("nobody is to run this")


@shared_task
def send(pk):
    pass
"""


def run(folder: Path, *command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    env = environment({"JOBSUP_TEST_SETTINGS": json.dumps(settings), "PYTHONDONTWRITEBYTECODE": "1"})
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_a_project_is_read_and_neither_run_nor_changed(tmp_path: Path) -> None:
    """The working directory is what is looked at; not even broken settings of tasks or a missing database matter."""
    (tmp_path / "tasks.py").write_text(TASKS)
    wrong = {"TASKS": {"default": {"BACKEND": "no.such.Backend"}}, "JOBSUP": {"WORKRES": 1}}
    done = run(tmp_path, "django", "jobsup_survey", **wrong)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tasks.py\n     9 = @shared_task -> from jobsup import task; @task\n")
    assert done.stdout.endswith("Celery: 1 one to one (=), 0 to decide (?), 0 not in jobsup (-)\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"tasks.py": TASKS}


def test_what_cannot_be_read_makes_the_exit_code_1(tmp_path: Path) -> None:
    """It is told on stderr, so that JSON on stdout stays JSON."""
    (tmp_path / "wrong.py").write_text("def f(:\n")
    done = run(tmp_path, "django", "jobsup_survey", ".", "nowhere", "--json")
    assert done.returncode == 1
    assert [unread["path"] for unread in json.loads(done.stdout)["unread"]] == ["wrong.py", "nowhere"]
    assert "not read: nowhere: it does not exist\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_project_it_runs_as_a_module(tmp_path: Path) -> None:
    """Where jobsup is installed and not yet in INSTALLED_APPS."""
    (tmp_path / "tasks.py").write_text(TASKS)
    env = environment({})
    del env["DJANGO_SETTINGS_MODULE"]
    command = [sys.executable, "-m", "jobsup.survey", str(tmp_path / "tasks.py"), "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [found["what"] for found in json.loads(done.stdout)["findings"]] == ["@shared_task"]
