"""`manage.py jobs` beside a real supervisor, on a real terminal, with real signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command

from jobsup import migrations
from jobsup.models import Status
from tests.support import ROOT, environment, eventually, heeding_ctrl_c, run_django
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    row,
    runs,
    sessions,
    status,
    terminate,
    wait_begun,
    wait_final,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database

WAIT_S = 60
TASKS = "tests.testapp.tasks"


class Seen:
    """A command on a terminal of its own, and what it has written there."""

    def __init__(self, database: Database, *args: str) -> None:
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        termios.tcsetwinsize(slave, (40, 120))
        self._slave, self.text = slave, ""
        os.set_blocking(self.master, False)
        with heeding_ctrl_c():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "django", "jobs", *args],
                cwd=ROOT, env=environment({**database.env, "TERM": "xterm"}), stdin=slave, stdout=slave, stderr=slave,
                process_group=0,
            )  # fmt: skip

    def read(self) -> str:
        """Return everything that it has written so far."""
        try:
            while data := os.read(self.master, 1 << 16):
                self.text += data.decode(errors="replace")
        except BlockingIOError:
            pass
        return self.text

    def wait_for(self, text: str) -> None:
        """Wait until something stands there."""
        eventually(lambda: text in self.read(), WAIT_S, repr(text), self.read)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """Wait for its end and return the exit code; the terminal is as it was."""
        eventually(lambda: self.read() is not None and self.process.poll() is not None, WAIT_S, "the end", self.read)
        assert termios.tcgetattr(self._slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        """Be done with it."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@contextmanager
def seen(database: Database, *args: str) -> Iterator[Seen]:
    """Provide a command on a terminal."""
    command = Seen(database, *args)
    try:
        yield command
    finally:
        command.close()


def jobs(database: Database, *args: Any, expect: int = 0) -> str:
    """Run the command and return what it says."""
    done = run_django(database.env, "jobs", *map(str, args))
    assert done.returncode == expect, done.stdout
    return done.stdout


def told(database: Database, *args: Any, expect: int = 0) -> Any:
    """Run the command with --json and return what it says."""
    return json.loads(jobs(database, *args, "--json", expect=expect))


# -- beside a supervisor ----------------------------------------------------------------------------------------------


def test_jobs_are_run_watched_and_tried_anew_from_the_shell(database: Database, tmp_path: Path) -> None:
    """A supervisor that has nothing to do is woken by each of them."""
    with database.supervisor("--workers", "2", "--queue", "default", "--queue", "other") as supervisor:
        supervisor.wait_ready(WAIT_S)
        assert "    result:    3\n" in jobs(database, "run", f"{TASKS}.add", "1", "b=2", "--wait")
        failed = told(database, "run", f"{TASKS}.fail", "message=no", "--wait", expect=1)
        assert (failed["status"], failed["attempts"][0]["error"]) == ("failed", "builtins.ValueError")
        jobs(database, "retry", failed["id"])
        assert told(database, "wait", failed["id"], expect=1) == {str(failed["id"]): "failed"}
        story = jobs(database, "show", failed["id"])
        assert "attempt 1 (before it was tried anew): failed" in story
        assert "\nattempt 2: failed" in story

        held = tasks.hold.enqueue(str(tmp_path / "go"))
        pid = wait_begun(supervisor, held)
        picture = told(database, "top", "--once")
        [shown] = picture["supervisors"]
        assert (shown["pid"], shown["workers"], shown["silent"]) == (supervisor.pid, 2, False)
        [busy] = [worker for worker in picture["workers"] if worker["job"] is not None]
        assert (busy["job"], busy["task"], busy["pid"]) == (int(held.id), f"{TASKS}.hold", pid)
        jobs(database, "wait", "--timeout", "0.1", expect=124)
        tasks.noop.using(queue_name="slow").enqueue()
        findings = {each["code"]: each["words"] for each in told(database, "doctor", expect=1)["findings"]}
        findings.pop("not-durable", None)  # the PostgreSQL server of the tests is as fast as it can be
        [(code, words)] = findings.items()
        assert (code, "no supervisor that is alive has it" in words) == ("unserved-queue", True)
        assert jobs(database, "cancel", "--queue", "slow", "--yes") == "1 job cancelled\n"
        (tmp_path / "go").touch()
        assert jobs(database, "wait") == "all have ended\n"
        supervisor.stop()
    assert status(held) is Status.SUCCESSFUL


@ON_SQLITE
def test_django_s_own_log_keeps_off_the_terminal(database: Database) -> None:
    """It has a traceback of each job that is cancelled, where DEBUG is on, and on Django 5.2."""
    for debug in (True, False):
        result = tasks.noop.enqueue()
        said = run_django(database.with_settings(DEBUG=debug), "jobs", "cancel", result.id)
        assert (said.returncode, said.stdout) == (0, f"job {result.id}: cancelled\n")


