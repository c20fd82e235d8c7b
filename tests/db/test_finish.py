"""The ends of attempts: fenced, repeatable, several in one statement; only failures write more than one row."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import DatabaseError

from jobsup import runs
from jobsup.models import FailedAttempt, Job, Status
from tests.db.rows import (
    WORKER,
    begin,
    claimed,
    failure,
    failures_of,
    make_due,
    put,
    row,
    silent_for,
    statements_of,
    success,
)
from tests.vendors import ON_ONE_STATEMENT

if TYPE_CHECKING:
    from jobsup.store import Outcome, Store

HALF_A_SECOND = timedelta(seconds=0.5)


def test_a_success_is_recorded_with_its_times_by_the_databases_clock(store: Store) -> None:
    """The worker says how long ago things were; the row says when."""
    run = begin(store)
    pk = claimed(store, run)
    now = store.sql.now()
    assert store.finish(run, [success(pk, result='{"a": 1}')]) == {pk}
    found = row(store, pk)
    assert (found.status, found.result, found.worker, found.attempt) == (Status.SUCCESSFUL, '{"a": 1}', WORKER, 1)
    assert found.started_at is not None
    assert found.finished_at is not None
    assert found.started_at == found.last_attempted_at
    assert abs(found.started_at - (now - timedelta(seconds=3))) < HALF_A_SECOND
    assert abs(found.finished_at - (now - timedelta(seconds=1))) < HALF_A_SECOND
    assert failures_of(store, pk) == []


def test_a_failure_is_recorded_with_its_reason(store: Store) -> None:
    """One row tells which attempt failed, where, when and why."""
    run = begin(store)
    pk = claimed(store, run)
    assert store.finish(run, [failure(pk, words="What went wrong")]) == {pk}
    found = row(store, pk)
    [told] = failures_of(store, pk)
    assert (found.status, found.result) == (Status.FAILED, None)
    assert (told.attempt, told.worker) == (1, WORKER)
    assert (told.exception_class_path, told.traceback) == ("builtins.ValueError", "What went wrong")
    assert told.started_at == found.started_at
    assert abs(told.ended_at - store.sql.now()) < timedelta(seconds=2)


@ON_ONE_STATEMENT
def test_the_success_path_is_three_statements(store: Store) -> None:
    """One INSERT, one claim UPDATE and one finish UPDATE, none of them in a transaction block."""
    run = begin(store)
    with statements_of(store.alias) as statements:
        pks = put(store)
        store.claim(run, ["default"], 1)
        store.finish(run, [success(pk) for pk in pks])
    assert len(statements) == 3, statements


def test_many_ends_are_one_statement(store: Store) -> None:
    """A hundred successes are recorded at once."""
    run = begin(store)
    pks = put(store, 100)
    store.claim(run, None, 100)
    with statements_of(store.alias) as statements:
        assert store.finish(run, [success(pk) for pk in pks]) == set(pks)
    assert len(statements) == 1, statements


@pytest.mark.parametrize("longest", [255, 256, 100_000])
def test_results_of_any_length_share_a_statement(store: Store, longest: int) -> None:
    """A server may take short ones another way."""
    run = begin(store)
    pks = put(store, 3)
    store.claim(run, None, 3)
    results = [f'"{char * (length - 2)}"' for char, length in (("a", 2), ("\N{GRINNING FACE}", 255), ("é", longest))]
    ends = [success(pk, result=result) for pk, result in zip(pks, results, strict=True)]
    assert store.finish(run, ends) == set(pks)
    assert [row(store, pk).result for pk in pks] == results


def test_a_batch_mixes_successes_and_failures(store: Store) -> None:
    """Each job gets its own end; only the failures write failed attempts."""
    run = begin(store)
    pks = put(store, 5)
    store.claim(run, None, 5)
    good, bad, again, bad_too, good_too = pks
    ends = [success(good), failure(bad), failure(again, retry_in_s=60), failure(bad_too), success(good_too)]
    assert store.finish(run, ends) == set(pks)
    assert [row(store, pk).status for pk in pks] == [
        Status.SUCCESSFUL,
        Status.FAILED,
        Status.SCHEDULED,
        Status.FAILED,
        Status.SUCCESSFUL,
    ]
    told = FailedAttempt.objects.using(store.alias).order_by("job").values_list("job", flat=True)
    assert list(told) == [bad, again, bad_too]


def test_p6_a_zombie_cannot_finish_a_job_that_was_given_away(store: Store) -> None:
    """A run that was declared lost is refused, and the job's new owner is not."""
    zombie, heir = begin(store), begin(store)
    pk = claimed(store, zombie)
    silent_for(store, zombie, 31)
    runs.recover(store, heir, "")
    assert store.claim(heir, None, 1) == [pk]
    assert store.finish(zombie, [success(pk, 1), success(pk, 2)]) == set()
    assert row(store, pk).status == Status.RUNNING
    assert store.finish(heir, [success(pk, 2, "true")]) == {pk}
    assert row(store, pk).result == "true"


