"""`manage.py jobsupervisor --daemon`, for hosts without a service manager: the real command and what it becomes."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from jobsup.models import Status
from tests import databases
from tests.support import WORKER_TITLE, Supervisor, environment, eventually, fds_of, is_alive, processes_of, title_of
from tests.system.jobs import ON_SQLITE, assert_once, runs, status
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from tests.databases import Database

WRONG_USAGE, BAD_CONFIG = 2, 4
SECONDS = 60
"""A bound on what takes a moment, for a busy machine."""
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = pwd.getpwnam("nobody")


class Daemon:
    """A supervisor that was started as a daemon; use it in a `with` block, which ends it."""

    def __init__(self, folder: Path, env: Mapping[str, str], *args: str, expect: int = 0) -> None:
        self.log, self.pidfile = folder / "daemon.log", folder / "daemon.pid"
        self.started = start(folder, env, "--pidfile", str(self.pidfile), "--logfile", str(self.log), *args)
        self.pid = int(self.pidfile.read_text()) if self.pidfile.exists() else 0
        if self.started.returncode != expect:
            self.kill()
            raise AssertionError(f"exit code {self.started.returncode}: {self.started.stdout}\n{self.picture()}")

    def wait_log(self, text: str) -> None:
        """Wait until a text stands in the log."""
        eventually(lambda: self.log.exists() and text in self.log.read_text(), SECONDS, repr(text), self.picture)

    def workers(self) -> list[int]:
        """Return the pids of the workers that have come up."""
        return [pid for pid in processes_of(self.pid) if title_of(pid).startswith(WORKER_TITLE)]

    def wait_end(self) -> None:
        """Wait until it is gone, its pid file with it."""
        eventually(lambda: not is_alive(self.pid), SECONDS, "the daemon's end", self.picture)
        assert not self.pidfile.exists()

    def stop(self) -> None:
        """Ask it to stop."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait_end()

    def kill(self) -> None:
        """Kill what is left of it, and collect it: it was orphaned to the process of the tests. All of its end."""
        family = processes_of(self.pid) if self.pid else []
        if self.pid:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        eventually(lambda: not any(map(is_alive, family)), SECONDS, "the end of its family", self.picture)

    def picture(self) -> str:
        """Return its processes and its log."""
        family = [f"{pid} {title_of(pid)}" for pid in [self.pid, *processes_of(self.pid)]]
        return "\n".join([*family, self.log.read_text() if self.log.exists() else "no log"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stdout.write(self.picture())  # pytest shows it with the failure
        self.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a project, from which its daemon is started."""
    place = tmp_path / "project"
    place.mkdir(mode=0o755)
    return place


def start(folder: Path, env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command with --daemon in a folder, until it has ended in the foreground."""
    return subprocess.run(
        [sys.executable, "-m", "django", "jobsupervisor", "--daemon", "--workers", "1", *args],
        cwd=folder,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def kernel_view(pid: int) -> dict[str, str]:
    """Return /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def streams(pid: int) -> list[str]:
    """Return what stdin, stdout and stderr of a process are."""
    opened = fds_of(pid)
    return [opened[number].target for number in (0, 1, 2)]


# -- what it becomes --------------------------------------------------------------------------------------------------


def test_y1_a_daemon_runs_jobs_where_it_was_started_and_drains_at_term(database: Database, folder: Path) -> None:
    """Umask 027, the folder kept, the streams in the log, in every worker, too; the pid file is gone at the end."""
    gate = folder / "gate"
    held = tasks.hold.enqueue(str(gate))
    with Daemon(folder, database.env) as daemon:
        assert daemon.started.stdout == ""
        eventually(lambda: runs(held), SECONDS, "the job's begin", daemon.picture)
        (worker,) = daemon.workers()
        for pid in (daemon.pid, worker):
            assert kernel_view(pid)["Umask"] == "0027"
            assert Path(f"/proc/{pid}/cwd").readlink() == folder
            assert streams(pid) == [os.devnull, str(daemon.log), str(daemon.log)]
            assert os.getsid(pid) not in (os.getsid(0), pid)
        assert daemon.log.stat().st_mode & 0o777 == 0o640
        later = tasks.effect.enqueue()
        os.kill(daemon.pid, signal.SIGTERM)
        daemon.wait_log("SIGTERM received")
        assert is_alive(daemon.pid)
        assert daemon.pidfile.exists()
        gate.touch()
        daemon.wait_end()
        assert_once(held)
        assert status(later) is Status.READY
        assert "Traceback" not in daemon.log.read_text()


@ON_SQLITE
def test_l3_a_relative_name_of_an_sqlite_file_means_the_same_in_a_daemon(database: Database, folder: Path) -> None:
    """From another folder than that of the code: no second, empty database."""
    file = Path(database.env["JOBSUP_TEST_SQLITE"])
    job = tasks.effect.enqueue()
    env = {**database.env, "JOBSUP_TEST_SQLITE": f"../{file.name}"}
    with Daemon(folder, env, "--exit-when-empty") as daemon:
        daemon.wait_end()
        assert_once(job)
    assert [path.parent for path in file.parent.rglob("*.sqlite3")] == [file.parent]


@ON_SQLITE
def test_m13_a_log_of_the_settings_stays_a_log(database: Database, folder: Path) -> None:
    """Its descriptor is not given to a socket or to multiprocessing: nothing but lines of the log gets into it."""
    own = folder / "own.log"
    handler = {"class": "logging.FileHandler", "filename": str(own), "formatter": "tagged"}
    logging = {
        "version": 1,
        "formatters": {"tagged": {"format": "own: %(message)s"}},
        "handlers": {"file": handler},
        "loggers": {"jobsup": {"handlers": ["file"], "level": "INFO"}},
    }
    jobs = [tasks.effect.enqueue() for _ in range(3)]
    with Daemon(folder, database.with_settings(LOGGING=logging), "--exit-when-empty") as daemon:
        daemon.wait_end()
    for job in jobs:
        assert_once(job)
    lines = own.read_text().splitlines()
    assert any("own: ready" in line for line in lines), lines
    assert all(line.startswith("own: ") for line in lines), lines


# -- what it refuses --------------------------------------------------------------------------------------------------


@ON_SQLITE
@pytest.mark.parametrize(
    ("ready", "sentence"),
    [
        (
            "import multiprocessing; self.lock = multiprocessing.get_context('spawn').Lock()",
            "a resource tracker of multiprocessing runs already",
        ),
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='metrics', daemon=True).start()",
            "of 2 threads only one survives it, so metrics would be lost",
        ),
        (
            "import threading; threading.Thread(target=threading.Event().wait, name='feeder').start()",
            "of 2 threads only one survives it, so feeder would be lost",
        ),
    ],
    ids=["m13-multiprocessing", "d10-thread", "d10-thread-that-is-waited-for"],
)
def test_what_an_app_started_too_early_is_told(database: Database, folder: Path, ready: str, sentence: str) -> None:
    """Instead of a thread that is gone, or of bytes in a stranger's file."""
    (folder / "early.py").write_text(
        f"from django.apps import AppConfig\n\n\nclass Early(AppConfig):\n    name = 'early'\n\n"
        f"    def ready(self):\n        {ready}\n"
    )
    from django.conf import settings

    env = database.with_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "early.Early"])
    path = os.pathsep.join([str(folder), environment({})["PYTHONPATH"]])
    with Daemon(folder, {**env, "PYTHONPATH": path}, expect=BAD_CONFIG) as daemon:
        assert daemon.started.stdout.startswith(f"CommandError: cannot become a daemon: {sentence}")
        assert len(daemon.started.stdout.splitlines()) == 1
        assert not daemon.pidfile.exists()


@ON_SQLITE
def test_y2_under_a_service_manager_it_stays_the_main_process(database: Database, folder: Path) -> None:
    """READY comes from the process that was started, and no MAINPID names another."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(0)
        env = {**database.env, "NOTIFY_SOCKET": str(folder / "notify")}
        with Supervisor(env, "--daemon", "--workers", "1") as supervisor:
            supervisor.wait_log("$NOTIFY_SOCKET is set): it stays in the foreground", SECONDS)
            supervisor.wait_ready(SECONDS)
            (worker,) = supervisor.workers()
            assert is_alive(worker)
            supervisor.stop(timeout_s=SECONDS)
        said = []
        with suppress(BlockingIOError):
            while True:
                said.append(manager.recv(4096).decode())
    assert any("READY=1" in each for each in said), said
    assert not any("MAINPID" in each for each in said)


@ON_SQLITE
def test_y3_a_second_daemon_is_told_in_the_foreground_who_holds_the_name_and_the_pid_file(
    database: Database, folder: Path
) -> None:
    """Exit 4 each time; the first goes on, and when it is killed both are free."""
    with Daemon(folder, database.env) as first:
        first.wait_log("ready: 1 worker")
        same_name = start(folder, database.env, "--pidfile", str(folder / "other.pid"))
        same_file = start(folder, database.env, "--name", "other", "--pidfile", str(first.pidfile))
        for done, held in ((same_name, "runs under this name"), (same_file, f"holds the pid file {first.pidfile}")):
            assert done.returncode == BAD_CONFIG
            assert done.stdout.startswith(f"CommandError: process {first.pid} {held} already"), done.stdout
            assert len(done.stdout.splitlines()) == 1
        assert not (folder / "other.pid").exists()
        assert int(first.pidfile.read_text()) == first.pid
        first.kill()
        first.log.unlink()
    with Daemon(folder, database.env) as second:
        second.wait_log("ready: 1 worker")
        second.stop()


@ON_SQLITE
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--user", "no-such"], "there is no user 'no-such' on this machine: create it, or name another"),
        (["--group", "no-such"], "there is no group 'no-such' on this machine: create it, or name another"),
        (
            ["--logfile", "none/log"],
            "the log file {0}/none/log cannot be opened (No such file or directory): make the folder {0}/none",
        ),
        (
            ["--pidfile", "none/pid"],
            "the pid file {0}/none/pid cannot be opened (No such file or directory): make the folder {0}/none",
        ),
        (["--pidfile", "x", "--logfile", "./x"], "--pidfile and --logfile are both x: name two files"),
    ],
    ids=["user", "group", "log file", "pid file", "one file for both"],
)
def test_what_cannot_work_is_told_in_the_foreground(
    database: Database, folder: Path, args: list[str], sentence: str
) -> None:
    """One sentence, exit code 4, and nothing is left behind."""
    done = start(folder, database.env, "--pidfile", str(folder / "pid"), *args)
    assert (done.returncode, done.stdout) == (BAD_CONFIG, f"CommandError: {sentence.format(folder)}\n")
    assert not list(folder.iterdir())


@ON_SQLITE
def test_a_umask_is_octal(database: Database, folder: Path) -> None:
    """Anything else is refused by the parser, in these words."""
    done = start(folder, database.env, "--umask", "999")
    assert done.returncode == WRONG_USAGE
    assert done.stdout.endswith("error: argument --umask: invalid octal value: '999'\n")


# -- the log, the user ------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_usr1_opens_the_log_anew_in_the_supervisor_and_in_every_worker(database: Database, folder: Path) -> None:
    """After a rotation: what either writes stands in the new file, and nobody holds the old one."""
    with Daemon(folder, database.env, "--workers", "2") as daemon:
        daemon.wait_log("ready: 2 workers")
        old = daemon.log.rename(folder / "daemon.log.1")
        os.kill(daemon.pid, signal.SIGUSR1)
        daemon.wait_log("the log file was opened anew")
        family = [daemon.pid, *daemon.workers()]
        expected = [os.devnull, str(daemon.log), str(daemon.log)]
        eventually(lambda: all(streams(pid) == expected for pid in family), SECONDS, "the new log", daemon.picture)
        assert len(family) == 3
        assert daemon.log.stat().st_mode & 0o777 == 0o640
        failing = tasks.fail.enqueue("on purpose")
        daemon.wait_log(f"job {failing.id} tests.testapp.tasks.fail")  # a worker's line
        assert "on purpose" not in old.read_text()
        daemon.stop()


@ROOT_ONLY
def test_s6_the_supervisor_and_its_workers_are_the_user_that_was_asked_for(sqlite_template: Path) -> None:
    """And workers still die with it: nobody, or only its group where nobody may not run this Python."""
    trial = ["sh", "-c", 'exec "$0" -c "import django" 2> /dev/null', sys.executable]
    done = subprocess.run(trial, user="nobody", group=NOBODY.pw_gid, cwd="/", check=False)
    uid = 0 if done.returncode else NOBODY.pw_uid
    account = ["--user", "nobody"] if uid else ["--group", str(NOBODY.pw_gid)]
    with ExitStack() as stack:
        # Not pytest's own folder, which is closed to others.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsup-daemon-")))
        database = stack.enter_context(databases.fresh_sqlite(sqlite_template, folder))
        held = tasks.hold.enqueue(str(folder / "never"))
        for path in (folder, *folder.iterdir()):
            os.chown(path, uid, NOBODY.pw_gid)
        with Daemon(folder, database.env, *account) as daemon:
            eventually(lambda: runs(held), SECONDS, "the job's begin", daemon.picture)
            family = [daemon.pid, *daemon.workers()]
            assert len(family) == 2
            for pid in family:
                assert kernel_view(pid)["Uid"].split() == [str(uid)] * 4
                assert kernel_view(pid)["Gid"].split() == [str(NOBODY.pw_gid)] * 4
            assert daemon.log.stat().st_gid == NOBODY.pw_gid
            daemon.kill()
            assert not any(map(is_alive, family))
