"""A daemon without a service manager: real ones, looked at from outside; what cannot become one is told in words."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.process.daemon_program import REFUSED
from tests.support import environment, eventually, fds_of, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")
SECONDS = 60
"""A bound on what takes a moment, for a busy machine."""


class Starter:
    """Runs the program in a folder of its own, and knows the daemon that it became."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log, self.pidfile = folder / "daemon.log", folder / "daemon.pid"
        self._pids: list[int] = []

    def __call__(self, /, *, env: dict[str, str] | None = None, **config: Any) -> subprocess.CompletedProcess[str]:
        """Run it until the command in the foreground has ended."""
        return self.run([sys.executable, "-m", "tests.process.daemon_program"], env or {}, config)

    def run(
        self, command: list[str], env: dict[str, str], config: dict[str, Any], **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run it as `command` does."""
        config = {"logfile": str(self.log), "pidfile": str(self.pidfile)} | config
        config = {name: value for name, value in config.items() if value is not None}
        done = subprocess.run(
            [*command, json.dumps(config)],
            cwd=self.folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
            **options,
        )
        with suppress(OSError, ValueError):
            self.note(self.pid())
        return done

    def note(self, pid: int) -> None:
        """Remember a daemon, to end it with the test."""
        self._pids.append(pid)

    def pid(self) -> int:
        """Return the pid in the pid file, which is there when the command in the foreground has ended."""
        return int(self.pidfile.read_text())

    def facts(self, folder: str = ".") -> dict[str, Any]:
        """Return what the daemon saw, once it has written it."""
        file = self.folder / folder / "facts.json"
        eventually(file.exists, SECONDS, "the daemon's facts", self.log_text)
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def log_text(self) -> str:
        """Return what the daemon wrote, if anything."""
        return self.log.read_text() if self.log.exists() else ""

    def end(self, signum: int = signal.SIGTERM) -> None:
        """End the daemon, and collect it: it was orphaned to the process of the tests."""
        pid = self.pid()
        os.kill(pid, signum)
        eventually(lambda: not is_alive(pid), SECONDS, "the daemon's end", self.log_text)

    def close(self) -> None:
        """Kill what is left, and collect it."""
        for pid in set(self._pids) - {os.getpid()}:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


@pytest.fixture
def start() -> Iterator[Starter]:
    """Start daemons in a folder that other users may enter, unlike pytest's own, and end them with the test."""
    with tempfile.TemporaryDirectory(prefix="jobsup-daemon-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        starter = Starter(folder)
        yield starter
        starter.close()


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def place(pid: int) -> dict[str, int]:
    """Return where a process stands among the others, as proc(5) numbers it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {"parent": int(fields[1]), "group": int(fields[2]), "session": int(fields[3]), "terminal": int(fields[4])}


# -- what it becomes --------------------------------------------------------------------------------------------------


def test_y1_the_daemon_is_what_was_asked_for_and_nothing_else(start: Starter) -> None:
    """Its umask, folder, session, streams, descriptors, limits and signals, as the kernel sees them."""
    reader, writer = os.pipe()  # what a careless starter leaves open
    core = (4096, resource.getrlimit(resource.RLIMIT_CORE)[1])
    command = ["sh", "-c", 'ulimit -S -c 8; exec "$@"', "sh", sys.executable, "-m", "tests.process.daemon_program"]
    done = start.run(command, {"PYTHONUNBUFFERED": ""}, {"twists": ["speak"]}, pass_fds=[writer])
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, "said before\n")
    pid, facts = start.pid(), start.facts()
    assert facts["pid"] == pid
    assert os.read(reader, 1) == b""  # nobody has the other end any more
    os.close(reader)
    assert status(pid)["Umask"] == "0027"
    assert Path(f"/proc/{pid}/cwd").readlink() == start.folder
    assert Path(f"/proc/{pid}/root").readlink() == Path("/")
    assert place(pid)["parent"] == os.getpid()  # orphaned, and the tests adopt orphans
    assert place(pid)["session"] == place(pid)["group"] != os.getsid(0)
    assert place(pid)["session"] != pid  # it cannot get a terminal again by opening one
    assert not is_alive(place(pid)["session"])
    assert place(pid)["terminal"] == 0
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +(\d+)", limits)[1] == str(core[0])  # type: ignore[index]
    opened = {number: fd.target for number, fd in fds_of(pid).items()}
    assert [opened.pop(number) for number in (0, 1, 2)] == [os.devnull, str(start.log), str(start.log)]
    assert list(opened.values()) == [str(start.pidfile)]
    assert start.log.stat().st_mode & 0o777 == 0o640
    assert start.log_text() == "hello from the daemon\nits child\nits stderr\n"
    assert facts["on_term"] == "0"  # as before; python-daemon's own would raise SystemExit
    assert int(status(pid)["SigIgn"], 16) & 1 << signal.SIGTTIN - 1 == 0
    start.end()
    assert not start.pidfile.exists()


def test_y1_without_a_log_file_the_streams_go_nowhere(start: Starter) -> None:
    """All three on /dev/null."""
    assert start(logfile=None).returncode == 0
    assert {start.facts()["pid"]} == {start.pid()}
    assert [fds_of(start.pid())[number].target for number in (0, 1, 2)] == [os.devnull] * 3
    start.end()


def test_y1_the_log_is_appended_to_and_another_umask_is_obeyed(start: Starter) -> None:
    """What was there stays."""
    start.log.write_text("before\n")
    assert start(umask=0o077).returncode == 0
    assert status(start.facts()["pid"])["Umask"] == "0077"
    assert start.pidfile.stat().st_mode & 0o022 == 0
    assert start.log_text().startswith("before\nhello")
    start.end()


def test_closed_standard_streams_at_the_start_are_no_obstacle(start: Starter) -> None:
    """As under some cron jobs and init scripts."""
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "tests.process.daemon_program"]
    assert start.run(command, {}, {}).returncode == 0
    assert start.facts()["pid"] == start.pid()
    assert start.log_text().startswith("hello")
    start.end()


@pytest.mark.parametrize("kind", ["own", "kept"])
def test_m13_what_the_program_opened_itself_or_asked_to_keep_stays_what_it_is(start: Starter, kind: str) -> None:
    """Multiprocessing begins afterwards: not one byte of it gets into the program's files."""
    inherited = os.open(start.folder / "kept", os.O_CREAT | os.O_RDWR)
    options = {"twists": ["own_file"]} if kind == "own" else {"keep": [inherited]}
    command = [sys.executable, "-m", "tests.process.daemon_program"]
    done = start.run(command, {}, {"use_multiprocessing": True, **options}, pass_fds=[inherited])
    os.close(inherited)
    assert done.returncode == 0, done.stdout
    number = start.facts()["own"][0] if kind == "own" else inherited
    open_files = fds_of(start.pid())
    assert open_files[number].target == str(start.folder / kind)
    assert [fd.target for fd in open_files.values()].count(str(start.folder / "kept")) == (kind == "kept")
    assert (start.folder / kind).read_text() == ("a line of its own\n" if kind == "own" else "")
    assert start.pid() == start.facts()["pid"]
    start.end()


def test_the_command_in_the_foreground_fails_if_the_daemon_does_before_it_is_ready(start: Starter) -> None:
    """And the log says why."""
    assert start(fail=True).returncode == 1
    eventually(lambda: "RuntimeError: the start failed" in start.log_text(), SECONDS, "the reason in the log")


def test_the_command_in_the_foreground_waits_for_the_daemon_and_ctrl_c_there_does_not_harm_it(start: Starter) -> None:
    """What the command in the foreground holds belongs to the daemon already."""
    gate = start.folder / "gate"
    os.mkfifo(gate)
    config = {"logfile": str(start.log), "pidfile": str(start.pidfile), "gate": str(gate)}
    command = [sys.executable, "-m", "tests.process.daemon_program", json.dumps(config)]
    foreground = subprocess.Popen(command, cwd=start.folder, env=environment({}), stderr=subprocess.PIPE)
    with foreground, gate.open("w") as opened:  # opens when the daemon is at the gate
        assert foreground.poll() is None
        assert start.pid() == foreground.pid
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(SECONDS) == -signal.SIGINT
        assert start.pidfile.exists()
        opened.write("go on")
    start.note(start.facts()["pid"])
    assert start.pid() == start.facts()["pid"]
    start.end()


# -- what it refuses --------------------------------------------------------------------------------------------------


def test_m13_it_refuses_when_multiprocessing_has_begun(start: Starter) -> None:
    """The tracker's descriptor would be closed and its number be another file's."""
    done = start(twists=["tracker"])
    assert done.returncode == REFUSED
    assert done.stdout.startswith("cannot become a daemon: a resource tracker of multiprocessing runs already")
    assert len(done.stdout.splitlines()) == 1


def test_d10_it_refuses_while_other_threads_run_and_names_them(start: Starter) -> None:
    """They would be gone without a word."""
    done = start(twists=["thread"])
    assert done.returncode == REFUSED
    assert done.stdout.startswith("cannot become a daemon: of 2 threads only one survives it, so metrics would be lost")


def test_y2_under_a_service_manager_it_stays_where_it_is(start: Starter) -> None:
    """Whatever else is asked for: the manager watches this very process."""
    done = start(env={"NOTIFY_SOCKET": str(start.folder / "notify")}, twists=["thread"], umask=0)
    assert done.returncode == 0
    assert done.stdout.startswith("a service manager started this process ($NOTIFY_SOCKET is set): it stays in the for")
    assert "hello from the daemon" in done.stdout
    assert start.facts()["detached"] is False
    assert not start.log.exists()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda log: log.parent.rmdir(), "No such file or directory): make the folder {}"),
        (lambda log: log.mkdir(), "Is a directory): "),
        (os.mkfifo, "No such device or address): "),  # a pipe without a reader
    ],
    ids=["no folder", "a folder", "a pipe"],
)
def test_a_log_file_that_cannot_be_opened_is_told_in_the_foreground(
    start: Starter, make: Callable[[Path], object], why: str
) -> None:
    """Before anything else changes; nothing is left behind."""
    log = start.folder / "logs" / "log"
    log.parent.mkdir()
    make(log)
    done = start(logfile=str(log))
    assert done.returncode == REFUSED
    assert done.stdout.startswith(f"the log file {log} cannot be opened ({why.format(log.parent)}")
    assert len(done.stdout.splitlines()) == 1


