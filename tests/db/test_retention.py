"""Retention: what ended long ago goes, with what belongs to it; nothing else, and nobody waits for it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from jobsup import conf, retention, runs
from jobsup.keep import DAY_S, Keep
from jobsup.models import FailedAttempt, Job, Status, Supervisor
from jobsup.retention import REST_S, Pace, Pruning, prune
from jobsup.sql.pruning import Step, prune_step
from tests.db.rows import begin, claimed, failure, put, success

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsup.store import Store
    from tests.db.rows import Session

WEEK_S = 7 * DAY_S
ALL_A_WEEK = Keep(WEEK_S, WEEK_S, WEEK_S)


def ended(store: Store, status: Status, days: float, **values: Any) -> int:
    """Put a job there that ended so many days ago."""
    [pk] = put(store)
    finished_at = store.sql.now() - timedelta(days=days)
    Job.objects.using(store.alias).filter(pk=pk).update(status=status, finished_at=finished_at, **values)
    return pk


def many(store: Store, count: int, days: float) -> None:
    """Put many jobs there that were successful so many days ago."""
    now = store.sql.now()
    jobs = [
        Job(task="t", queue="default", backend="default", arguments="{}", status=Status.SUCCESSFUL, enqueued_at=now,
            finished_at=now - timedelta(days=days))
        for _ in range(count)
    ]  # fmt: skip
    Job.objects.using(store.alias).bulk_create(jobs, batch_size=500)


@contextmanager
def impatient(alias: str) -> Iterator[None]:
    """Fail where somebody would have to wait for a lock."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 1")
        yield


def left(store: Store) -> list[int]:
    """Return the jobs that are there."""
    return list(Job.objects.using(store.alias).order_by("pk").values_list("pk", flat=True))


def test_each_end_has_a_time_of_its_own(store: Store) -> None:
    """None keeps them for ever."""
    keep = Keep(successful=DAY_S, failed=2 * DAY_S, cancelled=None)
    for days in (0.5, 1.5, 2.5):
        for status in (Status.SUCCESSFUL, Status.FAILED, Status.CANCELLED):
            ended(store, status, days)
    assert prune(store, keep) == 3
    found = Job.objects.using(store.alias).values_list("status", flat=True)
    assert [list(found).count(status) for status in (3, 4, 5)] == [1, 2, 3]


def test_what_has_not_ended_stays_however_old_it_is(store: Store) -> None:
    """Waiting, scheduled, running."""
    run = begin(store)
    claimed(store, run)
    put(store, 2)
    put(store, run_after=store.sql.now() + timedelta(days=1))
    Job.objects.using(store.alias).update(finished_at=store.sql.now() - timedelta(days=900))
    before = left(store)
    assert prune(store, Keep(0, 0, 0)) == 0
    assert left(store) == before


def test_what_its_task_says_goes_before_the_setting(store: Store) -> None:
    """Shorter and longer; unless whoever prunes wants otherwise."""
    short = ended(store, Status.SUCCESSFUL, 1, keep_s=3600)
    long = ended(store, Status.SUCCESSFUL, 30, keep_s=100 * 366 * 86400)
    usual = ended(store, Status.SUCCESSFUL, 1)
    assert prune(store, ALL_A_WEEK) == 1
    assert left(store) == [long, usual]
    assert prune(store, ALL_A_WEEK, own=False) == 1
    assert left(store) == [usual]
    assert short not in left(store)


def test_failed_attempts_go_with_their_jobs(store: Store) -> None:
    """And those of other jobs stay; the table's foreign key holds."""
    run = begin(store)
    old, young = claimed(store, run), claimed(store, run)
    store.finish(run, [failure(old), failure(young)])
    Job.objects.using(store.alias).filter(pk=old).update(finished_at=store.sql.now() - timedelta(days=8))
    assert prune(store, ALL_A_WEEK) == 1
    assert list(FailedAttempt.objects.using(store.alias).values_list("job_id", flat=True)) == [young]
    connections[store.alias].check_constraints()


def test_what_is_still_to_be_told_stays_for_a_day(store: Store) -> None:
    """A worker sends its signal; then it may go."""
    pk = ended(store, Status.FAILED, 0.1, untold=True)
    ended(store, Status.FAILED, 1.1, untold=True)
    prune(store, Keep(0, 0, 0))
    assert left(store) == [pk]


