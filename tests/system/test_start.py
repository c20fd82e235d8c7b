"""Starts: what cannot work is refused in one sentence with exit code 4, what can be waited for is waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from jobsup.compat import BaseTaskBackend
from tests.support import ROOT, Supervisor, environment, run_django
from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE, assert_once
from tests.testapp import tasks

if TYPE_CHECKING:
    from tests.databases import Database

BACKEND = "jobsup.backend.JobsupBackend"
OTHER_BACKEND = BaseTaskBackend.__module__.replace("base", "immediate") + ".ImmediateBackend"
BAD_CONFIG = 4

REFUSED: list[tuple[str, list[str], dict[str, Any], str]] = [
    ("unknown-key", [], {"JOBSUP": {"WROKERS": 1}}, "JOBSUP['WROKERS'] is no setting of jobsup; there are BOOT"),
    ("wrong-type", [], {"JOBSUP": {"GRACE": "long"}}, "JOBSUP['GRACE'] is 'long': expected seconds or a timedelta"),
    ("true-is-no-number", [], {"JOBSUP": {"WORKERS": True}}, "JOBSUP['WORKERS'] is True: expected a whole number"),
    ("out-of-range", [], {"JOBSUP": {"LEASE": 1}}, "JOBSUP['LEASE'] is 1: must lie between 3 and 86400"),
    ("no-dict", [], {"JOBSUP": 5}, "JOBSUP is 5: expected a dict"),
    ("name", [], {"JOBSUP": {"NAME": "a b"}}, "JOBSUP['NAME'] is 'a b': expected at most 40 letters"),
    ("run-dir", [], {"JOBSUP": {"RUN_DIR": "/proc/none"}}, "the run file /proc/none/default-"),
    ("no-jobsup", [], {"TASKS": {"default": {"BACKEND": OTHER_BACKEND}}}, "TASKS names no backend of jobsup: expected"),
    ("no-backend", [], {"TASKS": {"default": {"BACKEND": "no.such"}}}, "TASKS['default']['BACKEND'] is 'no.such': No"),
    (
        "option",
        [],
        {"TASKS": {"default": {"BACKEND": BACKEND, "OPTIONS": {"x": 1}}}},
        "TASKS['default']['OPTIONS']['x",
    ),
    ("queues", [], {"TASKS": {"default": {"BACKEND": BACKEND, "QUEUES": "q"}}}, "TASKS['default']['QUEUES'] is 'q': e"),
    ("unknown-queue", ["--queue", "nope"], {}, "--queue nope: no backend in TASKS has that queue; there are default"),
    ("no-workers", ["--workers", "0"], {}, "--workers is 0: must lie between 1 and 1024"),
    ("negative-grace", ["--grace", "-1"], {}, "--grace is -1.0: must lie between 0 and 604800"),
    ("no-number", ["--grace", "nan"], {}, "--grace is nan: must lie between 0 and 604800"),
    ("option-name", ["--name", "a b"], {}, "--name is 'a b': expected at most 40 letters"),
    (
        "in-memory",
        [],
        {"DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}},
        "database 'default' lives in the memory of one process: give it a file name",
    ),
    (
        "no-database",
        [],
        {"DATABASES": {"default": {"ENGINE": "django.db.backends.dummy"}}},
        "database 'default' is unknown: jobsup works with PostgreSQL, MariaDB, MySQL and SQLite; ",
    ),
]


@ON_SQLITE
@pytest.mark.parametrize(("args", "settings", "sentence"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_cannot_work_is_refused_in_one_sentence(
    database: Database, args: list[str], settings: dict[str, Any], sentence: str
) -> None:
    """Exit code 4, one line that begins with what is wrong, no traceback."""
    done = run_django(database.with_settings(**settings), "jobsupervisor", *args)
    assert done.returncode == BAD_CONFIG, done.stdout
    assert done.stdout.startswith(f"CommandError: {sentence}")
    assert len(done.stdout.splitlines()) == 1, done.stdout


@ON_SQLITE
def test_an_argument_of_the_wrong_type_is_refused_by_the_parser(database: Database) -> None:
    """As by every command of Django: usage, and exit code 2."""
    done = run_django(database.env, "jobsupervisor", "--workers", "two")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].endswith("error: argument --workers: invalid int value: 'two'")


def test_f13_d11_an_unmigrated_database_is_waited_for_in_words_and_work_begins_once_it_is_migrated(
    database: Database,
) -> None:
    """One clear sentence, no crash loop; nothing has to be restarted after `migrate`."""
    assert run_django(database.env, "migrate", "jobsup", "zero", "--verbosity", "0").returncode == 0
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("waiting: database 'default' has no tables of jobsup; run: manage.py migrate jobsup (try 1")
        assert run_django(database.env, "migrate", "--verbosity", "0").returncode == 0
        supervisor.wait_ready()
        supervisor.stop()
        assert "Traceback" not in supervisor.log()
        assert supervisor.log().count("waiting") == 1


@ON_POSTGRESQL
def test_f13_d11_tables_of_another_version_are_waited_for_in_words(database: Database) -> None:
    """A column is missing: the sentence names it, and work begins when it is there."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jobsup_supervisor RENAME COLUMN lease_s TO lease")
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("waiting: the tables of jobsup in 'default' are not those of this version, run manage.py")
        assert re.search(r"column \S*lease_s", supervisor.log())
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE jobsup_supervisor RENAME COLUMN lease TO lease_s")
        supervisor.wait_ready()
        supervisor.stop()