@ON_SQLITE
def test_the_story_of_a_job_that_kills_its_workers(database: Database) -> None:
    """Every worker with its end, and all attempts anew after `retry`."""
    job = tasks.die_twice.enqueue()
    with database.supervisor("--workers", "1") as supervisor:
        wait_final(supervisor, [job], WAIT_S)
        assert jobs(database, "retry", "--task", "*.die_twice", "--yes") == "1 job put back\n"
        wait_final(supervisor, [job], WAIT_S)
        supervisor.stop()
    assert len(runs(job)) == 4
    story = told(database, "show", job.id)
    assert [attempt["attempt"] for attempt in story["attempts"]] == [1, 2, 3, 4]
    assert all("was killed by SIGKILL" in attempt["traceback"] for attempt in story["attempts"])
    assert all(str(run.pid) in attempt["worker"] for run, attempt in zip(runs(job), story["attempts"], strict=True))


# -- on a terminal ----------------------------------------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "ctrl-c"])
def test_top_is_drawn_anew_until_somebody_quits(database: Database, key: str) -> None:
    """What changes is shown; the terminal is left as it was found."""
    tasks.noop.enqueue()
    with seen(database, "top") as top:
        top.wait_for("no supervisor is alive")
        tasks.noop.using(queue_name="slow").enqueue()
        top.wait_for("slow")
        if key == "\x03":
            top.process.send_signal(signal.SIGINT)
        else:
            top.type(key)
        assert top.end() == 0
    assert "Traceback" not in top.text
    assert "\x1b[?1049l" in top.text, "the screen is given back"


@ON_POSTGRESQL
def test_top_goes_on_after_the_database_was_away(database: Database) -> None:
    """It says so, and connects anew."""
    with seen(database, "top") as top:
        top.wait_for("no supervisor is alive")
        terminate(sessions())
        top.wait_for("the database is away: ")
        tasks.noop.using(queue_name="slow").enqueue()
        top.wait_for("slow")
        top.type("q")
        assert top.end() == 0


@ON_SQLITE
def test_somebody_is_asked_before_many_are_cancelled(database: Database) -> None:
    """On the terminal; "n" is no."""
    waiting = [tasks.noop.enqueue() for _ in range(3)]
    for answer, code, after in (("n", 1, Status.READY), ("y", 0, Status.CANCELLED)):
        with seen(database, "cancel", "--queue", "default") as command:
            command.wait_for(f"cancel 3 jobs (3 x {TASKS}.noop (ready))? [y/N]")
            command.type(f"{answer}\n")
            assert command.end() == code
        assert {status(job) for job in waiting} == {after}


@ON_SQLITE
def test_waiting_shows_a_bar_and_ctrl_c_ends_only_the_waiting(database: Database) -> None:
    """Exit code 130."""
    job = tasks.noop.enqueue()
    with seen(database, "wait", job.id) as command:
        command.wait_for("0/1")
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 130
    assert "no longer waiting; the jobs go on" in command.text
    assert "Traceback" not in command.text
    assert row(job).cancel_asked_at is None


# -- elsewhere --------------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_a_reader_that_goes_away_is_no_trouble(database: Database) -> None:
    """As in `jobs list | head`."""
    tasks.noop.enqueue()
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", closefd=True) as pipe:  # noqa: PTH123  # a descriptor
        done = subprocess.run(
            [sys.executable, "-m", "django", "jobs", "list"],
            cwd=ROOT, env=environment(database.env), stdout=pipe, stderr=subprocess.PIPE, text=True, check=False,
            timeout=WAIT_S,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


@ON_SQLITE
def test_trouble_with_the_database_is_one_sentence(database: Database, tmp_path: Path) -> None:
    """Exit code 1; the doctor says what to do."""
    sentence = "CommandError: the database refuses: {}; can it be reached, and was `migrate` run?\n"
    empty = {**database.env, "JOBSUP_TEST_SQLITE": str(tmp_path / "empty")}
    away = {**database.env, "JOBSUP_TEST_SQLITE": str(tmp_path / "nowhere" / "x")}
    for env, words, why in (
        (empty, ["list"], "no such table: jobsup_job"),
        (away, ["doctor"], "unable to open database file"),
    ):
        done = run_django(env, "jobs", *words)
        assert (done.returncode, done.stdout) == (1, sentence.format(why))
    done = run_django(empty, "jobs", "doctor")
    assert done.returncode == 1
    count = len([*(Path(migrations.__file__).parent).glob("0*.py")])
    assert f"ERROR unmigrated: the tables in database 'default' lack {count} migrations: 0001_initial, " in done.stdout


@ON_SQLITE
def test_what_programs_read_goes_through_call_command_too(database: Database, capsys: Any) -> None:
    """Colours are for terminals, or for who asks for them."""
    tasks.noop.enqueue()
    call_command("jobs", "list")
    assert "\x1b" not in capsys.readouterr().out
    call_command("jobs", "list", "--force-color")
    assert "\x1b[1m" in capsys.readouterr().out
