"""Queues spread over several databases: what is where, and what is refused."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from jobsup import homes, queues
from jobsup.conf import Conf
from jobsup.models import Job, Schedule
from jobsup.places import run_path
from jobsup.schedules import declared
from jobsup.schedules.declared import Declared
from jobsup.schedules.sync import sync
from jobsup.store import Store
from jobsup.testing import enqueued, immediate, run_pending
from spawnpool.pools import Pool
from tests.db import chores
from tests.db.conftest import JOBSUP, Everything
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SPREAD = {
    "default": {"BACKEND": JOBSUP, "QUEUES": ["default"]},
    "reports": {"BACKEND": JOBSUP, "QUEUES": ["reports"], "OPTIONS": {"database": "postgresql"}},
}


@pytest.fixture
def spread(sqlite: str, postgresql: str) -> Iterator[Any]:
    """Queue `default` on SQLite, queue `reports` on PostgreSQL; a task of the latter."""
    with override_settings(DATABASE_ROUTERS=[Everything(sqlite)], TASKS=SPREAD):
        yield chores.add.using(backend="reports", queue_name="reports")


def test_jobs_are_enqueued_found_and_cancelled_in_the_database_of_their_backend(spread: Any) -> None:
    """One by one and many at once."""
    here, there = chores.add.enqueue(1, 2), spread.enqueue(3, 4)
    many = spread.enqueue_many([(1, 1), (2, 2)])
    assert Job.objects.using("default").count() == 1
    assert Job.objects.using("postgresql").count() == 3
    assert spread.get_result(there.id).args == [3, 4]
    assert many[1].args == [2, 2]
    assert there.cancel()
    here.refresh()
    assert not here.is_finished


def test_tests_run_the_jobs_of_all_databases(spread: Any) -> None:
    """Also at once."""
    chores.add.enqueue(1, 2)
    spread.enqueue(3, 4)
    assert len(enqueued()) == 2
    assert [result.return_value for result in run_pending()] == [3, 7]
    with immediate() as ran:
        spread.enqueue(5, 6)
    assert [result.return_value for result in ran] == [11]


def test_a_supervisor_serves_the_queues_of_its_database(spread: Any) -> None:
    """And has a run file of its own; pools are as large as what they serve."""
    pools = (
        Pool(name="both", workers=2, feeds=("default", "reports"), at_once={"default": 1}),
        Pool(name="one", workers=1, feeds=("default",)),
    )
    conf = Conf(workers=3, pools=pools, run_dir="/run")
    assert homes.every() == ["default", "postgresql"]
    assert queues.named() == ("default", "reports")
    assert queues.served([]) == ("default",)
    assert queues.pools(conf, None) == (
        Pool(name="both", workers=2, feeds=("default",), at_once={"default": 1}),
        pools[1],
    )
    before = run_path(conf)
    with homes.at("postgresql"):
        assert queues.served([]) == ("reports",)
        assert queues.pools(conf, None) == (Pool(name="both", workers=2, feeds=("reports",)),)
        assert run_path(conf) != before
        with pytest.raises(
            ImproperlyConfigured, match="default: no backend in TASKS with jobs in database 'postgresql'"
        ):
            queues.served(["default"])
    assert homes.VARIABLE not in os.environ


def test_schedules_are_in_the_database_of_their_backend(spread: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker leaves those of others alone."""
    here, there = (Declared(task.backend, task, declared.Schedule(60, args=[1, 2])) for task in (chores.add, spread))
    monkeypatch.setattr(declared, "_declared", {"any": [here, there]})
    for alias, name in (("default", "default"), ("postgresql", "reports")):
        sync(Store(alias), home=alias)
        assert [row.name for row in Schedule.objects.using(alias).all()] == [name]


def test_what_is_wrong_is_told(spread: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An alias that is none, in the settings and on the command line; a database without backends."""
    with pytest.raises(CommandError, match="--database nowhere: DATABASES has no such entry, only default"):
        call_command("jobs", "list", "--database", "nowhere")
    call_command("jobs", "list", "--database", "postgresql")
    wrong = {"default": {"BACKEND": JOBSUP, "OPTIONS": {"database": "nowhere"}}}
    with override_settings(TASKS=wrong), pytest.raises(ImproperlyConfigured, match="'nowhere': expected one of DATAB"):
        queues.backends()
    only = {"reports": SPREAD["reports"]}
    with override_settings(TASKS=only), pytest.raises(ImproperlyConfigured, match="there are postgresql"):
        queues.served([])


def test_the_query_for_keda_counts_what_needs_a_supervisor(routed: str) -> None:
    """As the documentation has it, on each database: what is ready, and what is due; not what comes later."""
    [query] = re.findall(r"query: >-\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL)

    def number() -> Any:
        with connections[routed].cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    assert number() == [(0,)]
    ready, due, later = (chores.add.enqueue(1, 2) for _ in range(3))
    jobs, now = Job.objects.using(routed), Store(routed).sql.now()
    jobs.filter(pk=int(due.id)).update(status=1, run_after=now.replace(year=now.year - 1))
    jobs.filter(pk=int(later.id)).update(status=1, run_after=now.replace(year=now.year + 1))
    assert number() == [(2,)], ready