def test_p6_an_earlier_attempt_of_the_same_run_is_refused(store: Store) -> None:
    """The run alone is not enough: the attempt has to match too."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [failure(pk, 1, retry_in_s=-1)])
    store.sql.promote()
    assert store.claim(run, None, 1) == [pk]
    assert store.finish(run, [success(pk, 1)]) == set()
    assert row(store, pk).status == Status.RUNNING
    assert store.finish(run, [success(pk, 2)]) == {pk}


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.RUNNING}), ids=lambda status: status.name.lower())
def test_f47_a_row_changed_by_hand_is_not_finished(store: Store, status: Status) -> None:
    """Whatever somebody made of a running job stays."""
    run = begin(store)
    pk = claimed(store, run)
    Job.objects.using(store.alias).filter(pk=pk).update(status=status)
    before = row(store, pk)
    store.finish(run, [failure(pk)])
    store.finish(run, [success(pk, result='"late"')])
    assert row(store, pk) == before
    assert failures_of(store, pk) == []


def test_f47_a_deleted_row_is_refused_and_the_others_are_not(store: Store) -> None:
    """A job that is gone does not hold up the batch that it ended in."""
    run = begin(store)
    gone, there = put(store, 2)
    store.claim(run, None, 2)
    Job.objects.using(store.alias).filter(pk=gone).delete()
    assert store.finish(run, [failure(gone), success(there)]) == {there}
    assert row(store, there).status == Status.SUCCESSFUL
    assert failures_of(store, gone) == []


def test_p8_finishing_again_changes_nothing(store: Store) -> None:
    """After a commit whose answer was lost the same end may be written again."""
    run = begin(store)
    good, bad = put(store, 2)
    store.claim(run, None, 2)
    ends = [success(good, result="1"), failure(bad)]
    store.finish(run, ends)
    before = [row(store, good), row(store, bad)]
    store.finish(run, ends)
    assert [row(store, good), row(store, bad)] == before
    assert len(failures_of(store, bad)) == 1


def test_p8_a_repeated_end_is_known_as_ones_own(store: Store) -> None:
    """The repeat of an end that is there already counts as accepted: nobody else accounts for that job."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [success(pk)])
    assert store.finish(run, [success(pk)]) == {pk}
    assert store.finish(run, [failure(pk)]) == set(), "another end of the same attempt"
    assert store.finish(run + 1, [success(pk)]) == set(), "another run's"


def test_a_retry_is_due_by_the_databases_clock(store: Store) -> None:
    """The job waits for exactly its delay, its failure is told and its attempt stays counted."""
    run = begin(store)
    pk = claimed(store, run)
    before = store.sql.now()
    store.finish(run, [failure(pk, retry_in_s=90)])
    after = store.sql.now()
    found = row(store, pk)
    assert (found.status, found.attempt, found.finished_at) == (Status.SCHEDULED, 1, None)
    assert found.run_after is not None
    ninety = timedelta(seconds=90)
    assert before + ninety <= found.run_after <= after + ninety
    assert len(failures_of(store, pk)) == 1