@ON_SQLITE
def test_term_ends_the_wait_for_a_database_at_once(database: Database, tmp_path: Path) -> None:
    """Exit 0: it was asked to."""
    file = tmp_path / "nowhere" / "x"
    with Supervisor({**database.env, "JOBSUP_TEST_SQLITE": str(file)}, "--workers", "1") as waiting:
        waiting.wait_log(f"the database 'default': unable to open database file ({file}) (try 1, next in 1 s)")
        waiting.stop(timeout_s=3)
        assert "stopped while waiting" in waiting.log()


def test_y3_f39_a_second_supervisor_of_one_name_is_refused_and_told_whose_the_name_is(database: Database) -> None:
    """Exit 4 with the first one's pid; another name is welcome; after kill -9 the name is free at once."""
    with database.supervisor("--workers", "1") as first:
        first.wait_ready()
        second = run_django(database.env, "jobsupervisor", "--workers", "1")
        assert second.returncode == BAD_CONFIG
        assert second.stdout.startswith(f"CommandError: process {first.pid} runs under this name already (")
        assert second.stdout.endswith("stop that supervisor, or give this one another --name\n")
        other = run_django(database.env, "jobsupervisor", "--workers", "1", "--name", "other", "--exit-when-empty")
        assert other.returncode == 0, other.stdout
        first.kill()
    with database.supervisor("--workers", "1") as third:
        third.wait_ready()
        third.stop()


@ON_SQLITE
def test_settings_without_a_module_are_refused(database: Database, tmp_path: Path) -> None:
    """Workers could not find what only `settings.configure()` has said."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom tests import settings as chosen\nfrom django.conf import settings\n"
        "settings.configure(**{name: getattr(chosen, name) for name in dir(chosen) if name.isupper()})\n"
        "from django.core.management import execute_from_command_line\nexecute_from_command_line()\n"
    )
    env = environment(database.env)
    del env["DJANGO_SETTINGS_MODULE"]
    command = [sys.executable, str(script), "jobsupervisor"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == BAD_CONFIG
    assert done.stderr.startswith("CommandError: DJANGO_SETTINGS_MODULE is not set: workers are fresh processes")


@ON_SQLITE
@pytest.mark.parametrize("way", ["unguarded manage.py", "django-admin", "another directory"])
def test_m11_m12_workers_start_once_however_the_command_is_called(database: Database, tmp_path: Path, way: str) -> None:
    """A manage.py without a `__main__` guard is not run again in each worker; the directory does not matter."""
    manage, count = tmp_path / "manage.py", tmp_path / "count"
    manage.write_text(
        f"open({str(count)!r}, 'a').write('.')\n"
        "from django.core.management import execute_from_command_line\nexecute_from_command_line()\n"
    )
    start = {
        "unguarded manage.py": [sys.executable, str(manage)],
        "django-admin": [str(Path(sys.executable).with_name("django-admin"))],
        "another directory": [sys.executable, "-m", "django"],
    }[way]
    job = tasks.effect.enqueue()
    command = [*start, "jobsupervisor", "--workers", "2", "--exit-when-empty"]
    done = subprocess.run(
        command, env=environment(database.env), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert_once(job)
    assert count.exists() is (way == "unguarded manage.py")
    if count.exists():
        assert count.read_text() == "."


@ON_SQLITE
@pytest.mark.parametrize(("verbosity", "told"), [("0", 0), ("1", 1), ("2", 1)])
def test_verbosity_says_how_much_is_told(database: Database, verbosity: str, told: int) -> None:
    """0: warnings only. 1: events. 2: whatever there is."""
    failing = tasks.fail.enqueue("on purpose")
    with database.supervisor("--workers", "1", "--exit-when-empty", "--verbosity", verbosity) as supervisor:
        assert supervisor.wait() == 0
        log = supervisor.log()
    assert log.count("ready: 1 worker on duty") == told
    assert log.count(f"WARNING job {failing.id} tests.testapp.tasks.fail") == 1
    assert log.count("DEBUG") >= (verbosity == "2")


@ON_SQLITE
@pytest.mark.parametrize("streams", ["closed", "reader gone", "disk full"])
def test_f15_f32_work_goes_on_without_anybody_to_log_to(database: Database, tmp_path: Path, streams: str) -> None:
    """stdin, stdout and stderr closed at the start, a pipe that nobody reads, no room; a death is told to nobody."""
    jobs = [tasks.die_at.enqueue(1, int(signal.SIGKILL)), *(tasks.effect.enqueue() for _ in range(5))]
    command = [sys.executable, "-m", "django", "jobsupervisor", "--workers", "1", "--exit-when-empty"]
    if streams == "closed":
        command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
    if streams == "disk full":
        command = ["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh", *command]
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command, env=environment(database.env), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
    )
    os.close(writer)
    os.close(reader)
    try:
        assert process.wait(30) == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    for job in jobs:
        job.refresh()
        assert job.status.name == "SUCCESSFUL"