def test_a_look_removes_nothing(store: Store) -> None:
    """It tells how many would go, and how far it is."""
    for days in (1, 8, 9):
        ended(store, Status.SUCCESSFUL, days)
    told: list[tuple[int, int]] = []
    assert prune(store, ALL_A_WEEK, look=True, told=lambda seen, gone: told.append((seen, gone))) == 2
    assert told == [(3, 2)]
    assert len(left(store)) == 3


def test_tens_of_thousands_go_in_small_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bounded in what it looks at and in what it removes; gaps in the keys cost nothing."""
    monkeypatch.setattr(retention, "SPAN", 2000)
    monkeypatch.setattr(retention, "MOST", 700)
    many(store, 10_000, days=8)
    many(store, 3_000, days=1)
    Job.objects.using(store.alias).filter(pk__in=left(store)[1000:5000]).delete()
    told: list[tuple[int, int]] = []
    assert prune(store, ALL_A_WEEK, told=lambda seen, gone: told.append((seen, gone))) == 6000
    assert len(left(store)) == 3000
    assert all(0 <= other[1] - one[1] <= 700 for one, other in pairwise(told))
    assert len(told) < 25


def test_claims_and_ends_go_on_while_a_step_is_open(postgresql_store: Store, session: Session) -> None:
    """Nobody waits for it, however long its transaction takes. SQLite has one writer; there a step is short."""
    store = postgresql_store
    many(store, 50, days=8)
    run = begin(store)
    running = claimed(store, run)
    [waiting] = put(store)
    with session.atomic(store.alias):
        step = session(lambda: prune_step(store.sql, 0, ALL_A_WEEK, own=True, look=False, span=5000, most=1000))
        assert step.gone == 50
        with impatient(store.alias):
            assert store.claim(run, None, 5) == [waiting]
            assert store.finish(run, [success(running)]) == {running}
            assert put(store)


def test_what_somebody_has_locked_is_passed_over(postgresql_store: Store, session: Session) -> None:
    """Nobody is waited for: it goes with the next pass. One that was put back meanwhile stays."""
    store = postgresql_store
    one, other = ended(store, Status.FAILED, 60), ended(store, Status.FAILED, 60)
    with session.atomic(store.alias):
        session(lambda: Job.objects.using(store.alias).filter(pk=one).update(status=Status.READY))
        with impatient(store.alias):
            assert prune(store, ALL_A_WEEK) == 1
    assert left(store) == [one]
    assert other not in left(store)
    assert prune(store, ALL_A_WEEK) == 0


@pytest.fixture
def postgresql_store(postgresql: str) -> Store:
    """The store on PostgreSQL."""
    from jobsup.store import Store

    return Store(postgresql)


# -- the supervisors' part --------------------------------------------------------------------------------------------


class Clock:
    """A clock that is put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_only_the_oldest_supervisor_alive_prunes(store: Store) -> None:
    """When it has ended, the next one does, a minute later."""
    clock = Clock()
    first, second = begin(store), begin(store)
    pruning = {run: Pruning(store, ALL_A_WEEK, clock) for run in (first, second)}
    ended(store, Status.SUCCESSFUL, 8)
    clock.now += 10
    assert pruning[second].turn(second) == 0
    assert pruning[first].turn(first) == 1
    runs.end(store, first)
    ended(store, Status.SUCCESSFUL, 8)
    clock.now += REST_S
    assert pruning[second].turn(second) == 1


def test_an_idle_supervisor_does_a_step_a_minute(store: Store) -> None:
    """Two statements; in between none, and at first it has other things to do."""
    clock = Clock()
    run = begin(store)
    pruning = Pruning(store, ALL_A_WEEK, clock)
    pk = ended(store, Status.SUCCESSFUL, 8)
    assert pruning.turn(run) == 0
    assert left(store) == [pk]
    steps = 0
    for _ in range(1200):
        clock.now += 0.5
        due = clock.now >= pruning.due_at
        pruning.turn(run)
        steps += due
    assert 10 <= steps <= 11
    assert left(store) == []