def test_started_at_is_the_first_attempts_and_last_attempted_at_the_last_ones(store: Store) -> None:
    """A second attempt leaves `started_at` alone."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [failure(pk, retry_in_s=-1)])
    first = row(store, pk).started_at
    store.sql.promote()
    store.claim(run, None, 1)
    store.finish(run, [success(pk, 2)])
    found = row(store, pk)
    assert found.started_at == first
    assert found.last_attempted_at is not None
    assert first is not None
    assert found.last_attempted_at > first


def test_what_an_earlier_attempt_left_behind_stays_told(store: Store) -> None:
    """The next one, which was tidy, does not make it undone; one that was not has the last word."""

    def left(outcome: Outcome, words: str) -> Outcome:
        return outcome._replace(row=outcome.row._replace(left_behind=words))

    def told() -> str | None:
        return Job.objects.using(store.alias).get(pk=pk).left_behind

    run = begin(store)
    pk = claimed(store, run, max_attempts=3)
    store.finish(run, [left(failure(pk, retry_in_s=1), "a mess")])
    make_due(store, pk)
    assert store.claim(run, None, 1) == [pk]
    store.finish(run, [failure(pk, 2, retry_in_s=1)])
    assert told() == "a mess"
    make_due(store, pk)
    assert store.claim(run, None, 1) == [pk]
    store.finish(run, [left(success(pk, 3), "another mess")])
    assert told() == "another mess"


def test_an_attempt_set_back_by_hand_can_fail_again(store: Store) -> None:
    """A job that somebody put back with its old attempt number still gets an account; the newest one stands."""
    run = begin(store)
    pk = claimed(store, run)
    store.finish(run, [failure(pk, words="the first time")])
    Job.objects.using(store.alias).filter(pk=pk).update(status=Status.READY, attempt=0)
    store.claim(run, None, 1)
    assert store.finish(run, [failure(pk, words="the second time")]) == {pk}
    assert [told.traceback for told in failures_of(store, pk)] == ["the second time"]


def test_a_batch_is_all_or_nothing(store: Store) -> None:
    """When the failure of one job cannot be written, the end of the other is not half recorded either."""
    run = begin(store)
    good, bad = put(store, 2)
    store.claim(run, None, 2)
    unfit = failure(bad)
    object.__setattr__(unfit.failure, "traceback", None)
    with pytest.raises(DatabaseError):
        store.finish(run, [success(good), unfit])
    assert {row(store, pk).status for pk in (good, bad)} == {Status.RUNNING}


def test_a_given_back_job_is_ready_and_its_attempt_is_not_counted(store: Store) -> None:
    """Claimed and never started is as if never claimed."""
    run = begin(store)
    before = row(store, put(store)[0])
    store.claim(run, None, 1)
    store.release(run, [before.id])
    assert row(store, before.id) == before


def test_only_own_running_jobs_are_given_back(store: Store) -> None:
    """Those of others, finished ones and unknown ones stay as they are."""
    run, other = begin(store), begin(store)
    theirs = claimed(store, other)
    done = claimed(store, run)
    store.finish(run, [success(done)])
    mine = claimed(store, run)
    before = [row(store, theirs), row(store, done)]
    store.release(run, [theirs, done, mine, 10**9])
    assert [row(store, theirs), row(store, done)] == before
    assert row(store, mine).status == Status.READY


def test_a_long_job_is_shown_as_running(store: Store) -> None:
    """The mark says who and since when; only the owner can set it, and only on a running job."""
    run = begin(store)
    pk = claimed(store, run)
    store.mark_running(run + 1, pk, "somebody", 1.0)
    assert row(store, pk).worker == ""
    store.mark_running(run, pk, WORKER, 5.0)
    found = row(store, pk)
    assert found.worker == WORKER
    assert found.started_at is not None
    assert found.started_at == found.last_attempted_at
    assert abs(store.sql.now() - found.started_at - timedelta(seconds=5)) < HALF_A_SECOND
    store.finish(run, [success(pk)])
    finished = row(store, pk)
    store.mark_running(run, pk, "somebody", 1.0)
    assert row(store, pk) == finished