def test_y3_a_second_start_is_refused_and_told_the_pid_of_the_first(start: Starter) -> None:
    """The pid of the daemon, not of the command that started it; after kill -9 the file stops nobody."""
    assert start().returncode == 0
    first = start.pid()
    done = start()
    assert (done.returncode, done.stdout) == (
        REFUSED,
        f"process {first} holds the pid file {start.pidfile} already\n",
    )
    assert start.pid() == start.facts()["pid"] == first
    start.end(signal.SIGKILL)
    assert start.pidfile.exists()
    assert start().returncode == 0
    assert start.pid() != first
    start.end()


# -- the log after a rotation -----------------------------------------------------------------------------------------


def test_the_log_is_opened_anew_when_asked(start: Starter) -> None:
    """What was moved away keeps its lines; where no new one can be made, the old one goes on with a warning."""
    log = start.folder / "logs" / "log"
    log.parent.mkdir()
    assert start(logfile=str(log)).returncode == 0
    start.facts()
    log.rename(log.with_suffix(".1"))
    os.kill(start.pid(), signal.SIGUSR1)
    eventually(lambda: log.exists() and log.read_text() == "opened anew\n", SECONDS, "the new log")
    assert log.stat().st_mode & 0o777 == 0o640
    assert "opened anew" not in log.with_suffix(".1").read_text()
    log.parent.rename(start.folder / "gone")
    os.kill(start.pid(), signal.SIGUSR1)
    old = start.folder / "gone" / "log"
    warning = f"the log file {log} cannot be opened (No such file or directory): make the folder {log.parent}; until"
    eventually(lambda: old.read_text().count("opened anew\n") == 2, SECONDS, "the old log going on", old.read_text)
    assert warning in old.read_text()
    assert len([fd for fd in fds_of(start.pid()).values() if fd.target == str(old)]) == 2
    start.end()


