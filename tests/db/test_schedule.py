"""Times: what is due and when, by the database's clock, whatever USE_TZ and TIME_ZONE say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connections
from django.test import override_settings
from django.utils import timezone

from jobsup import runs
from jobsup.models import Job, Status
from jobsup.store import Store
from tests.db.rows import (
    begin,
    claimed,
    failure,
    failures_of,
    loss,
    make_due,
    put,
    row,
    silent_for,
    success,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

A_MOMENT = timedelta(seconds=5)
PLACES = [(True, "UTC"), (True, "Asia/Kathmandu"), (False, "UTC"), (False, "America/New_York")]


def test_nothing_scheduled_is_due_at_no_time(store: Store) -> None:
    """Ready jobs do not count."""
    put(store)
    assert store.sql.next_due_s() is None
    assert store.sql.promote() == 0


def test_the_next_due_is_the_earliest(store: Store) -> None:
    """In seconds from now, negative when it is overdue."""
    now = store.sql.now()
    put(store, run_after=now + timedelta(hours=2))
    put(store, run_after=now + timedelta(seconds=90))
    due_s = store.sql.next_due_s()
    assert due_s is not None
    assert 85 < due_s <= 90


def test_what_has_come_due_becomes_ready_and_nothing_else(store: Store) -> None:
    """Promoted jobs are claimed in the order of their priority and age like any other."""
    later = store.sql.now() + timedelta(hours=1)
    [far] = put(store, run_after=later)
    [near] = put(store, run_after=later)
    [urgent] = put(store, run_after=later, priority=1)
    make_due(store, near)
    make_due(store, urgent)
    assert [row(store, pk).status for pk in (far, near, urgent)] == [Status.SCHEDULED, Status.READY, Status.READY]
    assert store.claim(begin(store), None, 10) == [urgent, near]


def test_a_job_is_not_promoted_a_moment_too_early(store: Store) -> None:
    """As long as its time lies ahead by however little, a job stays scheduled."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [failure(pk, retry_in_s=0.2)])
    due_at = row(store, pk).run_after
    assert due_at is not None
    while not store.sql.promote():
        assert store.sql.now() - due_at < A_MOMENT
    assert store.sql.now() >= due_at
    assert row(store, pk).status == Status.READY


@pytest.fixture(params=PLACES, ids=[f"{'aware' if aware else 'naive'} {place}" for aware, place in PLACES])
def place(request: pytest.FixtureRequest, alias: str) -> Iterator[Store]:
    """The store on each database, in several time zones, with and without USE_TZ."""
    aware, name = request.param
    with override_settings(USE_TZ=aware, TIME_ZONE=name):
        yield Store(alias)


def near_now(moment: datetime | None, after: timedelta = timedelta()) -> bool:
    """Tell whether this is now, or `after` from now, as this project's settings write it."""
    return moment is not None and abs(moment - timezone.now() - after) < A_MOMENT


def test_times_are_right_in_every_time_zone(place: Store) -> None:
    """A job's times are those of Django's own timezone.now(), aware or naive as USE_TZ says."""
    assert near_now(place.sql.now())
    run = begin(place)
    pk = claimed(place, run)
    place.mark_running(run, pk, "somebody", 1.0)
    assert near_now(row(place, pk).last_attempted_at)
    place.finish(run, [failure(pk, retry_in_s=60)])
    assert near_now(row(place, pk).run_after, timedelta(seconds=60))
    assert near_now(failures_of(place, pk)[0].ended_at)
    make_due(place, pk)
    place.claim(run, None, 1)
    place.finish(run, [success(pk, 2)])
    found = row(place, pk)
    for moment in (found.enqueued_at, found.started_at, found.last_attempted_at, found.finished_at):
        assert near_now(moment), moment


def test_planned_times_are_right_in_every_time_zone(place: Store) -> None:
    """A time within the hour decides rightly between waiting and running, however far off UTC the place is."""
    hour = timedelta(hours=1)
    [later] = put(place, run_after=timezone.now() + hour)
    [due] = put(place, run_after=timezone.now() - hour)
    assert [row(place, pk).status for pk in (later, due)] == [Status.SCHEDULED, Status.READY]
    assert near_now(row(place, later).run_after, hour)
    due_s = place.sql.next_due_s()
    assert due_s is not None
    assert 3590 < due_s <= 3600
    assert place.sql.promote() == 0
    make_due(place, later)


def test_times_are_right_where_the_database_has_a_time_zone_of_its_own(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATABASES["TIME_ZONE"] says how another program's times are stored; ours are stored and read like them."""
    connection = connections[alias]
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "TIME_ZONE", "Asia/Tokyo")
        for name in ("timezone", "timezone_name"):
            patch.setitem(vars(connection), name, None)
            del vars(connection)[name]
        store = Store(alias)
        [later] = put(store, run_after=timezone.now() + timedelta(hours=1))
        assert near_now(row(store, later).run_after, timedelta(hours=1))
        assert near_now(row(store, later).enqueued_at)
        assert near_now(Job.objects.using(alias).get(pk=later).enqueued_at)
        assert store.sql.promote() == 0
        due_s = store.sql.next_due_s()
        assert due_s is not None
        assert 3590 < due_s <= 3600
        connection.close()
        for name in ("timezone", "timezone_name"):
            vars(connection).pop(name, None)


def test_leases_are_right_in_every_time_zone(place: Store) -> None:
    """A live run is not lost, a silent one is."""
    run, me = begin(place), begin(place)
    pk = claimed(place, run)
    assert place.beat(run, "running")
    assert runs.recover(place, me, "") == []
    silent_for(place, run, 31)
    assert [account.pk for account in runs.recover(place, me, "")] == [pk]
    place.claim(me, None, 1)
    place.lost(me, [loss(pk)])
    assert near_now(row(place, pk).run_after, timedelta(seconds=2))
