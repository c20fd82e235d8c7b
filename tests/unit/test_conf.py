"""The settings: every mistake is told with its path, the value and what is expected."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from jobsup import checks, conf, queues
from jobsup.backend import JobsupBackend

JOBSUP = "jobsup.backend.JobsupBackend"
OURS = {"BACKEND": JOBSUP}
EXPECTED_KEYS = (
    "BOOT_TIMEOUT, CANCEL_ASK, CANCEL_GRACE, CRASH_ATTEMPTS, GRACE, KEEP, LEASE, LISTEN_ALIAS, MAX_AGE, MAX_JOBS, "
    "MAX_RSS, MEMORY_LIMIT, NAME, NODE, NOTIFY, POOLS, RESTARTS, RESTARTS_WINDOW, RUN_DIR, SCHEDULES, TASK_MODULES, "
    "TIMEOUT, TIMEOUT_GRACE, WORKERS"
)


class OtherBackend:
    """Of somebody else."""


class Subclass(JobsupBackend):
    """Of somebody who wanted something more."""


def refusal(**settings: Any) -> str:
    """Return how settings are refused."""
    with override_settings(**settings), pytest.raises(ImproperlyConfigured) as refused:
        conf.load()
    return str(refused.value)


def test_nothing_has_to_be_set() -> None:
    """Without JOBSUP the defaults hold."""
    with override_settings(JOBSUP={}):
        assert conf.load() == conf.Conf()
    with override_settings():
        from django.conf import settings

        del settings.JOBSUP
        assert conf.load() == conf.Conf()


def test_everything_can_be_set() -> None:
    """Durations are seconds or timedeltas."""
    given = {
        "WORKERS": 3,
        "NAME": "night",
        "NODE": "host.example",
        "GRACE": timedelta(minutes=2),
        "LEASE": 10,
        "BOOT_TIMEOUT": 1.5,
        "RUN_DIR": "/run/jobsup",
        "NOTIFY": False,
        "CRASH_ATTEMPTS": 1,
        "TIMEOUT": timedelta(hours=1),
        "TIMEOUT_GRACE": 0,
        "MEMORY_LIMIT": "512M",
        "MAX_JOBS": 1000,
        "MAX_RSS": 2**30,
        "MAX_AGE": timedelta(days=1),
        "CANCEL_ASK": 0,
        "CANCEL_GRACE": 2.5,
        "RESTARTS": 3,
        "RESTARTS_WINDOW": 10,
        "TASK_MODULES": ["shop.jobs", "reports"],
    }
    with override_settings(JOBSUP=given):
        assert conf.load() == conf.Conf(
            workers=3, name="night", node="host.example", grace_s=120.0, lease_s=10, boot_timeout_s=1.5,
            run_dir="/run/jobsup", notify=False, crash_attempts=1, timeout_s=3600.0, timeout_grace_s=0,
            memory_limit=512 * 2**20, max_jobs=1000, max_rss=2**30, max_age_s=86400.0, cancel_ask_s=0,
            cancel_grace_s=2.5, restarts=3, restarts_window_s=10,
            task_modules=("shop.jobs", "reports"),
        )  # fmt: skip


def test_what_is_no_limit_may_be_said() -> None:
    """None stands for what holds without the setting: no limit, and this machine's own name and folder."""
    given: dict[str, Any] = dict.fromkeys(
        ["NODE", "RUN_DIR", "TIMEOUT", "MEMORY_LIMIT", "MAX_JOBS", "MAX_RSS", "MAX_AGE"]
    )
    with override_settings(JOBSUP=given):
        assert conf.load() == conf.Conf()


@pytest.mark.parametrize(("written", "count"), [("1M", 2**20), ("1048576", 2**20), ("3G", 3 * 2**30), (" 2gb ", 2**31)])
def test_sizes_are_bytes_or_powers_of_1024(written: str, count: int) -> None:
    """With a unit, in either case."""
    assert conf.size(written) == count


def test_the_node_is_the_machine_unless_it_is_named() -> None:
    """None means the host's own name, which fits its column."""
    assert 0 < len(conf.Conf().node_name) <= 64
    assert conf.Conf(node="other").node_name == "other"


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_jobsup_is_a_dict(value: Any) -> None:
    """Anything else is told."""
    assert refusal(JOBSUP=value) == f"JOBSUP is {value!r}: expected a dict"


