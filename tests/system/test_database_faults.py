"""What happens to a database under a supervisor: its disk is full, or more waits in it than anybody could count.

The numbers (f14 ...) are those of the list of faults.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from django.db import OperationalError, connection

from jobsup.models import FailedAttempt, Job, Status
from tests import databases, mariadb, settings
from tests.databases import Database
from tests.support import eventually, run_django
from tests.system.jobs import ON_POSTGRESQL, assert_nobody_owns_anything, row, runs, status, wait_begun, wait_final
from tests.testapp import tasks, troubles
from tests.vendors import ON_MARIADB, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.mariadb import Server
    from tests.postgres import Cluster

WAIT_S = 60
DISK_BYTES = 48 * 2**20
BACKLOG = int(os.environ.get("JOBSUP_TEST_BACKLOG", "100000"))
"""How many jobs wait; a million takes a minute."""
FAILING = BACKLOG // 100
LARGE = 400_000
"""More than any page that is there has room for."""
WITHIN_A_PAGE = 4000
"""What InnoDB keeps in the row itself: where it would need pages for more than that and gets none, MariaDB aborts."""


class Small(NamedTuple):
    """A database on a small disk of its own, how much it is to store at once, and how often it was refused there."""

    database: Database
    disk: Path
    refusals: Callable[[], int]
    chars: int = LARGE

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room, and give it back at the end."""
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        yield
        filler.unlink()


