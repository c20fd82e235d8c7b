"""Figures of queues and tasks: what waits, runs and has ended lately, and what is only "at least"."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db.models import F

from jobsup import changes
from jobsup.figures import Counted, Figures, figures, percentile, read
from jobsup.models import Job
from tests.db.rows import NOOP, begin, claimed, failure, put, success
from tests.db.test_jobs_queries import aged
from tests.db.test_plans import filled, plans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsup.store import Store


def by_queue(counted: Counted) -> dict[str, Figures]:
    """Return the figures of the queues."""
    return {own.name: own for own in figures(counted, "queue")}


def test_everything_is_counted_where_it_belongs(store: Store) -> None:
    """Per queue and per task; what ended longer ago than an hour is left out."""
    run = begin(store)
    for ago_s in (0, 600, 7200):
        pk = claimed(store, run)
        store.finish(run, [success(pk)])
        aged(store, pk, finished_at=ago_s, last_attempted_at=ago_s)
    broken, cancelled = claimed(store, run), claimed(store, run)
    store.finish(run, [failure(broken)])
    Job.objects.using(store.alias).filter(pk=cancelled).update(status=5, finished_at=store.sql.now())
    claimed(store, run, queue="other")
    oldest, _ = put(store, 2, queue="other")
    aged(store, oldest, enqueued_at=100)
    put(store, run_after=store.sql.now() + timedelta(hours=1), task="a.b")
    counted = read(store)
    default, other = by_queue(counted)["default"], by_queue(counted)["other"]
    assert (default.ready, default.scheduled, default.running, default.oldest_ready_s) == (0, 1, 0, None)
    assert (default.done_minute, default.done_hour, default.failed_hour, default.cancelled_hour) == (1, 2, 1, 1)
    assert default.mean_s == pytest.approx(2.0, abs=0.1), "as long as rows.success lets them run"
    assert default.p95_s == pytest.approx(2.0, abs=0.1)
    assert (other.ready, other.running, other.done_hour) == (2, 1, 0)
    assert other.oldest_ready_s is not None
    assert 100 <= other.oldest_ready_s < 130
    assert default.at_least == other.at_least == []
    tasks = {own.name: own for own in figures(counted, "task")}
    assert set(tasks) == {NOOP, "a.b"}
    assert (tasks["a.b"].scheduled, tasks[NOOP].ready, tasks[NOOP].running) == (1, 2, 1)


def test_a_job_waits_since_it_could_have_run(store: Store) -> None:
    """Not since it was enqueued for later, nor while an earlier attempt ran."""
    now = store.sql.now()
    [due], [lost] = put(store, task="a.due", run_after=now), put(store, task="a.lost")
    [idle] = put(store, task="a.idle", run_after=now)
    Job.objects.using(store.alias).filter(pk=lost).update(last_attempted_at=now)
    aged(store, due, enqueued_at=864_000, run_after=50)
    aged(store, lost, enqueued_at=864_000, last_attempted_at=60)
    aged(store, idle, enqueued_at=70, run_after=864_000)
    counted = read(store)
    found = {own.name: own.oldest_ready_s or 0.0 for own in figures(counted, "task")}
    assert found == pytest.approx({"a.due": 50, "a.lost": 60, "a.idle": 70}, abs=25)
    assert by_queue(counted)["default"].oldest_ready_s == pytest.approx(70, abs=25)


def test_what_is_tried_anew_waits_since_then(store: Store) -> None:
    """However long ago it failed; else the doctor would look for whoever should have served it."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [failure(pk)])
    aged(store, pk, enqueued_at=864_000, last_attempted_at=864_000, finished_at=864_000)
    assert changes.retry(store, [pk]) == [pk]
    assert by_queue(read(store))["default"].oldest_ready_s == pytest.approx(0, abs=60)


def test_nothing_is_counted_beyond_its_bound(store: Store) -> None:
    """What reaches it is only "at least"; another queue is not touched by that."""
    put(store, 5)
    put(store, 2, queue="other")
    put(store, 4, run_after=store.sql.now() + timedelta(hours=1))
    counted = by_queue(read(store, most=4))
    assert (counted["default"].ready, counted["default"].scheduled) == (4, 4)
    assert sorted(counted["default"].at_least) == ["ready", "scheduled"]
    assert (counted["other"].ready, counted["other"].at_least) == (2, [])


def test_more_may_have_ended_than_was_looked_at(store: Store) -> None:
    """Then it is told."""
    run = begin(store)
    for _ in range(3):
        store.finish(run, [success(claimed(store, run))])
    assert by_queue(read(store, most=3))["default"].at_least == ["done_hour", "done_minute"]
    assert by_queue(read(store, most=4))["default"].at_least == []
    Job.objects.using(store.alias).update(finished_at=F("finished_at") - timedelta(hours=2))
    assert by_queue(read(store, most=3)) == {}


def test_an_empty_table_has_no_figures(store: Store) -> None:
    """Nothing to show, and nothing breaks."""
    assert figures(read(store), "queue") == figures(read(store), "task") == []


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([1.0], 95, 1.0), ([3.0, 1.0, 2.0], 50, 2.0), ([float(n) for n in range(1, 101)], 95, 95.0), ([1.0, 2.0], 100, 2)],
)
def test_the_percentile_is_a_value_that_occurred(values: list[float], percent: float, expected: float) -> None:
    """By the nearest rank."""
    assert percentile(values, percent) == expected


@pytest.fixture(scope="module")
def long_sqlite(sqlite_template: object) -> Iterator[Store]:
    """A SQLite table with many jobs."""
    with filled("default") as store:
        yield store


@pytest.fixture(scope="module")
def long_postgresql(postgresql_template: object, sqlite_template: object) -> Iterator[Store]:
    """A PostgreSQL table with many jobs."""
    with filled("postgresql") as store:
        yield store


def test_p3_the_bound_is_in_every_statement_on_postgresql(long_postgresql: Store) -> None:
    """However long the table is, no statement reads more than its bound: it walks an index and stops."""
    for plan in plans(long_postgresql, lambda: read(long_postgresql, most=100, timed=100), "EXPLAIN (FORMAT JSON)"):
        assert "Seq Scan" not in plan.text or '"Limit"' in plan.text, f"{plan.sql}\n{plan.text}"


def test_p3_the_bound_is_in_every_statement_on_sqlite(long_sqlite: Store) -> None:
    """The same."""
    for plan in plans(long_sqlite, lambda: read(long_sqlite, most=100, timed=100), "EXPLAIN QUERY PLAN"):
        assert "SCAN jobsup_job" not in plan.text or "LIMIT" in plan.sql, f"{plan.sql}\n{plan.text}"