@pytest.mark.parametrize("key", ["WORKER", "workers", "grace_s", "POOL", 1])
def test_an_unknown_key_is_told_with_those_that_there_are(key: Any) -> None:
    """With its path."""
    assert refusal(JOBSUP={key: 1}) == f"JOBSUP[{key!r}] is no setting of jobsup; there are {EXPECTED_KEYS}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("WORKERS", "2", "expected a whole number"),
        ("WORKERS", 2.0, "expected a whole number"),
        ("WORKERS", True, "expected a whole number"),
        ("WORKERS", None, "expected a whole number"),
        ("WORKERS", timedelta(seconds=2), "expected a whole number"),
        ("WORKERS", 0, "must lie between 1 and 1024"),
        ("WORKERS", 1025, "must lie between 1 and 1024"),
        ("CRASH_ATTEMPTS", 0, "must lie between 1 and 1000"),
        ("CRASH_ATTEMPTS", 1.5, "expected a whole number"),
        ("GRACE", "30", "expected seconds or a timedelta"),
        ("GRACE", None, "expected seconds or a timedelta"),
        ("GRACE", False, "expected seconds or a timedelta"),
        ("GRACE", -1, "must lie between 0 and 604800"),
        ("GRACE", math.nan, "must lie between 0 and 604800"),
        ("LEASE", math.inf, "must lie between 3 and 86400"),
        ("LEASE", 2.9, "must lie between 3 and 86400"),
        ("BOOT_TIMEOUT", 0, "must lie between 1 and 86400"),
        ("NOTIFY", 1, "expected True or False"),
        ("NOTIFY", None, "expected True or False"),
        ("NAME", None, "expected a string"),
        ("NAME", b"x", "expected a string"),
        ("NAME", "", "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("NAME", "a/b", "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("NAME", "../x", "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("NAME", "x" * 41, "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("NAME", "line\n", "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("NODE", 5, "expected a string"),
        ("NODE", "two words", "expected at most 40 letters, digits, dots, dashes and underscores"),
        ("RUN_DIR", 5, "expected a string"),
        ("RUN_DIR", "run/jobsup", "expected an absolute path"),
        ("RUN_DIR", "/run/job\0sup", "expected an absolute path"),
        ("TIMEOUT", 0, "must lie between 0.001 and 604800"),
        ("TIMEOUT", "1", "expected seconds or a timedelta"),
        ("TIMEOUT_GRACE", None, "expected seconds or a timedelta"),
        ("TIMEOUT_GRACE", -1, "must lie between 0 and 604800"),
        ("MEMORY_LIMIT", "lots", 'expected bytes or a size such as "512M"'),
        ("MEMORY_LIMIT", 0, "must lie between 1M and 1024T"),
        ("MAX_JOBS", 0, "must lie between 1 and 1000000000000"),
        ("MAX_JOBS", 1.5, "expected a whole number"),
        ("MAX_RSS", "512", "must lie between 1M and 1024T"),
        ("MAX_AGE", 0, "must lie between 1 and 31622400"),
        ("CANCEL_ASK", -1, "must lie between 0 and 86400"),
        ("CANCEL_GRACE", None, "expected seconds or a timedelta"),
        ("RESTARTS", 0, "must lie between 1 and 1000000"),
        ("RESTARTS_WINDOW", 0, "must lie between 1 and 86400"),
    ],
)
def test_a_wrong_value_is_told_with_its_path(key: str, value: Any, expected: str) -> None:
    """The path, the value and what would be right."""
    said = refusal(JOBSUP={key: value})
    assert said.startswith(f"JOBSUP[{key!r}] is ")
    assert said.endswith(f": {expected}")


def test_a_duration_out_of_range_is_told_as_it_was_given() -> None:
    """And the range in seconds."""
    told = "JOBSUP['GRACE'] is datetime.timedelta(days=8): must lie between 0 and 604800"
    assert refusal(JOBSUP={"GRACE": timedelta(days=8)}) == told


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([], "TASKS is []: expected a dict"),
        ({}, "TASKS names no backend of jobsup: expected {'default': {'BACKEND': '" + JOBSUP + "'}} or an entry"),
        ({"default": {}}, "TASKS['default']['BACKEND'] is missing: expected a dotted path"),
        ({"default": "x"}, "TASKS['default']['BACKEND'] is missing: expected a dotted path"),
        ({"default": {"BACKEND": object}}, "TASKS['default']['BACKEND'] is missing: expected a dotted path"),
        ({"default": {"BACKEND": "no.such.Backend"}}, "TASKS['default']['BACKEND'] is 'no.such.Backend': "),
        (
            {"default": OURS | {"QUEUE": ["a"]}},
            "TASKS['default']['QUEUE'] is unknown; there are BACKEND, OPTIONS, QUEUES",
        ),
        ({"x": OURS | {"QUEUES": "default"}}, "TASKS['x']['QUEUES'] is 'default': expected a list of names"),
        ({"x": OURS | {"QUEUES": None}}, "TASKS['x']['QUEUES'] is None: expected a list of names"),
        ({"x": OURS | {"QUEUES": [""]}}, "TASKS['x']['QUEUES'] contains '': expected names of 1 to 64 characters"),
        ({"x": OURS | {"QUEUES": [1]}}, "TASKS['x']['QUEUES'] contains 1: expected names of 1 to 64 characters"),
        ({"x": OURS | {"QUEUES": ["q" * 65]}}, f"TASKS['x']['QUEUES'] contains {'q' * 65!r}: expected names"),
        ({"x": OURS | {"OPTIONS": 1}}, "TASKS['x']['OPTIONS'] is 1: expected a dict"),
        ({"x": OURS | {"OPTIONS": {"a": 1}}}, "TASKS['x']['OPTIONS']['a'] is unknown; there is database"),
    ],
)
def test_wrong_tasks_are_told_with_their_path(tasks: Any, expected: str) -> None:
    """The alias and the key; the message of the import where there is one."""
    from django.conf import settings

    before = settings.TASKS
    settings.TASKS = tasks  # without the signal: django.tasks itself takes no wrong settings
    try:
        with pytest.raises(ImproperlyConfigured) as refused:
            queues.backends()
    finally:
        settings.TASKS = before
    assert str(refused.value).startswith(expected)


