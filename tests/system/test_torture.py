"""`jobs torture` as its user meets it: it finds what is broken, hurts nothing else, cleans up, refuses wrong usage."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections

from jobsup.models import Job, Supervisor
from tests.support import ROOT, environment, eventually, run_django
from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE
from tests.testapp.tasks import add

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database

pytestmark = pytest.mark.timeout(500)
LITTLE = ("--jobs", "40", "--faults", "1", "--seconds", "1", "--only", "kill-worker")
FOREVER = ("--jobs", "100000", "--faults", "0", "--seconds", "3600")
LOSES_JOBS = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=30) as database:
    short = "SELECT max(id) FROM jobsup_job WHERE status > 2 AND task LIKE '%.short'"
    database.execute(f"DELETE FROM jobsup_job WHERE id = ({short})")
"""


def with_scratch(database: Database, file: Path) -> dict[str, str]:
    """Return the environment of a project that has an empty file besides, as the alias `scratch`."""
    return database.with_settings(DATABASES={"scratch": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}})


@contextmanager
def declared(alias: str, database: dict[str, str]) -> Iterator[None]:
    """Have this process know of a database for a while."""
    connections.settings[alias] = connections.configure_settings({"default": database})["default"]
    try:
        yield
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]


def tables(file: Path) -> set[str]:
    """Return the tables of a file of SQLite."""
    with closing(sqlite3.connect(file)) as opened:
        return {name for (name,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@ON_SQLITE
def test_a_job_that_is_lost_is_found(database: Database, tmp_path: Path) -> None:
    """Somebody deletes rows: exit code 1, and the promise that was broken. Only the database that was given is used."""
    file, program = tmp_path / "scratch.sqlite3", tmp_path / "loses.py"
    program.write_text(LOSES_JOBS)
    env = with_scratch(database, file)
    loss = f"a row deleted={sys.executable} {program} {file}"
    size = ("--jobs", "60", "--faults", "2", "--seconds", "2", "--seed", "1")
    arguments = ("--database", "scratch", "--own-fault", loss, "--only", "a row deleted", "--json", "-v0")
    done = run_django(env, "jobs", "torture", *size, *arguments, timeout_s=250)
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1, done.stdout
    assert [promise["words"] for promise in told["promises"] if promise["broken"]] == [
        "an acknowledged job is never lost"
    ]
    assert told["faults"] == {"a row deleted": 2}
    assert tables(file) <= {"sqlite_sequence"}, "it is as empty as it was"
    assert not Supervisor.objects.exists(), "no supervisor has been at the project's own database"


@ON_POSTGRESQL
def test_the_database_is_made_and_dropped_and_the_own_one_left_alone(database: Database) -> None:
    """The tables for people, the command that repeats it, exit code 0."""
    own = add.enqueue(1, 2)
    done = run_django(database.env, "jobs", "torture", *LITTLE, "--seed", "5", timeout_s=250)
    assert done.returncode == 0, done.stdout
    for words in ("kill -9 of a worker", "an acknowledged job is never lost", "seed 5: every promise held"):
        assert words in done.stdout
    assert (
        "manage.py jobs torture --seed 5 --jobs 40 --faults 1 --seconds 1 --workers 2 --only kill-worker" in done.stdout
    )
    assert [str(job.pk) for job in Job.objects.all()] == [own.id]
    assert not Supervisor.objects.exists()
    assert scratch_databases() == set()


@ON_POSTGRESQL
def test_ctrl_c_cleans_up_and_says_what_it_saw(database: Database) -> None:
    """Exit code 130; supervisors and database are gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "jobs", "torture", "--json", *FOREVER],
        cwd=ROOT,
        env=environment(database.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        eventually(lambda: acknowledged(database) > 20, 200, "some jobs in the database of the torture")
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    told = json.loads(output)
    assert told["interrupted"]
    assert told["enqueued"] > 20
    assert told["held"], told["promises"]
    assert scratch_databases() == set()


@ON_SQLITE
def test_what_cannot_be_is_refused_in_a_sentence(database: Database, tmp_path: Path) -> None:
    """And nothing is touched."""
    file = tmp_path / "scratch.sqlite3"
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("CREATE TABLE customers (id integer)")
    refused = {
        ("--jobs", "no"): "'no': expected a whole number from 1 to 10000000",
        ("--only", "rain"): "--only rain: there is no such fault, there are kill-worker, freeze-worker,",
        ("--only", "restart-database"): "--only restart-database needs --database-restart COMMAND",
        ("--own-fault", "x"): "--own-fault x: expected NAME=COMMAND",
        ("--database", "nowhere"): "--database nowhere: there is no such entry in DATABASES",
        ("--database", "default"): "--database default is the database of your own jobs",
        ("--database", "scratch"): "--database scratch is not empty, the table customers stands in it",
    }
    with declared("scratch", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}):
        for arguments, words in refused.items():
            with pytest.raises(CommandError) as error:
                call_command("jobs", "torture", *arguments)
            assert words in str(error.value)
    assert tables(file) == {"customers"}


@ON_SQLITE
def test_a_command_that_fails_ends_it_in_a_sentence(database: Database) -> None:
    """Whoever is stopped at that moment is not left behind."""
    faults = ("--database-restart", "exit 3", "--only", "restart-database", "--only", "freeze-supervisor")
    done = run_django(
        database.env, "jobs", "torture", "--jobs", "50", "--faults", "9", "--seconds", "1", *faults, "-v0"
    )
    assert done.returncode == 1, done.stdout
    assert done.stdout.strip().splitlines()[-1] == "CommandError: 'exit 3' failed: exit code 3"


@ON_POSTGRESQL
def test_a_role_that_may_not_make_databases_is_told_what_to_do(database: Database) -> None:
    """With the way out."""
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS modest")
        cursor.execute("CREATE ROLE modest LOGIN")
    env = {**database.env, "JOBSUP_TEST_POSTGRES": database.env["JOBSUP_TEST_POSTGRES"].replace("postgres@", "modest@")}
    done = run_django(env, "jobs", "torture", *LITTLE)
    assert done.returncode == 1
    assert "permission denied to create database; let its role make databases, or make an empty one" in done.stdout
    assert "Traceback" not in done.stdout


def scratch_databases() -> set[str]:
    """Return the databases of the server that a torture has made."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'jobsup_torture%%'")
        return {name for (name,) in cursor.fetchall()}


def acknowledged(database: Database) -> int:
    """Return how many jobs there are in the database of a torture."""
    import psycopg2

    for name in scratch_databases():
        settings: Any = connection.settings_dict
        try:
            with (
                closing(
                    psycopg2.connect(host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=name)
                ) as other,
                other.cursor() as cursor,
            ):
                cursor.execute("SELECT count(*) FROM jobsup_job WHERE status > 2")
                return int((cursor.fetchone() or (0,))[0])
        except psycopg2.Error:
            return 0
    return 0