# -- another user -----------------------------------------------------------------------------------------------------


@ROOT_ONLY
@pytest.mark.parametrize("user", ["nobody", "4242"])
def test_s6_it_becomes_another_user_before_anything_is_started(start: Starter, user: str) -> None:
    """All four ids, the groups, HOME; the log is that user's and the pid file is root's, who sends signals by it."""
    uid = NOBODY.pw_uid if user == "nobody" else int(user)
    logs = start.folder / "logs"
    logs.mkdir()
    os.chown(logs, uid, NOBODY.pw_gid)
    group = {} if user == "nobody" else {"group": str(NOBODY.pw_gid)}
    done = start(user=user, cwd=str(logs), logfile=str(logs / "log"), env={"HOME": "/root"}, **group)
    assert done.returncode == 0, done.stdout
    pid = start.pid()
    assert status(pid)["Uid"].split() == [str(uid)] * 4
    assert status(pid)["Gid"].split() == [str(NOBODY.pw_gid)] * 4
    assert status(pid)["Groups"].split() == [str(NOBODY.pw_gid)] * (user == "nobody")
    assert start.facts("logs")["home"] == (NOBODY.pw_dir if user == "nobody" else "/root")
    assert (logs / "log").stat().st_uid == uid
    assert start.pidfile.stat().st_uid == 0
    start.end()
    assert start.pidfile.read_text() == ""  # it may not remove root's file from this folder


