"""Schedules with real supervisors: each moment once, whoever looks and whoever is killed; and at its time."""

from __future__ import annotations

import json
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone

from jobsup.models import Job, Schedule, Status
from tests.support import eventually
from tests.system.jobs import assert_nobody_owns_anything, picture, row, wait_final
from tests.testapp import tasks
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from tests.databases import Database
    from tests.support import Supervisor

APPS = ["jobsup", "tests.testapp", "tests.scheduledapp"]
PATIENT_S = 60
NAMES = ("interval", "cron")
STEP = 'UPDATE "jobsup_schedule" SET "next_at" = %s, "last_at"'


def scheduler(database: Database, name: str = "default", **jobsup: object) -> Supervisor:
    """Return a supervisor of a project whose tasks have schedules."""
    found = [*APPS, "django_tasks"] if _backport() else APPS
    return database.supervisor("--workers", "1", "--name", name, INSTALLED_APPS=found, JOBSUP=jobsup)


def _backport() -> bool:
    from jobsup.compat import TASKS_APPS

    return bool(TASKS_APPS)


def moments(name: str) -> list[int]:
    """Return the moments of a schedule that have a job, as seconds since 1970, in order of their jobs."""
    return [int(job.tick_at.timestamp()) for job in Job.objects.filter(schedule=name).order_by("pk") if job.tick_at]


def wait_moments(supervisor: Supervisor, count: int) -> None:
    """Wait until each schedule has so many moments."""
    eventually(
        lambda: all(len(moments(name)) >= count for name in NAMES),
        PATIENT_S,
        f"{count} moments",
        lambda: picture(supervisor),
    )


def assert_each_once() -> None:
    """Fail if a moment between the first and the last one has no job or two, or a job ran twice."""
    for name in NAMES:
        found = moments(name)
        assert found == list(range(found[0], found[-1] + 1)), name
    ran = list(Effect.objects.values_list("job", flat=True))
    assert len(ran) == len(set(ran))


def test_two_supervisors_enqueue_each_moment_once_with_the_schedules_arguments(database: Database) -> None:
    """Both look at each moment; the jobs run like any other, and a third one that wants no schedules has none."""
    with scheduler(database, "one") as one, scheduler(database, "two") as two:
        wait_moments(one, 3)
        one.stop()
        two.stop()
    count = Job.objects.count()
    with scheduler(database, "three", SCHEDULES=False) as three:
        three.wait_ready()
        eventually(lambda: not Job.objects.filter(status__lt=Status.SUCCESSFUL).exists(), PATIENT_S, "the rest")
        three.stop()
    assert Job.objects.count() == count
    assert_each_once()
    assert_nobody_owns_anything()
    for name, result in zip(NAMES, ("1", "2"), strict=True):
        found = Job.objects.filter(schedule=name)
        assert set(found.values_list("queue", "result", "status")) == {("other", result, Status.SUCCESSFUL)}
    rows = {row.name: row for row in Schedule.objects.all()}
    assert sorted(rows) == sorted(NAMES)
    assert (rows["cron"].timezone, rows["interval"].interval_s, rows["cron"].from_code) == ("Europe/Berlin", 1, True)


@pytest.mark.parametrize(
    ("database", "sql"),
    [("sqlite", "INSERT INTO jobsup_job"), ("postgresql", "INSERT INTO jobsup_job"), ("postgresql", STEP)],
    indirect=["database"],
)
def test_a_supervisor_killed_in_the_middle_of_a_moment_neither_loses_nor_doubles_it(
    database: Database, sql: str
) -> None:
    """Between the schedule's step and its job, and between that and the commit; the next supervisor makes up for it."""
    fault = {"in": "supervisor", "when": "after", "sql": sql, "action": "kill", "each": 7}
    database.env["JOBSUP_TEST_FAULT"] = json.dumps(fault)
    with scheduler(database, "one") as one:
        assert one.wait(PATIENT_S) == -9
    seen = {name: moments(name) for name in NAMES}
    assert any(seen.values())
    del database.env["JOBSUP_TEST_FAULT"]
    with scheduler(database, "one") as two:
        wait_moments(two, max(map(len, seen.values())) + 2)
        two.stop()
    assert_each_once()
    assert all(moments(name)[: len(found)] == found for name, found in seen.items())


def test_a_scheduled_job_starts_at_its_time_though_the_supervisor_sleeps(database: Database) -> None:
    """None too early by the database's clock; the usual one within a tenth of a second of it, here within one.

    One is known of, one is enqueued for later, one for earlier.
    """
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        begin = timezone.now()
        after_s = [2.0, 3.0, 0.7, 1.3, 2.6]
        results = [tasks.noop.using(run_after=begin + timedelta(seconds=seconds)).enqueue() for seconds in after_s]
        wait_final(supervisor, results, PATIENT_S)
        supervisor.stop()
    late_s = []
    for result in results:
        job = row(result)
        assert job.started_at is not None
        assert job.run_after is not None
        late_s.append((job.started_at - job.run_after).total_seconds())
    assert min(late_s) >= -0.001
    assert median(late_s) < 1
