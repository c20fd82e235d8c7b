"""Plays the code blocks of a document in a project of their own, as a reader would, and compares what is shown.

A block says in an HTML comment right before its fence what is to be done with it:

    run, run: exit 4      commands after "$ "; what follows each must be in its output, in that order;
                          run: eventually is repeated until it is so
    start                 a command that stays; waits until what follows it has appeared
    log                   waits until these lines have appeared in the output of what was started
    file: PATH            the content of a file; append: PATH adds to one, append on Django 5.2: PATH there only
    shell                 a session of Python in the project; shell: eventually is repeated until it is as shown
    ... with MODULE       any of these, left out where that module is not installed
    install, make         checked against pyproject.toml and the Makefile, not run
    not run: REASON       commands that need what a test has not

Comments that need no fence: `signal: TERM, exit 0` to what was started, `end: exit 0` waits for its end, and
`begin with: PATH` writes the files and runs the commands of another document first. "..." stands for anything; times,
pids and sizes are not compared.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import django

from tests.support import eventually, kill, processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

STEP = re.compile(
    r"^<!-- (?P<marker>.+?) -->$(?:\n```(\w*)\n(.*?)^```$)?|^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
VARYING = {
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}": "TIME",
    r"\b(pid|process) \d+": r"\1 N",
    r"\bworker \d+": "worker N",
    r"\d+ MB": "N MB",
    r"\b(after|for) [\d.]+ s\b": r"\1 N s",
}
PYTHON = """
import doctest, os, sys, django
sys.path.insert(0, "")
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
django.setup()
sys.exit(doctest.testfile(sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS).failed)
"""


class Step(NamedTuple):
    """One thing to do: a marker, and the block that it stands before if there is one."""

    kind: str
    argument: str
    needed: str
    language: str
    text: str


def steps(document: Path) -> Iterator[Step]:
    """Yield the steps of a document; those of blocks without a marker have the kind ""."""
    for marker, language, text, bare_language, bare_text in STEP.findall(document.read_text()):
        head, _, argument = marker.partition(": ")
        kind, _, needed = head.partition(" with ")
        yield Step(kind, argument, needed, language or bare_language, text or bare_text)


def commands(step: Step) -> list[tuple[str, str]]:
    """Return the commands of a block, each with the output that is shown after it."""
    return [(command, shown) for command, shown in COMMAND.findall(step.text)]


def pattern(shown: str) -> re.Pattern[str]:
    """Return what finds the shown lines, in their order, in an output that was `levelled`."""
    lines = [re.escape(levelled(line)).replace(re.escape("..."), ".*?") for line in shown.splitlines() if line.strip()]
    return re.compile(r"\n(?:.*\n)*?".join(lines))


def levelled(text: str) -> str:
    """Return a text with what differs from run to run made equal."""
    for varying, same in VARYING.items():
        text = re.sub(varying, same, text)
    return text


def daemons_in(project: Path) -> list[int]:
    """Return the daemons whose pid files are left in a project: they remove them at their end."""
    return [int(file.read_text()) for file in project.glob("*.pid") if _is_locked(file)]


def _is_locked(file: Path) -> bool:
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Player:
    """A reader with an empty folder; use it in a `with` block.

    Args:
        folder: where the project grows; holds `project`, the working directory, and what the test needs beside it.
        environment: of every command.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.project, self._aside = folder / "project", folder
        self.project.mkdir()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {**environment, "PATH": path, "RUNTIME_DIRECTORY": str(folder / "run")}
        self._env.pop("DJANGO_SETTINGS_MODULE", None)
        self._output = folder / "output"
        self._seen = 0
        self._started: subprocess.Popen[bytes] | None = None

    def play(self, document: Path, *, prepare_only: bool = False) -> None:
        """Do every step; with `prepare_only` just those that make files and the database."""
        for step in steps(document):
            if step.needed and find_spec(step.needed) is None:
                continue
            if step.kind == "begin with":
                self.play(document.parent / step.argument, prepare_only=True)
            elif step.kind in ("file", "append", "append on Django 5.2"):
                self._write(step)
            elif step.kind == "run":
                self._run(step)
            elif not prepare_only and step.kind in ("start", "log", "shell", "signal", "end"):
                getattr(self, f"_{step.kind}")(step)

    def _write(self, step: Step) -> None:
        if step.kind.endswith("5.2") and django.VERSION >= (6,):
            return
        path = self.project / step.argument
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if step.kind == "file" else "a") as file:
            file.write(step.text if step.kind == "file" else f"\n{step.text}")
        # A second change within one second and of one length would be overlooked: Python compares times of files.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)

    def _run(self, step: Step) -> None:
        for command, shown in commands(step):
            self._run_one(command, shown, step.argument)

    def _run_one(self, command: str, shown: str, argument: str) -> None:
        expected = int(argument.removeprefix("exit ").removeprefix("eventually") or 0)
        told = ""

        def right() -> bool:
            nonlocal told
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.project, env=self._env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
            )  # fmt: skip
            told = f"{command}: expected\n{shown}but it exited with {done.returncode} and wrote\n{done.stdout}"
            return done.returncode == expected and pattern(shown).search(levelled(done.stdout)) is not None

        if argument == "eventually":
            eventually(right, 60, "what the document shows", lambda: told)
        else:
            assert right(), told

    def _start(self, step: Step) -> None:
        ((command, shown),) = commands(step)
        assert self._started is None, f"{command}: something runs already"
        with self._output.open("ab") as log:
            self._started = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.project, env=self._env, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        self._wait_for(shown)

    def _log(self, step: Step) -> None:
        self._wait_for(step.text)

    def _wait_for(self, shown: str) -> None:
        def found() -> bool:
            match = pattern(shown).search(levelled(self._output.read_text()), self._seen)
            self._seen = match.end() if match else self._seen
            return match is not None

        eventually(found, 30, f"what the document shows:\n{shown}", self._output.read_text)

    def _shell(self, step: Step) -> None:
        block = self._aside / "block.txt"
        block.write_text(step.text)
        output = ""

        def right() -> bool:
            nonlocal output
            done = subprocess.run(
                [sys.executable, "-c", PYTHON, str(block)], cwd=self.project, env=self._env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
            )  # fmt: skip
            output = done.stdout
            return done.returncode == 0

        if step.argument == "eventually":
            eventually(right, 30, "the session as shown", lambda: output)
        else:
            assert right(), output

    def _signal(self, step: Step) -> None:
        name, _, code = step.argument.partition(", exit ")
        assert self._started is not None, f"nothing runs that could get {name}"
        send = os.killpg if name == "INT" else os.kill  # a terminal sends it to everybody
        send(self._started.pid, signal.Signals[f"SIG{name}"])
        if code:
            self._wait_for_end(int(code))

    def _end(self, step: Step) -> None:
        self._wait_for_end(int(step.argument.removeprefix("exit ")))

    def _wait_for_end(self, code: int) -> None:
        assert self._started is not None, "nothing runs that could end"
        assert self._started.wait(60) == code, self._output.read_text()
        self._started = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._started is not None:
            family = processes_of(self._started.pid)
            self._started.kill()
            self._started.wait()
            kill(family)
        for daemon in daemons_in(self.project):
            kill([daemon, *processes_of(daemon)])
