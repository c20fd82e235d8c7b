"""Schedules as rows: each moment becomes one job, whoever looks and whoever dies."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from django.db import DatabaseError, connections
from django.test import override_settings

from jobsup import Schedule as Declaration
from jobsup import task
from jobsup.conf import Conf
from jobsup.models import Job, Schedule, Status
from jobsup.schedules import ticking as ticking_module
from jobsup.schedules.overview import overview
from jobsup.schedules.rows import aware, stored
from jobsup.schedules.sync import sync
from jobsup.schedules.ticking import LOOK_S, LOOK_UNTOLD_S, Ticking
from jobsup.source import DatabaseSource
from jobsup.store import Store
from spawnpool.runfile import RunFile
from tests.db.agenda import (
    HOUR,
    declare,
    half_an_hour_away,
    jobs,
    put_back,
    row,
    scheduled,
    ticks,
)
from tests.db.conftest import Everything
from tests.db.rows import at_once, begin, put, statements_of
from tests.support import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.db.rows import Session


pytestmark = pytest.mark.usefixtures("nothing_declared")


def test_a_declared_schedule_has_a_row_and_its_moments_become_jobs(hourly: Store) -> None:
    """With the arguments, the queue, the priority and every option of the task."""
    options = {"priority": 7, "queue_name": "other", "max_attempts": 3, "timeout": 5, "keep": 60}
    declare(Declaration(half_an_hour_away(), args=[5], kwargs={"name": "x"}, name="hourly"), **options)
    sync(hourly)
    assert Ticking(hourly, told=False).turn() == 0
    found = row(hourly)
    now = aware(hourly.sql.now())
    assert found.next_at is not None
    assert now < aware(found.next_at) <= now + HOUR
    moment = put_back(hourly, 0)
    assert Ticking(hourly, told=False).turn() == 1
    [job] = jobs(hourly)
    assert (job.task, job.queue, job.priority, job.max_attempts) == (f"{scheduled.__module__}.scheduled", "other", 7, 3)
    assert json.loads(job.arguments) == {"args": [5], "kwargs": {"name": "x"}}
    assert json.loads(job.options or "") == {"timeout": 5}
    assert (job.keep_s, job.status, job.run_after) == (60, Status.READY, None)
    assert (job.schedule, ticks(hourly)) == ("hourly", [moment])
    found = row(hourly)
    assert (found.last_at, found.next_at) == (stored(moment), stored(moment + HOUR))


def test_nothing_is_asked_while_nothing_is_due(hourly: Store) -> None:
    """The supervisor knows when the next moment comes."""
    ticking = Ticking(hourly, told=True)
    ticking.turn()
    with statements_of(hourly.alias) as statements:
        assert [ticking.turn() for _ in range(3)] == [0, 0, 0]
    assert statements == []
    assert ticking.due_at is not None


def test_the_rows_are_read_now_and_then_in_any_case(routed: str) -> None:
    """More often where nobody tells of a change; never, where schedules are not wanted."""
    now = [0.0]
    store = Store(routed)
    for told, look_s in ((True, LOOK_S), (False, LOOK_UNTOLD_S)):
        ticking = Ticking(store, told=told, clock=lambda: now[0])
        ticking.turn()
        assert ticking.due_at == now[0] + look_s
    unwanted = Ticking(store, told=True, wanted=False, clock=lambda: now[0])
    with statements_of(routed) as statements:
        unwanted.look()
        assert unwanted.turn() == 0
    assert (unwanted.due_at, statements) == (None, [])


@pytest.mark.parametrize(("rule", "expected"), [("latest", [3]), ("all", [0, 1, 2, 3]), ("none", [])])
def test_after_a_time_without_supervisors_the_rule_decides(
    hourly: Store, rule: str, expected: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """What was left out is told."""
    first = put_back(hourly, 3)
    Schedule.objects.using(hourly.alias).update(catch_up=rule)
    assert Ticking(hourly, told=False).turn() == len(expected)
    assert ticks(hourly) == [first + number * HOUR for number in expected]
    assert row(hourly).next_at == stored(first + 4 * HOUR)
    missed = {"latest": "missed moments are left out: 3 (catch_up is 'latest')", "none": "moments are left out: 4"}
    assert (missed.get(rule, "hourly") in caplog.text) == (rule != "all")


def test_all_is_a_hundred_at_most(hourly: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The newest ones; that older ones are left out is told."""
    first = put_back(hourly, 200)
    Schedule.objects.using(hourly.alias).update(catch_up="all")
    assert Ticking(hourly, told=False).turn() == 100
    assert ticks(hourly) == [first + number * HOUR for number in range(101, 201)]
    assert "schedule hourly: older missed moments than the newest 100 are left out" in caplog.text


