"""What becomes of jobs whose worker or whole supervisor ended: counted, told, tried again or failed, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from jobsup import runs
from jobsup.models import FailedAttempt, Job, Status, Supervisor
from jobsup.store import Store
from tests.db.rows import (
    WORKER,
    at_once,
    begin,
    claimed,
    failures_of,
    loss,
    make_due,
    put,
    row,
    silent_for,
    success,
)

FOREVER_S = 86400.0


def test_a_lost_attempt_counts_and_the_job_waits_before_the_next_one(store: Store) -> None:
    """The account names the worker and its end; the job is due after the first back-off."""
    run = begin(store)
    pk = claimed(store, run)
    before = store.sql.now()
    [account] = store.lost(run, [loss(pk)])
    found = row(store, pk)
    [told] = failures_of(store, pk)
    assert (found.status, found.attempt) == (Status.SCHEDULED, 1)
    assert found.run_after is not None
    assert timedelta(seconds=1) <= found.run_after - before < timedelta(seconds=2)
    assert (told.attempt, told.worker) == (1, WORKER)
    assert told.exception_class_path == "jobsup.errors.WorkerLost"
    assert told.traceback == "worker 1 (pid 100) was killed by SIGKILL"
    assert told.started_at is not None
    assert (account.pk, account.attempt, account.attempts_max, account.status) == (pk, 1, 5, Status.SCHEDULED)
    assert str(account) == f"job {pk} tests.testapp.tasks.noop, attempt 1 of 5"


@pytest.mark.parametrize(("declared", "limit"), [(3, 3), (None, 2)], ids=["max_attempts", "crash_attempts"])
def test_the_last_attempt_ends_the_job(alias: str, declared: int | None, limit: int) -> None:
    """A job that kills its worker each time fails at its limit, with an account of every attempt."""
    store = Store(alias, crash_attempts=2)
    run = begin(store)
    pk = claimed(store, run, max_attempts=declared)
    for attempt in range(1, limit):
        store.lost(run, [loss(pk)])
        assert row(store, pk).status == Status.SCHEDULED, attempt
        make_due(store, pk)
        store.claim(run, None, 1)
    [account] = store.lost(run, [loss(pk)])
    found = row(store, pk)
    assert (account.status, found.status, found.attempt) == (Status.FAILED, Status.FAILED, limit)
    assert found.finished_at is not None
    assert [told.attempt for told in failures_of(store, pk)] == list(range(1, limit + 1))


def test_a_stopped_job_goes_back_at_once(store: Store) -> None:
    """A job cut short by a stop was not the cause: it is ready, and still counted."""
    run = begin(store)
    pk = claimed(store, run)
    store.lost(run, [loss(pk, at_once=True)])
    assert (row(store, pk).status, row(store, pk).attempt) == (Status.READY, 1)
    assert store.claim(run, None, 1) == [pk]
    assert row(store, pk).attempt == 2


def test_jobs_that_the_run_does_not_own_are_left_alone(store: Store) -> None:
    """Those of others, finished ones and deleted ones get no account."""
    run, other = begin(store), begin(store)
    theirs, done, gone, mine = (claimed(store, owner) for owner in (other, run, run, run))
    store.finish(run, [success(done)])
    Job.objects.using(store.alias).filter(pk=gone).delete()
    before = [row(store, theirs), row(store, done)]
    accounts = store.lost(run, [loss(pk) for pk in (theirs, done, gone, mine)])
    assert [account.pk for account in accounts] == [mine]
    assert [row(store, theirs), row(store, done)] == before
    assert FailedAttempt.objects.using(store.alias).count() == 1


def test_a_loss_is_accounted_for_once(store: Store) -> None:
    """The same loss told twice changes nothing more."""
    run = begin(store)
    pk = claimed(store, run)
    store.lost(run, [loss(pk)])
    before = row(store, pk)
    assert store.lost(run, [loss(pk)]) == []
    assert row(store, pk) == before
    assert len(failures_of(store, pk)) == 1


def test_the_worker_that_was_seen_running_is_the_one_that_is_named(store: Store) -> None:
    """What the row already says about the worker is kept; an attempt of unknown start has none."""
    run = begin(store)
    seen, unseen = claimed(store, run), claimed(store, run)
    store.mark_running(run, seen, "node:worker 7", 1.0)
    store.lost(run, [loss(seen, ran_s=None), loss(unseen, ran_s=None)])
    assert failures_of(store, seen)[0].worker == "node:worker 7"
    assert failures_of(store, unseen)[0].worker == WORKER
    assert row(store, unseen).started_at is None


# ---- recovery


def test_the_next_holder_of_the_run_file_takes_over_at_once(store: Store) -> None:
    """Whoever holds the run file knows that the earlier run is over, however fresh its beat."""
    dead = begin(store, runfile="same", lease_s=FOREVER_S)
    pk = claimed(store, dead)
    heir = begin(store, runfile="same")
    [account] = runs.recover(store, heir, "same")
    found = row(store, pk)
    assert (account.pk, found.status, found.attempt) == (pk, Status.READY, 1)
    assert Supervisor.objects.using(store.alias).get(pk=dead).state == "lost"
    [told] = failures_of(store, pk)
    assert f"ended without a word while it owned {account}" in told.traceback
    assert f"(run {dead}) (pid 100)" in told.traceback
    assert store.claim(heir, None, 1) == [pk]


def test_p5_a_silent_run_is_lost_after_its_own_lease_and_not_before(store: Store) -> None:
    """Each run is judged by the lease on its row, by the database's clock."""
    short, long = begin(store, lease_s=30), begin(store, lease_s=300)
    of_short, of_long = claimed(store, short), claimed(store, long)
    me = begin(store)
    for run in (short, long):
        silent_for(store, run, 29)
    assert runs.recover(store, me, "mine") == []
    for run in (short, long):
        silent_for(store, run, 2)
    assert [account.pk for account in runs.recover(store, me, "mine")] == [of_short]
    assert row(store, of_long).status == Status.RUNNING