def test_much_to_remove_is_removed_quickly_but_with_pauses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor has other duties: a fifth of its time at most."""
    monkeypatch.setattr(retention, "MOST", 100)
    clock = Clock()
    run = begin(store)
    pruning = Pruning(store, ALL_A_WEEK, clock)
    many(store, 1000, days=8)
    begun_at = clock.now = pruning.due_at
    while left(store):
        clock.now = max(clock.now, pruning.due_at)
        pruning.turn(run)
    assert clock.now - begun_at < 5


def test_the_pace_spreads_a_pass_over_an_hour_and_rests_a_minute() -> None:
    """Steps that only look are spread; a step that was slow makes the next ones smaller."""
    pace = Pace(Keep())
    step = Step(place=1, seen=5000, gone=0, full=False)
    full = step._replace(full=True, gone=1000)
    end = Step(place=None, seen=10, gone=0, full=False)
    assert pace.after(full, 0.02) == pytest.approx(0.08)
    for _ in range(358):
        assert pace.after(step, 0.005) == 1.0  # nobody knows yet how long the table is
    assert pace.after(end, 0.005) == pytest.approx(10.0)
    assert pace.after(step, 0.005) == pytest.approx(10.0)
    assert pace.after(end, 0.005) == REST_S
    assert pace.scale == 1.0
    for _ in range(20):
        pace.after(full, 0.2)
    assert pace.scale == 0.02
    assert pace.after(full, 0.2) == pytest.approx(0.8)
    for _ in range(20):
        pace.after(full, 0.001)
    assert pace.scale == 1.0


def test_runs_of_supervisors_that_are_over_stay_a_week(store: Store) -> None:
    """The next start removes them."""
    old = begin(store)
    runs.end(store, old)
    Supervisor.objects.using(store.alias).update(beat_at=store.sql.now() - timedelta(days=8))
    new = begin(store)
    assert list(Supervisor.objects.using(store.alias).values_list("pk", flat=True)) == [new]


def test_a_step_that_the_database_ends_is_tried_again_as_a_smaller_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute later; the supervisor waits for the database as for anything else."""
    clock = Clock()
    run = begin(store)
    pruning = Pruning(store, ALL_A_WEEK, clock)
    many(store, 3, days=8)
    clock.now = pruning.due_at
    with monkeypatch.context() as patch:
        patch.setattr("jobsup.sql.pruning._PG_PRUNE", "SELECT nonsense, %s, %s, %s, %s, %s, %s, %s")
        patch.setattr("jobsup.sql.pruning._LITE_SPAN", "SELECT nonsense, %s, %s")
        patch.setattr("jobsup.sql.pruning._MY_SPAN", "SELECT nonsense, %s, %s")
        with pytest.raises(DatabaseError):
            pruning.turn(run)
    assert pruning.due_at == clock.now + REST_S
    clock.now = pruning.due_at
    assert pruning.turn(run) == 3


# -- the setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Keep(None, None, None)),
        (timedelta(days=1), Keep(DAY_S, DAY_S, DAY_S)),
        (60, Keep(60.0, 60.0, 60.0)),
        ({}, Keep()),
        ({"failed": None, "successful": timedelta(hours=1)}, Keep(3600.0, None, 30 * DAY_S)),
    ],
)
def test_the_setting_is_one_duration_or_one_for_each_end(value: Any, expected: Keep) -> None:
    """What is left out has its default."""
    with override_settings(JOBSUP={"KEEP": value}):
        assert conf.load().keep == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7d", "JOBSUP['KEEP'] is '7d': expected seconds or a timedelta"),
        (True, "JOBSUP['KEEP'] is True: expected seconds or a timedelta"),
        (-1, "JOBSUP['KEEP'] is -1: must lie between 0 and 3162240000"),
        (
            {"done": 1},
            "JOBSUP['KEEP'] is {'done': 1}: 'done' is no end of a job; there are successful, failed, cancelled",
        ),
        ({"failed": "x"}, "JOBSUP['KEEP'] is {'failed': 'x'}: expected seconds or a timedelta"),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(value: Any, expected: str) -> None:
    """With its path."""
    with override_settings(JOBSUP={"KEEP": value}), pytest.raises(ImproperlyConfigured) as refused:
        conf.load()
    assert str(refused.value) == expected
