"""A server that has fewer connections than the workers want: those that get one do the work, and it is told.

The code d3 is that of the list of traps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command

from jobsup.models import Job, Status
from tests import databases
from tests.postgres import Cluster
from tests.support import eventually, run_django
from tests.system.jobs import assert_nobody_owns_anything, wait_final
from tests.testapp import tasks
from tests.vendors import wanted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database

pytestmark = pytest.mark.skipif(not wanted("postgresql"), reason="JOBSUP_TEST_DATABASES leaves PostgreSQL out")

CONNECTIONS = 6
WORKERS = 8
JOBS = 120
WAIT_S = 90
NO_ROOM = "the database 'default' has no connection left: "


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Database]:
    """A database on a server that has few connections, of which this process has one."""
    few = {"superuser_reserved_connections": "0", "max_wal_senders": "0"}
    with (
        Cluster(max_connections=CONNECTIONS, settings=few) as cluster,
        databases.postgresql_at(cluster.create_database("small"), tmp_path) as made,
    ):
        call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
        yield made


def test_d3_workers_that_get_a_connection_do_the_work_and_the_others_are_told_of(small: Database) -> None:
    """No attempt is lost, nobody is killed, nobody tries in circles; log and `status` say what is the matter."""
    jobs = [tasks.work.enqueue(300) for _ in range(JOBS)]
    with small.supervisor("--workers", str(WORKERS)) as supervisor:
        wait_final(supervisor, jobs, WAIT_S)
        eventually(lambda: NO_ROOM in supervisor.log(), WAIT_S, "words", supervisor.picture)
        told = run_django(small.env, "jobsupervisor", "status").stdout
        assert "degraded: worker " in told, told
        assert NO_ROOM in told
        supervisor.stop()
        log = supervisor.log()
    assert Job.objects.filter(status=Status.SUCCESSFUL, attempt=1).count() == JOBS
    assert "could not boot: " + NO_ROOM in log
    assert "too many clients already; next try in 60 s" in log
    assert "was killed" not in log
    assert "could not be reached for" not in log
    assert "exited with code" not in log
    assert "Traceback" not in log
    assert log.count("ERROR") <= 3 * WORKERS, "they try in circles"
    assert_nobody_owns_anything()
