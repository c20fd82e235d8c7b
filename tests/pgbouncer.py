"""A throwaway PgBouncer on a Unix socket before a throwaway PostgreSQL: there for some tests, gone after them.

Owns one temporary directory and one process, which is tied to this one: it ends when we end, however we end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote

import psycopg2

from tests import postgres
from tests.postgres_programs import ServerError

if TYPE_CHECKING:
    from types import TracebackType

Mode = Literal["transaction", "session"]

PORT = 6432  # names the socket file; nothing listens on the network
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PLACES = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")

INI = """
[databases]
* = host={server} port={server_port} user={user}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
"""


class PgBouncer:
    """A PgBouncer before a server; use it in a `with` block.

    Args:
        cluster: the server.
        mode: for how long a client has a session of the server.
        size: how many sessions there are for each database.
    """

    def __init__(self, cluster: postgres.Cluster, mode: Mode = "transaction", *, size: int = 5) -> None:
        self._cluster, self._mode, self._size = cluster, mode, size
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> Path:
        """The directory that holds the socket."""
        assert self._directory is not None, "it was not started"
        return self._directory

    def url(self, name: str) -> str:
        """Return the address of a database of the server, through here."""
        return f"postgres://{postgres.SUPERUSER}@{quote(str(self.directory), safe='')}:{PORT}/{name}"

    def log(self) -> str:
        """Return what it wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))
        if program is None:
            raise ServerError("pgbouncer was not found: install it (Debian: pgbouncer)")
        self._directory = directory = Path(tempfile.mkdtemp(prefix="jobsup-pgb-", dir="/tmp"))
        account = postgres._server_account()  # it refuses root, as the server does
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            INI.format(
                server=self._cluster.directory, server_port=postgres.PORT, user=postgres.SUPERUSER, port=PORT,
                directory=directory, mode=self._mode, size=self._size,
            )
        )  # fmt: skip
        identity = [str(account.pw_uid), str(account.pw_gid)] if account else ["-", "-"]
        tied = [sys.executable, "-I", "-S", "-c", postgres.TIED_TO_PARENT, str(os.getpid()), *identity]
        with (directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, program, str(settings)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._destroy()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._destroy()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with closing(psycopg2.connect(self.url("postgres"))):
                    return
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerError(f"pgbouncer did not start: {error}\n{self.log()[-2000:]}") from error
                time.sleep(0.02)

    def _destroy(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