def test_any_number_of_supervisors_enqueue_each_moment_once(hourly: Store) -> None:
    """They all look at the same instant, again and again, and none leads."""
    Schedule.objects.using(hourly.alias).update(catch_up="all")
    first = put_back(hourly, 5)
    many = [Ticking(Store(hourly.alias), told=False) for _ in range(6)]
    for one in many:
        one._read()
    assert sum(at_once([one.turn for one in many])) == 6
    for one in many:
        one.look()
    assert sum(at_once([one.turn for one in many])) == 0
    assert ticks(hourly) == [first + number * HOUR for number in range(6)]


def test_a_job_that_cannot_be_inserted_takes_the_step_with_it(hourly: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both or none: after the trouble the moment is still to come, and then it comes once."""
    moment = put_back(hourly, 0)
    ticking = Ticking(hourly, told=False)
    with monkeypatch.context() as patch:
        patch.setattr(hourly, "enqueue", lambda _row: connections[hourly.alias].cursor().execute("SELECT nonsense"))
        assert ticking.turn() == 0
        assert (row(hourly).next_at, jobs(hourly)) == (stored(moment), [])
        assert ticking.turn() == 0, "it is put off, and the supervisor goes on with the rest"
    ticking.look()
    assert ticking.turn() == 1
    assert ticks(hourly) == [moment]


def test_a_connection_that_is_gone_is_the_supervisors_business(hourly: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the database as for anything else."""
    put_back(hourly, 0)
    ticking = Ticking(hourly, told=False)
    monkeypatch.setattr(hourly, "enqueue", lambda _row: connections[hourly.alias].cursor().execute("SELECT nonsense"))
    monkeypatch.setattr(type(connections[hourly.alias]), "is_usable", lambda _self: False)
    with pytest.raises(DatabaseError):
        ticking.turn()


def test_a_moment_that_was_put_back_by_hand_is_not_enqueued_again(hourly: Store) -> None:
    """The jobs that are there tell."""
    first = put_back(hourly, 0)
    assert Ticking(hourly, told=False).turn() == 1
    put_back(hourly, 0)
    assert Ticking(hourly, told=False).turn() == 0
    assert ticks(hourly) == [first]
    assert row(hourly).next_at == stored(first + HOUR)


def test_a_tick_comes_once_though_its_job_was_removed(hourly: Store) -> None:
    """What is kept of jobs does not matter: the schedule has moved on."""
    put_back(hourly, 0)
    one, other = Ticking(hourly, told=False), Ticking(hourly, told=False)
    other._read()
    assert one.turn() == 1
    Job.objects.using(hourly.alias).all().delete()
    assert other.turn() == 0
    assert jobs(hourly) == []


def test_a_unique_task_has_no_second_job_while_the_first_one_waits(routed: str) -> None:
    """The moment is left out, and the schedule goes on."""
    declare(Declaration(half_an_hour_away(), args=[5], name="hourly", catch_up="all"), unique=True)
    store = Store(routed)
    sync(store)
    first = put_back(store, 1)
    assert Ticking(store, told=False).turn() == 1
    assert ticks(store) == [first]
    assert store.claim(begin(store), None, 5) == [jobs(store)[0].pk]
    put_back(store, 0)
    assert Ticking(store, told=False).turn() == 1


def test_a_disabled_schedule_has_no_moments_and_none_to_make_up_for(hourly: Store) -> None:
    """Nor does a supervisor that knows it from before enqueue any."""
    put_back(hourly, 2)
    ticking = Ticking(hourly, told=False)
    ticking._read()
    Schedule.objects.using(hourly.alias).update(enabled=False)
    assert ticking.turn() == 0
    assert Ticking(hourly, told=False).turn() == 0
    assert jobs(hourly) == []


@pytest.mark.parametrize(("values", "expected"), [
    ({"cron": "nonsense"}, "'nonsense' is no cron expression: Wrong number of fields"),
    ({"timezone": "Nowhere"}, "'Nowhere' is no time zone that this machine knows"),
    ({"job": None}, "no worker has seen to it yet, or its task does not exist"),
    ({"job": "{}"}, "its jobs are those of another version: "),
        ({"job": "[]"}, "its jobs are those of another version: "),
        ({"cron": "", "interval_s": 0}, "expected an interval from 1 second to 366 days"),
])  # fmt: skip
def test_a_row_that_cannot_be_is_told_once_and_hurts_no_other(
    hourly: Store, values: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has written it by hand."""
    declare(Declaration(half_an_hour_away(), args=[5], name="hourly"), Declaration(60, args=[1], name="good"))
    sync(hourly)
    put_back(hourly, 0)
    put_back(hourly, 0, "good")
    Schedule.objects.using(hourly.alias).filter(pk="hourly").update(**values)
    ticking = Ticking(hourly, told=False)
    assert ticking.turn() == 1
    ticking.look()
    ticking.turn()
    assert [job.schedule for job in jobs(hourly)] == ["good"]
    assert caplog.text.count("schedule hourly is left out: " + expected) == 1
    [shown] = [one for one in overview(hourly) if one.name == "hourly"]
    assert shown.trouble == expected or "job" in values


def test_many_that_are_due_at_once_have_their_turns_one_after_the_other(
    routed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor looks after its workers in between."""
    monkeypatch.setattr(ticking_module, "TURN_MAX", 3)
    declare(*[Declaration(3600, args=[number], name=f"n{number}") for number in range(5)])
    store = Store(routed)
    sync(store)
    for number in range(5):
        put_back(store, 0, f"n{number}")
    ticking = Ticking(store, told=False)
    assert [ticking.turn() for _ in range(3)] == [3, 2, 0]


def test_a_change_is_told(postgresql: str, session: Session) -> None:
    """On PostgreSQL at its commit; a supervisor that listens reads the rows with its next turn."""
    store = Store(postgresql)
    store.sql.attend(listen=True)
    ticking = Ticking(store, told=True)
    ticking.turn()
    task(schedule=Declaration(half_an_hour_away(), args=[5], name="hourly"))(scheduled)
    session(lambda: sync(Store(postgresql)))

    def noticed() -> bool:
        store.sql.changed()
        ticking.turn()
        return row(store).next_at is not None

    eventually(noticed, 10, "its first moment")
    connections[postgresql].close()


def test_the_machines_own_clock_is_not_asked(postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines whose clocks differ agree by the database's: for moments as for jobs that come due."""
    runfile = RunFile(tmp_path / "source.run")
    with override_settings(DATABASE_ROUTERS=[Everything(postgresql)]):
        task(schedule=Declaration(half_an_hour_away(), args=[5], name="hourly"))(scheduled)
        store = Store(postgresql)
        sync(store)
        first = put_back(store, 0)
        later = store.sql.now() + timedelta(seconds=0.5)
        [pk] = put(store, run_after=later)
        with monkeypatch.context() as patch:
            patch.setattr("django.utils.timezone.now", lambda: pytest.fail("somebody asks this machine"))
            source = DatabaseSource(Conf(), None, runfile, 1)
            source.open()
            [tick] = source.claim(1).pks
            assert list(source.claim(5).pks) == []
            due_s = source.next_due_s()
            assert due_s is not None
            assert due_s <= 0.5
            assert eventually(lambda: source.claim(5).pks, 10, "the job") == [pk]
        assert store.sql.now() >= later
        assert [job.pk for job in jobs(store)] == [pk, tick]
        assert ticks(store) == [first]
        source.close(finished=True)
    runfile.release()


PLACES = [(True, "UTC"), (True, "Asia/Kathmandu"), (False, "UTC"), (False, "America/New_York")]


@pytest.mark.parametrize("where", PLACES)
def test_moments_are_right_in_every_time_zone(routed: str, where: tuple[bool, str]) -> None:
    """Whatever USE_TZ says; TIME_ZONE is the zone of an expression that names none."""
    use_tz, place = where
    with override_settings(USE_TZ=use_tz, TIME_ZONE=place):
        declare(
            Declaration("30 9 * * *", args=[5], name="morning"),
            Declaration(half_an_hour_away(), args=[1], name="hourly"),
        )
        store = Store(routed)
        sync(store)
        Ticking(store, told=False).turn()
        [shown] = [one for one in overview(store, count=1) if one.name == "morning"]
        assert shown.timezone == place
        [next_at] = shown.next_at
        assert aware(row(store, "morning").next_at or datetime.now(UTC)) == next_at
        assert next_at.astimezone(ZoneInfo(place)).hour == 9
        moment = put_back(store, 1)
        assert Ticking(store, told=False).turn() == 1
        assert ticks(store) == [moment + HOUR]
