"""What a row may name: tasks in modules that the project names, and what those declare; nothing else is imported."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from jobsup import registry
from jobsup.checks import check_settings
from jobsup.errors import TaskNotFound
from jobsup.judge import Judge
from jobsup.models import Status
from jobsup.registry import find_task, import_tasks
from jobsup.retries import declared_at
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASK = "from jobsup import task\n\n@task\ndef work(): ...\n"
LEAVES_A_TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path, in a process that has looked for tasks already; what is imported is forgotten."""
    monkeypatch.syspath_prepend(str(tmp_path))
    import_tasks()
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        del sys.modules[name]
    import_tasks()


def named(*modules: str) -> Any:
    """Have the settings name modules."""
    return override_settings(JOBSUP={"TASK_MODULES": modules})


def test_f27_a_row_has_no_module_imported_that_nobody_names(folder: Path) -> None:
    """Not even one that has such a task; the words name the remedy."""
    (folder / "strange.py").write_text(LEAVES_A_TRACE + TASK)
    with pytest.raises(TaskNotFound) as told:
        find_task("strange.work")
    assert str(told.value) == (
        "no task strange.work: workers import no module strange; have the task in the module tasks of an app, "
        'or name its module in JOBSUP["TASK_MODULES"]'
    )
    assert "strange" not in sys.modules
    assert not (folder / "strange.imported").exists()
    with named("strange"):
        assert import_tasks() == {}
    assert find_task("strange.work").name == "work"


def test_f27_nothing_is_called_to_find_out_that_it_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is lazy nor the __getattr__ of a module."""

    def fail(*_args: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(tasks, "lazy", SimpleLazyObject(fail), raising=False)
    monkeypatch.setattr(tasks, "__getattr__", fail, raising=False)
    for name in ("lazy", "absent", "leave_trace"):
        with pytest.raises(TaskNotFound, match="no task of that name stands in the module"):
            find_task(f"tests.testapp.tasks.{name}")


def test_a_package_is_imported_with_what_is_in_it_but_for_its_tests(folder: Path) -> None:
    """However deep."""
    for place in ("", "mail", "tests"):
        (folder / "jobs_of_shop" / place).mkdir()
        (folder / "jobs_of_shop" / place / "__init__.py").write_text(TASK)
    for name in ("nightly", "mail/letters", "test_nightly", "conftest", "__main__"):
        (folder / "jobs_of_shop" / f"{name}.py").write_text(TASK)
    with named("jobs_of_shop"):
        assert import_tasks() == {}
    found = {name for name in sys.modules if name.startswith("jobs_of_shop")}
    assert found == {f"jobs_of_shop{each}" for each in ("", ".mail", ".mail.letters", ".nightly")}
    assert find_task("jobs_of_shop.mail.letters.work").module_path == "jobs_of_shop.mail.letters.work"


def test_f27_a_module_that_cannot_be_imported_is_tried_again_when_a_job_wants_it(folder: Path) -> None:
    """What it lacked may be there by then: a database, say. Until then each job is told why."""
    (folder / "early.py").write_text("1 / 0")
    seen: list[BaseException] = []
    with named("early"):
        flaws = import_tasks(failed=seen.append)
    assert (list(flaws), [type(error) for error in seen]) == (["early"], [ZeroDivisionError])
    with pytest.raises(TaskNotFound, match=r"the module early cannot be imported: builtins.ZeroDivisionError"):
        find_task("early.work")
    (folder / "early.py").write_text(TASK)
    assert find_task("early.work").name == "work"


def test_a_process_that_is_no_worker_imports_them_when_it_first_misses_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view that looks at a result, say."""
    (folder / "late.py").write_text(TASK)
    monkeypatch.setattr(registry, "_flaws", None)
    with named("late"):
        assert find_task("late.work").name == "work"


def test_modules_that_there_are_not_are_told_by_the_check(folder: Path) -> None:
    """Without importing those that there are."""
    (folder / "there.py").write_text(LEAVES_A_TRACE)
    with named("there", "not_there", "not_there.either"):
        told = [message.msg for message in check_settings() if message.id == "jobsup.E003"]
    assert [line.partition(": ")[0] for line in told] == [
        "JOBSUP['TASK_MODULES'] names 'not_there'",
        "JOBSUP['TASK_MODULES'] names 'not_there.either'",
    ]
    assert not (folder / "there.imported").exists()


def test_f27_a_row_has_no_function_called_and_no_class_imported_that_no_task_declares(folder: Path) -> None:
    """Neither for a delay nor for the kind of an error; what a task declares is found."""
    (folder / "slowly.py").write_text(LEAVES_A_TRACE + "def wait(error, result):\n    return 1\n")
    for path in ("slowly.wait", "os.abort"):
        with pytest.raises(LookupError, match=f"no task that this worker knows declares {path}"):
            declared_at(path)
    result = SimpleNamespace(task=tasks.noop)
    kept: Any = SimpleNamespace(id=7, task="a.task", attempt=1, uncounted=0, max_attempts=3, options="")
    kept.options = '{"backoff":"slowly.wait","retry_on":["slowly.Error"]}'
    assert Judge(5).raised(kept, result, ValueError()).status is Status.FAILED, "it is none of those errors"
    kept.options = '{"backoff":"slowly.wait"}'
    assert Judge(5).raised(kept, result, ValueError()).delay_s == 1, "the default"
    assert not (folder / "slowly.imported").exists()
    tasks.noop.using(backoff="slowly.wait")
    assert declared_at("slowly.wait")(None, None) == 1
