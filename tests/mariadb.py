"""A throwaway MariaDB server on a Unix socket: there for one test run, gone after it.

Owns one temporary directory and one server process, which is tied to this process: it ends when we end, however we end.
`python -m tests.mariadb COMMAND...` runs a command with DATABASE_URL set to a fresh database. It must never touch a
server that it did not start.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import pymysql

from tests.postgres import running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

StopMode = Literal["fast", "immediate"]

SUPERUSER = "root"
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
"""Where servers are that PATH does not show."""
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

# Becomes the server: drops root, then asks the kernel for SIGKILL at our death (a change of user would clear that
# request, hence this order), then makes sure that we had not died before.
TIED_TO_PARENT = f"""
import ctypes, os, sys
parent, uid, gid, *command = sys.argv[1:]
if uid != "-":
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
ctypes.CDLL(None).prctl(1, {int(signal.SIGKILL)})
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


class ServerError(Exception):
    """No MariaDB server could be found, or the one found would not start."""


def is_installed() -> bool:
    """Tell whether there is a server to start."""
    return _program("mariadbd") is not None and _program("mariadb-install-db") is not None


class Server:
    """One MariaDB server in a temporary directory, reached through a Unix socket by the superuser `root`.

    Args:
        durable: whether each commit is synced to the disk; without it nothing survives a power cut, but everything
            committed survives a killed server.
        settings: more of the server's, by their names.
        parent: where the directory is made.
    """

    def __init__(
        self, *, durable: bool = False, settings: Mapping[str, str] | None = None, parent: Path = Path("/tmp")
    ) -> None:
        self._settings = {
            "max_connections": "300",
            "innodb_flush_log_at_trx_commit": "1" if durable else "2",
            "innodb_flush_method": "O_DIRECT" if durable else "nosync",
            "innodb_buffer_pool_size": "256M",
            "innodb_log_file_size": "64M",
            "character_set_server": "utf8mb4",
            **(settings or {}),
        }
        self._account = _server_account()
        self._parent = parent
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """The directory that holds the data, the socket and the log."""
        if self._directory is None:
            raise ServerError("the server is not started")
        return self._directory

    @property
    def socket(self) -> Path:
        """Where the server listens; nothing listens on the network."""
        return self.directory / "socket"

    @property
    def pid(self) -> int | None:
        """The server's process, None when it is down."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Make the data if they are not there yet, start the server and wait until it answers."""
        if self.pid is not None:
            return self
        if self._directory is None:
            atexit.register(self.destroy)
            self._create()
        self._start_server()
        running.add(self)
        return self

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, `immediate` meaning as in a crash, and keep the data; harmless when it is down."""
        running.discard(self)
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner_pid:
            return
        for number in (signal.SIGTERM, signal.SIGKILL) if mode == "fast" else (signal.SIGKILL,):
            process.send_signal(number)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
            return

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again on the same data."""
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        """Stop the server and delete everything."""
        if os.getpid() != self._owner_pid:
            return
        self.stop("immediate")
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        atexit.unregister(self.destroy)

    def url(self, name: str) -> str:
        """Return the address of a database as Django projects write it: mysql://user@/name?unix_socket=..."""
        return f"mysql://{SUPERUSER}@/{name}?unix_socket={quote(str(self.socket), safe='')}"

    def create_database(self, name: str, *, template: str | None = None, place: Path | None = None) -> str:
        """Create a database, empty or as a copy of another one, and return its URL.

        Args:
            name: of the database.
            template: the other one.
            place: an empty folder of the server's account that its files go to; among the others by default.
        """
        self.execute(f"CREATE DATABASE `{name}`")
        if place is not None:
            folder = self.directory / "data" / name
            shutil.copytree(folder, place, dirs_exist_ok=True)
            for file in place.iterdir():
                os.chown(file, folder.stat().st_uid, folder.stat().st_gid)
            shutil.rmtree(folder)
            folder.symlink_to(place)
        if template is not None:
            self._copy(template, name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it: what they do is ended first."""
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [name])
            for (session,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {session}")
                except pymysql.err.OperationalError:
                    continue  # it has just ended by itself
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def execute(self, statement: str, params: Sequence[Any] | None = None, database: str | None = None) -> list[Any]:
        """Execute one statement on a connection of its own and return its rows."""
        with closing(self._connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement, params)
            return list(cursor.fetchall())

    def log(self) -> str:
        """Return what the server wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    def _connect(self, database: str | None = None) -> Any:
        return pymysql.connect(unix_socket=str(self.socket), user=SUPERUSER, database=database, autocommit=True)

    def _copy(self, template: str, name: str) -> None:
        """Make the tables of another database anew, in a database that is empty, with their rows."""
        with closing(self._connect(name)) as connection, connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_rows > 0",
                [template],
            )
            filled = {table for (table,) in cursor.fetchall()}
            cursor.execute(f"SHOW TABLES FROM `{template}`")
            for (table,) in cursor.fetchall():
                cursor.execute(f"SHOW CREATE TABLE `{template}`.`{table}`")
                cursor.execute(cursor.fetchone()[1])
                if table in filled:
                    cursor.execute(f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`")

    def _create(self) -> None:
        """Make the directory and the data in it."""
        self._directory = directory = Path(tempfile.mkdtemp(prefix="jobsup-my-", dir=self._parent))
        account = self._account
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        done = subprocess.run(
            [_found("mariadb-install-db"), "--no-defaults", f"--datadir={directory / 'data'}", *options],
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
            raise ServerError(f"mariadb-install-db failed: {done.stdout}{done.stderr}")

    def _start_server(self) -> None:
        """Start the server in a session of its own, out of reach of Ctrl-C, and wait until it answers."""
        account = self._account
        identity = [str(account.pw_uid), str(account.pw_gid)] if account else ["-", "-"]
        command = [
            _found("mariadbd"),
            "--no-defaults",
            "--skip-networking",
            "--skip-name-resolve",
            f"--datadir={self.directory / 'data'}",
            f"--socket={self.socket}",
            f"--pid-file={self.directory / 'pid'}",
            *(f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()),
        ]
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
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop("immediate")
                raise ServerError(f"the server did not start:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        """Tell whether the server takes connections; the driver would leave its socket open where it does not."""
        with closing(socket.socket(socket.AF_UNIX)) as line:
            if line.connect_ex(str(self.socket)):
                return False
        self._connect().close()
        return True


def _program(name: str) -> str | None:
    """Return where a program of the server is."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(PLACES))


def _found(name: str) -> str:
    program = _program(name)
    if program is None:
        raise ServerError(f"there is no {name}: install a server (Debian: mariadb-server)")
    return program


def _server_account() -> pwd.struct_passwd | None:
    """Return whom the server must run as: ourselves (None), except for root."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    for name in ("mysql", "nobody", "daemon"):
        if name in accounts:
            return accounts[name]
    raise ServerError("MariaDB does not run as root, and there is no account such as 'nobody' to run it as")


def _environment() -> dict[str, str]:
    """Return our environment without what would lead the server astray."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MYSQL", "MARIADB", "LC_", "LANG"))
    }
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def main(command: Sequence[str]) -> int:
    """Run a command with DATABASE_URL set to a fresh database; without a command, show the URL until Ctrl-C."""
    with Server() as server:
        url = server.create_database("jobsup")
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