@contextmanager
def small_disk(owner: int) -> Iterator[Path]:
    """Mount a small disk that belongs to a user."""
    if os.geteuid() != 0:
        pytest.skip("root only: a disk is mounted")
    place = Path(tempfile.mkdtemp(prefix="jobsup-disk-", dir="/tmp"))
    options = f"size={DISK_BYTES},uid={owner},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "jobsup-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=wanted("sqlite", "postgresql", "mariadb"))
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Small]:
    """A database on a small disk, on each vendor that can have one of its own."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        with small_disk(os.getuid()) as disk, databases.fresh_sqlite(template, disk) as database:
            database.env["JOBSUP_TEST_RUN_DIR"] = str(tmp_path)
            yield Small(database, disk, lambda: int((tmp_path / "go.returned").exists()))
        return
    if request.param == "mariadb":
        server: Server = request.getfixturevalue("mariadb_template")
        owner = server.directory.stat().st_uid
        with small_disk(owner) as disk:
            (disk / "space").mkdir()
            os.chown(disk / "space", owner, -1)
            with databases.fresh_mariadb(server, tmp_path, disk / "space") as database:
                yield Small(database, disk, lambda: server.log().count("failed with error 28"), WITHIN_A_PAGE)
        return
    cluster: Cluster = request.getfixturevalue("postgresql_template")
    with small_disk(cluster.directory.stat().st_uid) as disk:
        (disk / "space").mkdir()
        os.chown(disk / "space", cluster.directory.stat().st_uid, -1)
        cluster.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'space'}'")
        try:
            with databases.fresh_postgresql(cluster, tmp_path) as database:
                name = database.env["JOBSUP_TEST_POSTGRES"].rpartition("/")[2]
                cluster.execute(f"ALTER DATABASE {name} SET TABLESPACE small")
                yield Small(database, disk, lambda: cluster.log().count("No space left on device"))
        finally:
            cluster.execute("DROP TABLESPACE small")


def test_f14_a_full_disk_under_the_database_is_told_to_the_caller_and_waited_out_by_the_worker(
    small: Small, tmp_path: Path
) -> None:
    """Nothing is lost: what was refused is not there, what ran is recorded once there is room again."""
    go = tmp_path / "go"
    with small.database.supervisor("--workers", "1") as supervisor:
        held = troubles.return_much.enqueue(str(go), small.chars)
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        accepted: list[Any] = []
        with small.full():
            with pytest.raises(OperationalError):  # an old page may have had room for some
                accepted.extend(tasks.echo.enqueue(secrets.token_hex(small.chars // 2)) for _ in repeat(None))
            before = small.refusals()
            go.touch()
            eventually(lambda: small.refusals() > before, WAIT_S, "the refusal of its result", supervisor.picture)
            unrecorded_until = time.monotonic() + 0.5
            while time.monotonic() < unrecorded_until:  # else it would be recorded within 10 ms
                assert status(held) is Status.RUNNING
        wait_final(supervisor, [held, *accepted], WAIT_S)
        after = tasks.add.enqueue(1, 2)
        wait_final(supervisor, [after], WAIT_S)
        supervisor.stop(timeout_s=WAIT_S)
    assert (status(held), row(held).attempt) == (Status.SUCCESSFUL, len(runs(held)))
    held.refresh()
    assert len(held.return_value) == small.chars
    assert Job.objects.count() == 2 + len(accepted)
    assert_nobody_owns_anything()


@ON_MARIADB
def test_f14_a_full_disk_that_takes_mariadb_down_loses_no_job(tmp_path: Path) -> None:
    """It aborts where it has no room to undo a large row; once it is up again, with room, all goes on."""
    go = tmp_path / "go"
    with mariadb.Server() as server, small_disk(server.directory.stat().st_uid) as disk:
        space = disk / "space"
        space.mkdir()
        os.chown(space, server.directory.stat().st_uid, -1)
        url = server.create_database("small", place=space)
        env = {"JOBSUP_TEST_DEFAULT": "mariadb", "JOBSUP_TEST_RUN_DIR": str(tmp_path), "JOBSUP_TEST_MARIADB": url}
        done = run_django(env, "migrate", "--run-syncdb", "--verbosity", "0")
        assert done.returncode == 0, done.stdout
        with databases._as_default(settings.mariadb(url)):
            small = Small(Database("mariadb", env), disk, lambda: 0)
            with small.database.supervisor("--workers", "1") as supervisor:
                held = troubles.return_much.enqueue(str(go), LARGE)
                wait_begun(supervisor, held, timeout_s=WAIT_S)
                with small.full():
                    with pytest.raises(OperationalError):
                        tasks.echo.enqueue(secrets.token_hex(LARGE // 2))
                    eventually(lambda: server.pid is None, WAIT_S, "the end of the server", server.log)
                    go.touch()
                connection.close()
                server.restart()
                after = tasks.add.enqueue(1, 2)
                wait_final(supervisor, [held, after], WAIT_S)
                supervisor.stop(timeout_s=WAIT_S)
            assert (status(held), row(held).attempt) == (Status.SUCCESSFUL, len(runs(held)))
            held.refresh()
            assert len(held.return_value) == LARGE
            assert Job.objects.count() == 2
            assert_nobody_owns_anything()
        server.stop("immediate")


@ON_POSTGRESQL
def test_f45_a_long_backlog_and_many_failures_do_not_fill_the_supervisor(database: Database) -> None:
    """Its memory stays what it was, and what is urgent is found at once among all the others."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobsup_job (task, queue, backend, priority, arguments, status, attempt, worker, enqueued_at) "
            "SELECT 'tests.testapp.tasks.noop', 'default', 'default', -1, %s, 0, 0, '', now() "
            "FROM generate_series(1, %s)",
            ['{"args":[],"kwargs":{}}', BACKLOG],
        )
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready(WAIT_S)
        done = Job.objects.filter(status=Status.SUCCESSFUL)
        eventually(lambda: done[:500].count() == 500, WAIT_S, "the first jobs", supervisor.picture)
        before = memory_of(supervisor.pid)
        tasks.fail.enqueue_many([("trouble",)] * FAILING)
        failed = Job.objects.filter(status=Status.FAILED)
        eventually(lambda: failed[:FAILING].count() == FAILING, 2 * WAIT_S, "the failures", supervisor.picture)
        grown = memory_of(supervisor.pid) - before
        supervisor.stop(timeout_s=WAIT_S)
    assert grown < 10 * 2**20
    assert FailedAttempt.objects.count() == FAILING
    assert not FailedAttempt.objects.exclude(traceback__contains="ValueError: trouble").exists()
    assert_nobody_owns_anything()


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