@pytest.mark.parametrize("days", [-1, 1])
def test_p5_the_clock_of_the_machine_decides_nothing(
    postgresql: str, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """A supervisor whose clock is a day off loses nobody's jobs, and keeps its own."""
    store = Store(postgresql)
    other, me = begin(store), begin(store)
    pk = claimed(store, other)
    wrong = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr(timezone, "now", lambda: wrong)
    assert store.beat(me, "running")
    assert runs.recover(store, me, "mine") == []
    assert runs.recover(store, other, "other") == []
    [later] = put(store, run_after=datetime.now(UTC) + timedelta(hours=1))
    assert row(store, later).status == Status.SCHEDULED
    assert store.sql.promote() == 0
    assert row(store, pk).status == Status.RUNNING
    store.finish(other, [success(pk)])
    finished_at = row(store, pk).finished_at
    assert finished_at is not None
    assert abs(finished_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_live_runs_keep_their_jobs(store: Store) -> None:
    """A run with a fresh beat is left alone, also by another run with another run file; a run never loses its own."""
    other, me = begin(store), begin(store, runfile="mine")
    theirs, mine = claimed(store, other), claimed(store, me)
    silent_for(store, me, 1000)
    assert runs.recover(store, me, "mine") == []
    assert {row(store, pk).status for pk in (theirs, mine)} == {Status.RUNNING}


def test_jobs_of_a_run_that_ended_or_that_nobody_knows_are_recovered(store: Store) -> None:
    """A run that said it was over, and one whose row was deleted, leave no claim without an owner (fault 7)."""
    ended, deleted, me = begin(store), begin(store), begin(store)
    pks = [claimed(store, ended), claimed(store, deleted)]
    runs.end(store, ended)
    Supervisor.objects.using(store.alias).filter(pk=deleted).delete()
    assert sorted(account.pk for account in runs.recover(store, me, "mine")) == pks
    assert {row(store, pk).status for pk in pks} == {Status.READY}


def test_a_job_that_takes_its_supervisor_down_each_time_fails_at_its_limit(alias: str) -> None:
    """Recovered jobs are counted like any other violent death."""
    store = Store(alias, crash_attempts=2)
    begun = [begin(store) for _ in range(3)]
    pk = claimed(store, begun[0])
    silent_for(store, begun[0], 31)
    runs.recover(store, begun[1], "")
    store.claim(begun[1], None, 1)
    silent_for(store, begun[1], 31)
    [account] = runs.recover(store, begun[2], "")
    assert (account.status, row(store, pk).status) == (Status.FAILED, Status.FAILED)


def test_recovery_works_through_many_jobs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs than one batch takes are all recovered, once; a second look finds nothing."""
    monkeypatch.setattr(runs, "RECOVER_BATCH", 20)
    dead, me = begin(store), begin(store)
    pks = put(store, 50)
    store.claim(dead, None, 50)
    silent_for(store, dead, 31)
    assert sorted(account.pk for account in runs.recover(store, me, "")) == pks
    assert runs.recover(store, me, "") == []
    assert FailedAttempt.objects.using(store.alias).count() == 50
    assert store.claim(me, None, 100) == pks


def test_p6_two_that_recover_at_once_count_each_job_once(store: Store) -> None:
    """Every job is in exactly one account and has exactly one failed attempt."""
    dead = begin(store)
    pks = put(store, 40)
    store.claim(dead, None, 40)
    silent_for(store, dead, 31)
    begun = [begin(store) for _ in range(4)]
    shares = at_once([lambda run=run: runs.recover(store, run, "") for run in begun])  # type: ignore[misc]
    assert sorted(account.pk for share in shares for account in share) == pks
    assert FailedAttempt.objects.using(store.alias).count() == 40
    assert {row(store, pk).attempt for pk in pks} == {1}


# ---- the runs themselves


def test_a_run_that_was_declared_lost_is_told_so_by_its_beat(store: Store) -> None:
    """The beat renews the lease until somebody else has taken over."""
    run, other = begin(store), begin(store)
    silent_for(store, run, 29)
    assert store.beat(run, "running")
    silent_for(store, run, 29)
    runs.recover(store, other, "")
    assert store.beat(run, "draining")
    assert Supervisor.objects.using(store.alias).get(pk=run).state == "draining"
    silent_for(store, run, 31)
    runs.recover(store, other, "")
    assert not store.beat(run, "running")
    assert Supervisor.objects.using(store.alias).get(pk=run).state == "lost"


def test_old_runs_are_forgotten_unless_they_own_jobs(store: Store) -> None:
    """A new run removes those that ended long ago; not those that live, ended lately or still own something."""
    old, lately, alive, owner = (begin(store) for _ in range(4))
    pk = claimed(store, owner)
    for run in (old, lately, owner):
        runs.end(store, run)
    for run in (old, alive, owner):
        silent_for(store, run, 8 * 86400)
    new = begin(store)
    left = set(Supervisor.objects.using(store.alias).values_list("pk", flat=True))
    assert left == {lately, alive, owner, new}
    assert row(store, pk).claimed_by == owner


def test_empty_means_that_nothing_is_ready_running_or_to_be_tried_again(store: Store) -> None:
    """A job that was only ever planned for later does not count; one that waits for its retry does."""
    run = begin(store)
    assert store.is_empty(None)
    put(store, run_after=store.sql.now() + timedelta(hours=1))
    assert store.is_empty(None)
    [pk] = put(store, queue="other")
    assert not store.is_empty(None)
    assert not store.is_empty(["other"])
    assert store.is_empty(["default"])
    store.claim(run, None, 1)
    assert not store.is_empty(["other"])
    store.lost(run, [loss(pk)])
    assert not store.is_empty(["other"])
    make_due(store, pk)
    store.claim(run, None, 1)
    store.finish(run, [success(pk, 2)])
    assert store.is_empty(None)


def test_f47_a_running_job_that_nobody_owns_goes_back_to_the_queue(store: Store) -> None:
    """A row edited by hand must not stay RUNNING for ever."""
    run = begin(store)
    (pk,) = put(store, 1)
    Job.objects.using(store.alias).filter(pk=pk).update(status=Status.RUNNING, claimed_by=None)
    runs.recover(store, run, "none")
    assert store.claim(run, ["default"], 1) == [pk]
