"""`jobsupervisor --debug` on a real terminal: a job that fails, or comes to a breakpoint, is looked into there."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from jobsup.models import Status
from tests.support import ROOT, environment, eventually, kill, processes_of
from tests.system.jobs import ON_SQLITE, row, status, words
from tests.testapp import puzzles, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Database

PROMPT = "(Pdb) "
WAIT_S = 60
ON_ITS_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A terminal with a supervisor on it, as a person sees it and types on it."""

    def __init__(self, database: Database, *args: str, **settings: Any) -> None:
        self._keys, end = pty.openpty()
        command = [sys.executable, "-m", "django", "jobsupervisor", *args]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_ITS_TERMINAL, *command],
            cwd=ROOT,
            env=environment(database.with_settings(**settings)),
            stdin=end,
            stdout=end,
            stderr=end,
            start_new_session=True,
        )
        os.close(end)
        self.seen, self._read = "", 0

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._keys, keys.encode())

    def wait(self, text: str) -> str:
        """Wait for a text; return what was shown before it since the last wait."""

        def shown() -> bool:
            self._look()
            return text in self.seen[self._read :]

        eventually(shown, WAIT_S, f"{text!r} on the terminal", lambda: self.seen)
        begin, self._read = self._read, self.seen.index(text, self._read) + len(text)
        return self.seen[begin : self._read - len(text)]

    def ask(self, line: str) -> str:
        """Type a line at the prompt; return what is answered until the next one."""
        self.type(f"{line}\n")
        return self.wait(PROMPT)

    def end(self) -> int:
        """Wait for the supervisor's end; return its exit code."""

        def over() -> bool:
            self._look()
            return self.process.poll() is not None

        eventually(over, WAIT_S, "the end", lambda: self.seen)
        return int(self.process.returncode)

    def close(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            kill([self.process.pid, *processes_of(self.process.pid)])
            self.process.wait()
        os.close(self._keys)

    def _look(self) -> None:
        while select.select([self._keys], [], [], 0)[0]:
            try:
                self.seen += os.read(self._keys, 4096).decode(errors="replace")
            except OSError:  # nobody has the other end open any more
                return


@contextmanager
def terminal(database: Database, *args: str, **settings: Any) -> Iterator[Terminal]:
    """Provide a terminal with a supervisor on it."""
    one = Terminal(database, *args, **settings)
    try:
        yield one
    finally:
        one.close()


@ON_SQLITE
def test_a_failing_job_opens_the_debugger_where_it_raised(database: Database) -> None:
    """A Ctrl-C at the prompt is the prompt's; the job then fails as ever, the next one runs, and Ctrl-C stops all."""
    failed, after = puzzles.fail_with.enqueue("boo"), tasks.add.enqueue(1, 2)
    with terminal(database, "--debug") as one:
        told = one.wait(PROMPT)
        assert f"job {failed.id} tests.testapp.puzzles.fail_with, attempt 1, failed:" in told
        assert "LookupError: BOO" in told
        assert "attempt.py" not in told, "the job's own frames only"
        assert "'BOO'" in one.ask("p loud"), "the frame that raised"
        one.type("\x03")
        one.wait(PROMPT)
        one.ask("up")
        assert "'boo'" in one.ask("p value")
        assert status(failed) is Status.RUNNING
        one.type("q\n")
        eventually(lambda: (status(failed), status(after)) == (Status.FAILED, Status.SUCCESSFUL), WAIT_S, "their ends")
        one.type("\x03")
        assert one.end() == 0
        assert "stopped" in one.seen
    assert "LookupError: BOO" in words(failed)[0]
    assert row(failed).left_behind is None


@ON_SQLITE
def test_breakpoints_coroutines_and_no_limits(database: Database) -> None:
    """All in one worker: `c` goes on, `q` fails the job, a coroutine's frames are there, no time-out ends anything."""
    on, off = puzzles.stop_at.enqueue(20), puzzles.stop_at.enqueue(30)
    coroutine = puzzles.afail_with.enqueue("bah")
    slow, slower = (
        puzzles.outstay.using(queue_name="other").enqueue(0.5),
        puzzles.outstay.using(timeout=0.1).enqueue(0.3),
    )
    two = {name: {"WORKERS": 1, "QUEUES": [name]} for name in ("default", "other")}
    with terminal(database, "--debug", JOBSUP={"TIMEOUT": 0.1, "TIMEOUT_GRACE": 0.1, "POOLS": two}) as one:
        one.wait(PROMPT)
        assert "20" in one.ask("p value")
        one.ask("value = 21")
        one.type("c\n")
        one.wait(PROMPT)
        assert "30" in one.ask("p value")
        one.type("q\n")
        assert "ValueError: bah" in one.wait(PROMPT)
        assert "'bah'" in one.ask("p value")
        one.type("\x04")  # the end of the input is a q, too
        eventually(lambda: status(slower) is Status.SUCCESSFUL, WAIT_S, "the end of the last")
        one.type("\x03")
        assert one.end() == 0
    for result in (on, off, coroutine, slow, slower):
        result.refresh()
    assert (on.return_value, row(on).left_behind) == (21, None)
    assert off.errors[0].exception_class_path == "bdb.BdbQuit"
    assert coroutine.errors[0].exception_class is ValueError
    assert slow.return_value == slower.return_value, "one worker, which no limit has ended"


@ON_SQLITE
def test_a_worker_that_is_killed_at_the_prompt_gives_the_terminal_back(database: Database) -> None:
    """Its successor sees to that: Ctrl-C still stops the supervisor."""
    puzzles.fail_with.using(max_attempts=1).enqueue("boo")
    with terminal(database, "--debug") as one:
        one.wait(PROMPT)
        [worker] = [pid for pid in processes_of(one.process.pid) if os.getpgid(pid) == pid]
        kill([worker])
        one.wait("was killed by SIGKILL")
        eventually(lambda: os.tcgetpgrp(one._keys) == one.process.pid, WAIT_S, "the terminal back", lambda: one.seen)
        one.type("\x03")
        assert one.end() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--debug"], "--debug needs a terminal to ask on, and the standard input is none"),
        (["--debug", "--daemon"], "--debug does not go together with --daemon: leave one of them out"),
        (["--debug", "--workers", "3"], "--debug does not go together with --workers: leave one of them out"),
        (["--reload", "--daemon"], "--reload does not go together with --daemon: leave one of them out"),
        (["--reload", "--debug"], "--reload does not go together with --debug: leave one of them out"),
        (["--reload"], "--reload is for development and DEBUG is False: leave it out, and have new code taken by"),
        (["status", "--reload"], "status takes no --reload: leave it out"),
    ],
)
def test_refuses_what_cannot_be(options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a sentence of its own."""
    monkeypatch.setattr(os, "isatty", lambda _fd: False)  # pytest may run on a terminal
    with override_settings(DEBUG=False), pytest.raises(CommandError) as refused:
        call_command("jobsupervisor", *options)
    assert str(refused.value).startswith(sentence)
