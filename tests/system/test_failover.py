"""An asynchronous standby takes over from a server that is gone, and with it the last commits."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg2
import pytest
from django.core.management import call_command
from django.db import connection

from jobsup.models import Job, Status
from tests import databases
from tests.postgres import PORT, SUPERUSER, Cluster
from tests.support import eventually
from tests.system.jobs import assert_nobody_owns_anything, runs, status, wait_begun, wait_final
from tests.testapp import tasks
from tests.vendors import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Database

pytestmark = pytest.mark.skipif(not wanted("postgresql"), reason="not among JOBSUP_TEST_DATABASES")

NAME = "jobs"


class Pair:
    """A server, one that follows it, and the address at which clients look for whichever is in charge."""

    def __init__(self, place: Path, primary: Cluster) -> None:
        self._address = place / "server"
        self._address.symlink_to(primary.directory)
        self._primary = primary
        self.standby: Cluster | None = None

    def url(self) -> str:
        """Return where clients connect to."""
        return f"postgres://{SUPERUSER}@{quote(str(self._address), safe='')}:{PORT}/{NAME}"

    def follow(self) -> None:
        """Begin to replicate."""
        self.standby = self._primary.standby().start()

    def has_followed(self) -> bool:
        """Tell whether the standby has everything that is committed by now."""
        [(now,)] = _ask(self._primary, "SELECT pg_current_wal_lsn()")
        return bool(_ask(self._follower, f"SELECT pg_last_wal_replay_lsn() >= '{now}'")[0][0])

    def cut(self) -> None:
        """From now on nothing gets to the standby; nobody is told."""
        self._follower.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self._follower.execute("SELECT pg_reload_conf()")
        eventually(lambda: not _ask(self._follower, "SELECT FROM pg_stat_wal_receiver"), 10, "the end of replication")

    def fail_over(self) -> None:
        """Crash the primary and put the standby in its place."""
        self._primary.stop("immediate")
        self._follower.execute("SELECT pg_promote()")
        self._address.unlink()
        self._address.symlink_to(self._follower.directory)

    @property
    def _follower(self) -> Cluster:
        assert self.standby is not None
        return self.standby


def _ask(server: Cluster, question: str) -> list[tuple[Any, ...]]:
    where = psycopg2.connect(host=str(server.directory), port=PORT, user=SUPERUSER, dbname=NAME)
    with closing(where) as asking, asking.cursor() as cursor:
        cursor.execute(question)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both servers, of which one is up."""
    place = Path(tempfile.mkdtemp(prefix="jobsup-ha-", dir="/tmp"))
    place.chmod(0o755)
    with Cluster() as primary:
        primary.create_database(NAME)
        made = Pair(place, primary)
        yield made
        if made.standby is not None:
            made.standby.destroy()
    shutil.rmtree(place)


@pytest.fixture
def database(pair: Pair, tmp_path: Path, sqlite_template: object) -> Iterator[Database]:
    """The database that both have, migrated."""
    with databases.postgresql_at(pair.url(), tmp_path) as made:
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
        pair.follow()
        yield made


def test_p15_after_a_failover_that_loses_commits_their_jobs_run_again_and_everything_goes_on(
    pair: Pair, database: Database, tmp_path: Path
) -> None:
    """What the standby does not know has never been: an end is recorded anew, an enqueued job is gone."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        known, ends_late = tasks.effect.enqueue(), tasks.hold.enqueue(str(tmp_path / "go"))
        wait_begun(supervisor, ends_late)
        wait_final(supervisor, [known])
        eventually(pair.has_followed, 10, "the standby to have all that")
        pair.cut()
        (tmp_path / "go").touch()
        lost = tasks.effect.enqueue()
        wait_final(supervisor, [ends_late, lost])
        connection.close()

        pair.fail_over()
        assert status(ends_late) is Status.RUNNING, "the standby knows of its end"
        assert not Job.objects.filter(pk=int(lost.id)).exists()
        after = tasks.effect.enqueue()
        wait_final(supervisor, [after, ends_late], timeout_s=45)
        assert [status(job) for job in (known, ends_late, after)] == [Status.SUCCESSFUL] * 3
        assert [len(runs(job)) for job in (known, ends_late, after)] == [1, 2, 1]
        supervisor.stop()
        assert "Traceback" not in supervisor.log()
    assert_nobody_owns_anything()
