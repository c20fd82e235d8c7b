"""Schedules follow the code: their rows are brought up to date by whichever worker starts, and shown."""

from __future__ import annotations

import json
from datetime import UTC, timedelta

import pytest
from django.db import connections

from jobsup import Schedule as Declaration
from jobsup.models import Schedule
from jobsup.schedules.overview import overview
from jobsup.schedules.rows import stored
from jobsup.schedules.sync import Sync, sync
from jobsup.schedules.ticking import Ticking
from jobsup.store import Store
from tests.db.agenda import (
    declare,
    half_an_hour_away,
    key_that_breaks,
    put_back,
    row,
    scheduled,
)
from tests.db.rows import at_once, statements_of
from tests.testapp import tasks

pytestmark = pytest.mark.usefixtures("nothing_declared")


def test_rows_that_say_what_the_code_says_are_not_written(hourly: Store) -> None:
    """Each worker looks once, by one statement."""
    with statements_of(hourly.alias) as statements:
        sync(hourly)
    assert len(statements) == 1
    assert statements[0].startswith("SELECT")


def test_rows_follow_the_code(hourly: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Another rhythm counts from now on; other arguments from the next moment; what is gone is removed, and told."""
    moment = put_back(hourly, -1)
    declare(Declaration(half_an_hour_away(), args=[6], name="hourly"))
    sync(hourly)
    assert json.loads(row(hourly).arguments)["args"] == [6]
    assert row(hourly).next_at == stored(moment)
    declare(Declaration("*/30 * * * *", args=[6], name="hourly"), Declaration(60, args=[1], name="more"))
    sync(hourly)
    assert (row(hourly).cron, row(hourly).next_at) == ("*/30 * * * *", None)
    assert (row(hourly, "more").interval_s, row(hourly, "more").cron) == (60, "")
    declare()
    sync(hourly, complete=False)
    assert Schedule.objects.using(hourly.alias).count() == 2, "a module that cannot be imported has lost nothing"
    sync(hourly)
    assert not Schedule.objects.using(hourly.alias).exists()
    assert "schedules that the code does not declare any more were removed: hourly, more" in caplog.text


def test_who_switched_a_schedule_off_is_not_overruled_by_a_deployment(hourly: Store) -> None:
    """As long as the code declares it."""
    Schedule.objects.using(hourly.alias).update(enabled=False)
    declare(Declaration("*/30 * * * *", args=[6], name="hourly"))
    sync(hourly)
    assert (row(hourly).cron, row(hourly).enabled) == ("*/30 * * * *", False)


def test_rows_made_by_hand_stay_and_keep_up_with_their_task(routed: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker fills in what a supervisor needs; a name that the code uses as well is theirs."""
    store = Store(routed)
    rows = Schedule.objects.using(routed)
    arguments = '{"args":["x"],"kwargs":{}}'
    rows.create(name="mine", task=tasks.echo.module_path, arguments=arguments, interval_s=60)
    rows.create(name="gone", task="no.such.task", interval_s=60)
    rows.create(name="wrong", task=tasks.echo.module_path, arguments="nonsense", interval_s=60)
    declare(Declaration(60, args=[1], name="mine"))
    sync(store)
    mine = row(store, "mine")
    assert (mine.task, mine.from_code) == (tasks.echo.module_path, False)
    assert json.loads(mine.job or "")["arguments"] == arguments
    assert row(store, "gone").job is None
    assert "schedule mine is declared in the code, and somebody made one of that name: theirs counts" in caplog.text
    assert "schedule wrong is left as it was, its jobs cannot be enqueued: " in caplog.text


def test_a_schedule_whose_jobs_cannot_be_enqueued_is_told(routed: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others are brought up to date."""
    declare(Declaration(60, args=[1], name="one"), unique=key_that_breaks)
    sync(Store(routed))
    assert "schedule one is left as it was, its jobs cannot be enqueued: builtins.ValueError: broken" in caplog.text
    assert not Schedule.objects.using(routed).exists()


def test_many_workers_that_start_at_once_make_one_row(routed: str) -> None:
    """Whoever comes second finds it."""
    declare(Declaration(60, args=[1], name="one"))
    at_once([lambda: sync(Store(routed))] * 5)
    assert Schedule.objects.using(routed).count() == 1


def test_a_worker_that_does_not_reach_the_database_tries_again(routed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is idle; and not at all where schedules are switched off."""
    declare(Declaration(60, args=[1], name="one"))
    store = Store(routed)
    Sync(store, wanted=False, complete=True).attempt()
    assert not Schedule.objects.using(routed).exists()
    wanted = Sync(store, wanted=True, complete=True)
    with monkeypatch.context() as patch:
        patch.setattr(store, "alias", "postgresql_that_is_away")
        connections.settings["postgresql_that_is_away"] = {
            **connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": "/no/such/folder/file"
        }  # fmt: skip
        wanted.attempt()
        connections["postgresql_that_is_away"].close()
        del connections["postgresql_that_is_away"]
        del connections.settings["postgresql_that_is_away"]
    assert not Schedule.objects.using(routed).exists()
    wanted.attempt()
    assert Schedule.objects.using(routed).count() == 1


def test_the_overview_shows_what_comes_next_first(hourly: Store) -> None:
    """Name, task, rhythm, zone, rule, where it is from, its latest and its next moments."""
    declare(
        Declaration("0 3 1 1 *", args=[5], timezone="Europe/Berlin", name="yearly", catch_up="none"),
        Declaration(timedelta(minutes=5), args=[1], name="often"),
    )
    sync(hourly)
    Ticking(hourly, told=False).turn()
    often, yearly = overview(hourly, count=2)
    assert (often.name, often.rhythm, often.timezone, often.catch_up) == ("often", "every 0:05:00", "", "latest")
    assert often.next_at[1] - often.next_at[0] == timedelta(minutes=5)
    assert (yearly.rhythm, yearly.timezone, yearly.catch_up, yearly.from_code) == (
        "0 3 1 1 *", "Europe/Berlin", "none", True
    )  # fmt: skip
    assert [moment.astimezone(UTC).hour for moment in yearly.next_at] == [2, 2]
    assert (yearly.task, yearly.enabled, yearly.last_at, yearly.trouble) == (
        f"{scheduled.__module__}.scheduled",
        True,
        None,
        "",
    )