def test_other_backends_may_stand_beside_ours() -> None:
    """Only jobsup's own entries are checked and served; a subclass is one of ours."""
    other = {"BACKEND": f"{__name__}.OtherBackend", "ANY": "thing"}
    with override_settings(TASKS={"default": OURS, "other": other, "sub": {"BACKEND": f"{__name__}.Subclass"}}):
        assert set(queues.backends()) == {"default", "sub"}


def test_the_queues_to_serve_are_those_of_all_backends() -> None:
    """Sorted, once each; `default` where QUEUES is not given; whatever there is where it is empty."""
    one, two = OURS | {"QUEUES": ["b", "a"]}, OURS | {"QUEUES": ["c", "a"]}
    with override_settings(TASKS={"default": one, "two": two}):
        assert queues.served([]) == ("a", "b", "c")
        assert queues.served(["c", "a", "c"]) == ("c", "a")
        with pytest.raises(
            ImproperlyConfigured, match=r"^--queue d: no backend in TASKS has that queue; there are a, b, c$"
        ):
            queues.served(["a", "d"])
    with override_settings(TASKS={"default": OURS}):
        assert queues.served([]) == ("default",)
    with override_settings(TASKS={"default": OURS | {"QUEUES": []}, "two": two}):
        assert queues.served([]) is None
        assert queues.served(["whatever"]) == ("whatever",)


def test_the_system_checks_say_what_is_wrong() -> None:
    """JOBSUP as an error, TASKS as a warning; nothing where all is well."""
    assert checks.check_settings() == []
    with override_settings(JOBSUP={"WORKERS": 0}, TASKS={}):
        found = checks.check_settings()
    assert [(message.id, message.level >= 40) for message in found] == [("jobsup.E001", True), ("jobsup.W001", False)]
    assert found[0].msg == "JOBSUP['WORKERS'] is 0: must lie between 1 and 1024"


def test_the_check_misses_the_app_of_the_backport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where django_tasks is needed, its app has to be installed for the signals to be logged."""
    monkeypatch.setattr(checks, "TASKS_APPS", ("django_something",))
    [message] = checks.check_settings()
    assert message.id == "jobsup.W002"
    assert message.hint == "Add 'django_something' beside 'jobsup'."


def test_a_worker_is_named_by_where_it_runs() -> None:
    """Node, number and pid, as TaskResult.worker_ids shows it."""
    assert conf.worker_id("host", 2, 812) == "host:worker 2:812"