@ROOT_ONLY
def test_a_folder_that_the_other_user_cannot_enter_is_told_in_the_foreground(start: Starter) -> None:
    """Instead of a daemon that fails where nobody looks."""
    start.folder.chmod(0o700)
    done = start(user="nobody", logfile=None)
    assert done.returncode == REFUSED
    assert done.stdout.startswith(f"cannot become a daemon: user {NOBODY.pw_uid} cannot enter {start.folder} (Perm")


@ROOT_ONLY
def test_a_user_who_cannot_run_this_python_is_refused(start: Starter) -> None:
    """As with an interpreter in root's home: nothing that is not imported yet could be."""
    python = start.folder / "python"
    python.touch(0o700)
    done = start(user="nobody", logfile=None, python=str(python))
    assert done.returncode == REFUSED
    assert done.stdout.startswith(f"user {NOBODY.pw_uid} cannot run {python} ({python}), which every worker needs: use")


@ROOT_ONLY
def test_a_log_that_the_other_user_could_not_open_again_is_refused_at_once(start: Starter) -> None:
    """It would be lost at the first rotation."""
    done = start(user="nobody")
    assert done.returncode == REFUSED
    assert done.stdout.startswith(f"the log file {start.log} cannot be opened (Permission denied): let user")


@ROOT_ONLY
def test_only_root_becomes_another_user(start: Starter) -> None:
    """In words."""
    done = start(twists=["be_nobody"], user="root", pidfile=None, logfile=None)
    assert done.returncode == REFUSED
    assert done.stdout == (
        f"only root can become user 0 of group 0, and this is user {NOBODY.pw_uid}: start it as root, or as that user\n"
    )
