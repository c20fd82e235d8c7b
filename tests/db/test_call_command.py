"""Management commands as jobs: their output is kept, and their failure is the job's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from jobsup.compat import BaseTaskBackend
from jobsup.tasks import OUTPUT_CHARS_MAX, call_command, place

if TYPE_CHECKING:
    from tests.db.bench import Bench

JOBSUP = "jobsup.backend.JobsupBackend"
DUMMY = f"{BaseTaskBackend.__module__.removesuffix('.base')}.dummy.DummyBackend"


def ended(bench: Bench, *args: str, **options: Any) -> Any:
    """Run a command as a job and return its result."""
    result = call_command.enqueue(*args, **options)
    return bench.finished(result)


def test_g_the_output_of_a_command_is_the_result_of_its_job(bench: Bench) -> None:
    """Its arguments are those of the command line, its options those of call_command."""
    assert ended(bench, "speak", "--times", "2", word="hello").return_value == "hello\nhello\nand on stderr\n"


def test_g_a_long_output_is_cut_in_the_middle(bench: Bench) -> None:
    """The head and the tail are kept, and what is missing is said."""
    output = ended(bench, "speak", times=OUTPUT_CHARS_MAX).return_value
    assert output.startswith("word\nword\n")
    assert "characters left out" in output
    assert output.endswith("and on stderr\n")
    assert len(output) < OUTPUT_CHARS_MAX + 100


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("error", "django.core.management.base.CommandError: it cannot"),
        ("exit", "SystemExit: 3"),
        ("raise", "KeyError"),
    ],
)
def test_g_a_command_that_fails_fails_its_job(bench: Bench, how: str, error: str) -> None:
    """What it wrote until then stands below the traceback."""
    result = ended(bench, "speak", end=how)
    assert result.status == "FAILED"
    assert error in result.errors[0].traceback
    assert result.errors[0].traceback.strip().endswith("speak wrote:\nword\nand on stderr")


def test_g_a_command_that_exits_with_0_is_well(bench: Bench) -> None:
    """As a shell sees it."""
    assert ended(bench, "speak", end="exit 0").return_value == "word\nand on stderr\n"


def test_g_a_command_that_does_not_exist_is_told(bench: Bench) -> None:
    """In Django's words."""
    assert "Unknown command: 'speek'" in ended(bench, "speek").errors[0].traceback


@pytest.mark.parametrize(
    ("tasks", "there"),
    [
        ({"default": {"BACKEND": JOBSUP}}, ("default", "default")),
        ({"default": {"BACKEND": JOBSUP, "QUEUES": []}}, ("default", "default")),
        ({"default": {"BACKEND": JOBSUP, "QUEUES": ["slow", "mail"]}}, ("default", "mail")),
        ({"jobs": {"BACKEND": JOBSUP, "QUEUES": ["slow"]}}, ("jobs", "slow")),
        ({"jobs": {"BACKEND": DUMMY}}, ("jobs", "default")),
    ],
)
def test_g_it_is_a_task_of_whatever_backend_and_queue_there_is(tasks: dict[str, Any], there: tuple[str, str]) -> None:
    """A project without the queue "default" could otherwise start no worker."""
    with override_settings(TASKS=tasks):
        assert place() == there
