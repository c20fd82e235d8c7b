"""Leases in the tables: who is over, what never began, how runs of different versions share, and clocks that jump.

The codes are those of the list of traps.
"""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from jobsup import runs
from jobsup.models import Status, Supervisor
from jobsup.store import Store
from spawnpool.errors import SourceRefused
from tests.db.rows import begin, claimed, failures_of, row, silent_for, success
from tests.db.test_jobs_doctor import findings

BEFORE = (
    "INSERT INTO jobsup_supervisor (name, node, runfile, pid, state, lease_s, started_at, beat_at) "
    "VALUES ('old', 'node', 'old file', 100, 'running', 30, {now}, {now})"
)
"""As the version before registers a run."""


def begin_as_before(store: Store) -> int:
    """Register a run as the version before does; return its id."""
    with store.sql.connection.cursor() as cursor:
        now = {"sqlite": "datetime('now')", "mysql": "UTC_TIMESTAMP(6)"}.get(store.sql.connection.vendor, "now()")
        cursor.execute(BEFORE.format(now=now))
    return Supervisor.objects.using(store.alias).latest("pk").pk


def state_of(store: Store, run: int) -> str:
    """Return the state of a run."""
    return Supervisor.objects.using(store.alias).get(pk=run).state


# ---- versions


def test_runs_of_this_version_and_of_the_one_before_share_a_queue(store: Store) -> None:
    """Each claims, ends and recovers as it does with its like; the protocol stands on the row."""
    old, new = begin_as_before(store), begin(store)
    protocols = Supervisor.objects.using(store.alias).values_list("pk", "protocol")
    assert dict(protocols) == {old: 1, new: runs.PROTOCOL}
    assert findings(store)["versions"].words.endswith("by protocol 1 (such as old on node), 2 (such as one on node)")
    theirs, ours = claimed(store, old), claimed(store, new)
    assert store.beat(old, "running")
    assert store.finish(new, [success(ours)]) == {ours}
    silent_for(store, old, 31)
    [account] = runs.recover(store, new, "new file")
    assert (account.pk, state_of(store, old)) == (theirs, "lost")
    assert not store.beat(old, "running")
    assert store.finish(old, [success(theirs)]) == set()


def test_a_run_beside_one_of_a_protocol_that_is_not_known_is_refused_in_words(store: Store) -> None:
    """As long as that one is alive, and not where its own run file is held by whoever begins."""
    strange = begin(store, runfile="strange")
    found = Supervisor.objects.using(store.alias).filter(pk=strange)
    found.update(protocol=runs.PROTOCOL + 1)
    words = (
        rf"supervisor one on node \(run {strange}\) is alive and shares the tables by protocol 3, and this version of "
        r"jobsup knows 1 and 2 only: upgrade jobsup here, or stop that one first"
    )
    with pytest.raises(SourceRefused, match=words):
        begin(store)
    begin(store, runfile="strange")
    silent_for(store, strange, 31)
    begin(store)


# ---- what never began


def test_what_a_dead_predecessor_never_began_goes_back_uncounted(store: Store) -> None:
    """What had begun counts, also if its end was not recorded; a job that may begin once is not failed unbegun."""
    dead = begin(store, runfile="same")
    begun, fresh = claimed(store, dead, max_attempts=1), claimed(store, dead, max_attempts=1)
    cancelled = claimed(store, dead)
    store.cancel([cancelled])
    heir = begin(store, runfile="same")
    asked: list[int] = []

    def noted(run: Supervisor) -> frozenset[int]:
        asked.append(run.pk)
        return frozenset({begun, 10**9})

    [account] = runs.recover(store, heir, "same", begun=noted)
    assert asked == [dead]
    assert (account.pk, account.status) == (begun, Status.FAILED)
    assert f"ended without a word while it owned job {begun} " in failures_of(store, begun)[0].traceback
    assert failures_of(store, begun)[0].traceback.endswith(", attempt 1 of 1, which had begun")
    assert (row(store, fresh).status, row(store, fresh).attempt, failures_of(store, fresh)) == (Status.READY, 0, [])
    assert (row(store, cancelled).status, row(store, cancelled).attempt) == (Status.CANCELLED, 0)
    assert store.claim(heir, None, 9) == [fresh]


def test_an_attempt_of_which_nobody_knows_whether_it_began_counts(store: Store) -> None:
    """Where the file is not there, and for whoever takes over from another machine: a job begins once at most."""
    dead = begin(store, runfile="same")
    once, again = claimed(store, dead, max_attempts=1), claimed(store, dead)
    elsewhere = begin(store)
    silent_for(store, dead, 31)
    accounts = runs.recover(store, elsewhere, "another", begun=lambda run: pytest.fail("its workers may be alive"))
    assert {account.pk: account.status for account in accounts} == {once: Status.FAILED, again: Status.READY}
    assert failures_of(store, once)[0].traceback.endswith("which may have been running")
    assert row(store, again).attempt == 1


# ---- clocks


def test_p5_s7_fault_40_a_clock_that_is_set_by_a_day_ends_no_lease(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and back. Those who live beat by the new clock; who does not is over one lease later."""
    store = Store(alias)
    alive, dead, looks = begin(store), begin(store), begin(store)
    real_time, real_now, monotonic = time.time, timezone.now, time.monotonic

    def lost() -> list[int]:
        runs.recover(store, looks, "another")
        return [run for run in (alive, dead) if state_of(store, run) == "lost"]

    for ahead in (timedelta(days=1), timedelta(0)):
        with monkeypatch.context() as patch:
            patch.setattr("jobsup.sql.wallclock.time.time", lambda ahead=ahead: real_time() + ahead.total_seconds())
            patch.setattr("django.utils.timezone.now", lambda ahead=ahead: real_now() + ahead)
            assert lost() == []
            assert store.beat(alive, "running")
            assert store.beat(looks, "running")
            assert lost() == []
            if alias == "default":  # elsewhere the database's own clock goes on undisturbed
                patch.setattr("jobsup.sql.wallclock.time.monotonic", lambda: monotonic() + 31)
                assert lost() == [dead]
                Supervisor.objects.using(alias).filter(pk=dead).update(state="running", beat_at=store.sql.now())
