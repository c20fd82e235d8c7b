"""Wake-ups under the real command: quick, at no cost for whoever enqueues, and nothing asked for where nothing is."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection

from jobsup.locks import HUSH, LOCKS
from jobsup.models import Job, Status
from tests.statements import COUNT_FILE
from tests.support import eventually, fds_of
from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE, assert_once, picture, wait_begun, wait_final
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.databases import Database

WAIT_S = 60
COUNT_S = 10.0
ALLOWED = 10
"""A beat, a first look at what is old and what recovers may all lie within a short count; half of it is usual."""


def counting(database: Database) -> Callable[[], int]:
    """Return a function that returns how many statements others have sent: supervisors that start after this."""
    if database.vendor == "sqlite":
        file = Path(database.env["JOBSUP_TEST_SQLITE"]).with_name("statements")
        database.env[COUNT_FILE] = str(file)
        return lambda: file.stat().st_size
    if database.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} SET log_statement = 'all'")
        # It holds for connections that are made from now on: ours is none of them.
        log = "SELECT pg_read_file(current_setting('data_directory') || '/../log')"
        return lambda: str(_value(log)).count("LOG:  statement: ")
    asked = itertools.count(1)
    questions = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'questions'"
    return lambda: int(_value(questions)) - next(asked)


def _value(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_p11_an_idle_supervisor_asks_about_once_a_second_at_most(database: Database) -> None:
    """With its workers and all that it takes to connect; and it is idle: it runs what comes."""
    count = counting(database)
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready(WAIT_S)
        eventually(lambda: _pauses_of(count, 0.5), WAIT_S, "rest", supervisor.picture)
        begun, before = time.monotonic(), count()
        time.sleep(COUNT_S)
        asked, seconds = count() - before, time.monotonic() - begun
        assert asked <= seconds + ALLOWED, f"{asked} statements in {seconds:.1f} s"
        after = tasks.effect.enqueue()
        wait_final(supervisor, [after], WAIT_S)
        assert_once(after)
        supervisor.stop(timeout_s=WAIT_S)


def _pauses_of(count: Callable[[], int], seconds: float) -> bool:
    """Tell whether nothing is asked for a while."""
    before = count()
    time.sleep(seconds)
    return count() == before


def hushers() -> int:
    """Return how many sessions ask not to be woken, or try to."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = %s AND objid = %s",
            [LOCKS, HUSH],
        )
        number: int = cursor.fetchone()[0]
        return number


@ON_POSTGRESQL
def test_p11_fault_6_a_busy_supervisor_is_not_woken_and_finds_all_the_same(database: Database, tmp_path: Path) -> None:
    """It asks for silence while jobs pour in, for as long as it lives, and ends that when there is nothing left."""
    go = tmp_path / "go"
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        wait_begun(supervisor, tasks.hold.enqueue(str(go)), timeout_s=WAIT_S)
        results: list[Any] = []

        def hushed() -> bool:
            results.extend(tasks.noop.enqueue() for _ in range(25))
            return hushers() == 1

        eventually(hushed, WAIT_S, "silence", lambda: picture(supervisor))
        supervisor.kill()
        eventually(lambda: hushers() == 0, WAIT_S, "the end of the silence with the one who asked for it")
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        eventually(hushed, WAIT_S, "silence", lambda: picture(supervisor))
        go.touch()
        wait_final(supervisor, results, WAIT_S)
        eventually(lambda: hushers() == 0, WAIT_S, "the end of the silence", lambda: picture(supervisor))
        results.append(tasks.noop.enqueue())
        wait_final(supervisor, results[-1:], WAIT_S)
        assert Job.objects.filter(status=Status.SUCCESSFUL, attempt=1).count() == len(results)
        supervisor.stop(timeout_s=WAIT_S)


@ON_SQLITE
def test_m10_a_supervisor_keeps_its_doorbell_to_itself(database: Database) -> None:
    """Its workers do not have it, nor do theirs; what rings runs, and the next supervisor has the name again."""
    for _ in range(2):
        with database.supervisor("--workers", "1") as supervisor:
            supervisor.wait_ready(WAIT_S)
            bells = _doorbells()
            mine = {fd.inode for fd in fds_of(supervisor.pid).values() if fd.target.startswith("socket:")}
            assert len(mine.intersection(bells.values())) == 1, bells
            for worker in supervisor.workers():
                assert not [fd for fd in fds_of(worker).values() if fd.inode in bells.values()]
            result = tasks.effect.enqueue()
            wait_final(supervisor, [result], WAIT_S)
            assert_once(result)
            supervisor.stop(timeout_s=WAIT_S)
        assert not mine.intersection(_doorbells().values())


def _doorbells() -> dict[str, int]:
    """Return the inodes of the doorbells of this machine by name."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {fields[7]: int(fields[6]) for fields in lines if len(fields) > 7 and fields[7].startswith("@jobsup/")}
