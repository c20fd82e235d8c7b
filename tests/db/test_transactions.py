"""Jobs in one database, work in another (scenario K): which transaction an enqueue belongs to, who is warned."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.test import override_settings

from jobsup.compat import TaskResultStatus
from jobsup.errors import EnqueueOutsideTransaction
from jobsup.hygiene import check_connections
from jobsup.models import Job
from tests.db.bench import Bench
from tests.db.conftest import TASKS, Everything
from tests.testapp import elsewhere, tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORK = "postgresql"
JOBS = "default"


@pytest.fixture
def apart(postgresql: str) -> Iterator[None]:
    """Jobs in the SQLite file, and PostgreSQL beside it."""
    from tests import databases

    with override_settings(DATABASE_ROUTERS=[Everything(JOBS)], TASKS=TASKS):
        yield
    for alias in (JOBS, WORK):
        databases.empty(alias)


@pytest.fixture
def told(apart: None) -> Iterator[Callable[[], list[warnings.WarningMessage]]]:
    """What Python tells by default, and has not told before."""
    globals().pop("__warningregistry__", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield lambda: [each for each in caught if each.category is EnqueueOutsideTransaction]


def count() -> int:
    """Return how many jobs there are."""
    return Job.objects.using(JOBS).count()


def test_k_an_enqueue_in_a_transaction_of_another_database_is_no_part_of_it_and_is_warned_about(
    told: Callable[[], list[warnings.WarningMessage]],
) -> None:
    """In the words of what to do instead; once for each place in the code, however often it passes."""
    for _ in range(3):
        with transaction.atomic(using=WORK):
            tasks.noop.enqueue()  # the place
            transaction.set_rollback(True, using=WORK)
    assert count() == 3, "there at once, whatever became of that transaction"
    [warning] = told()
    assert str(warning.message) == (
        "tests.testapp.tasks.noop is enqueued in a transaction of 'postgresql', but jobs are in 'default': the job is "
        "there at once, whatever becomes of that transaction. Enqueue it when that commits: "
        "transaction.on_commit(lambda: noop.enqueue(...), using='postgresql')."
    )
    assert warning.filename == __file__
    assert "# the place" in open(__file__).read().splitlines()[warning.lineno - 1]  # noqa: PTH123, SIM115
    with transaction.atomic(using=WORK):
        tasks.noop.enqueue()
    assert len(told()) == 2, "another place"


def test_k_the_remedy_does_what_it_says(told: Callable[[], list[warnings.WarningMessage]]) -> None:
    """The job is there when the other transaction commits, and never was if that rolls back."""
    for commits in (False, True):
        with transaction.atomic(using=WORK):
            transaction.on_commit(tasks.noop.enqueue, using=WORK)
            assert count() == 0
            transaction.set_rollback(not commits, using=WORK)
    assert count() == 1
    assert told() == []


def test_k_nobody_is_warned_without_need(told: Callable[[], list[warnings.WarningMessage]]) -> None:
    """Outside of transactions; in one of the jobs' own database, alone or beside others; in another thread's."""
    tasks.noop.enqueue()
    with transaction.atomic(using=JOBS):
        tasks.noop.enqueue()
    with transaction.atomic(using=JOBS), transaction.atomic(using=WORK):
        tasks.noop.enqueue()
    assert told() == []


def test_k_a_coroutine_and_a_bulk_enqueue_are_warned_too(told: Callable[[], list[warnings.WarningMessage]]) -> None:
    """Whichever way a job is enqueued."""
    with transaction.atomic(using=WORK):
        async_to_sync(tasks.noop.aenqueue)()
    assert len(told()) == 1
    many: Any = tasks.add
    with transaction.atomic(using=WORK):
        many.enqueue_many([(1, 2), (3, 4)])
    assert len(told()) == 2


def test_k_an_enqueue_does_not_connect_what_is_not_in_use(apart: None) -> None:
    """It looks only at what this thread has."""
    connections[WORK].close()
    del connections[WORK]
    tasks.noop.enqueue()
    assert WORK not in [connection.alias for connection in connections.all(initialized_only=True)]


def test_k_the_warning_may_be_made_an_error_which_makes_no_job(apart: None) -> None:
    """As a test suite has it."""
    with (
        warnings.catch_warnings(action="error", category=EnqueueOutsideTransaction),
        pytest.raises(EnqueueOutsideTransaction),
        transaction.atomic(using=WORK),
    ):
        tasks.noop.enqueue()
    assert count() == 0


# -- in a worker ------------------------------------------------------------------------------------------------------


def test_k_d1_other_databases_are_kept_and_dropped_by_the_same_rules(apart: None) -> None:
    """A tidy job keeps their sessions for the next one, an untidy one loses them, the record says which."""
    bench = Bench(JOBS)
    tidy = [elsewhere.session.enqueue(WORK) for _ in range(2)]
    untidy = elsewhere.leave_transaction.enqueue(WORK)
    after = elsewhere.session.enqueue(WORK)
    bench.work()
    found = []
    for result in (*tidy, after):
        result.refresh()
        found.append(result.return_value)
    assert found[0] == found[1] != found[2]
    assert [each["in transaction"] for each in found] == [False] * 3
    job = Job.objects.using(JOBS).get(pk=int(untidy.id))
    assert job.left_behind == "left behind: an open transaction on 'postgresql' (restored)"


def test_k_d2_a_session_of_another_database_that_died_while_idle_harms_no_job(apart: None, postgresql: str) -> None:
    """The worker notices before it runs the next job."""
    bench = Bench(JOBS)
    first = bench.finished(elsewhere.session.enqueue(WORK)).return_value
    end_session(first["session"])
    check_connections()
    result = bench.finished(elsewhere.session.enqueue(WORK))
    assert result.status == TaskResultStatus.SUCCESSFUL, result.errors
    assert result.return_value["session"] != first["session"]


def end_session(pid: int) -> None:
    """Have the server end a session, asked over another one."""
    from tests.db.rows import Session

    def terminate() -> None:
        with connections[WORK].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    with Session() as other:
        other(terminate)
