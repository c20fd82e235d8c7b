"""The receivers of `task_finished` are told of what no worker ended: once, by a worker, never by a supervisor."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from jobsup import runs
from jobsup.compat import TaskResultStatus, task_backends
from jobsup.errors import JobCancelled, WorkerLost
from jobsup.models import Job, Status
from jobsup.source import BEATS_PER_LOOK
from jobsup.store import Store
from jobsup.untold import adopt, take, untold_of
from spawnpool.bounds import NO_BOUNDS
from spawnpool.runfile import RunFile
from spawnpool.source import Loss
from spawnpool.states import Ended
from tests.db.rows import Session, at_once, begin, claimed, failures_of, loss, put, row, silent_for, statements_of
from tests.db.test_backend_runs import signals
from tests.db.test_source import Fed, emptied
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.db.bench import Bench

FAILED = TaskResultStatus.FAILED


@pytest.fixture
def fed(routed: str, tmp_path: Path) -> Iterator[Fed]:
    """A source on each database."""
    held = RunFile(tmp_path / "source.run")
    yield Fed(routed, held)
    held.release()


def ended(store: Store, run: int, **values: Any) -> int:
    """Return a job whose worker was killed at its last attempt."""
    pk = claimed(store, run, max_attempts=1, **values)
    store.lost(run, [loss(pk)])
    assert (row(store, pk).status, row(store, pk).untold) == (Status.FAILED, True)
    return pk


# ---- a worker tells


def test_a_worker_tells_how_a_job_ended_whose_worker_was_killed(bench: Bench) -> None:
    """With the error of the last attempt at hand, in a result that has all of them; the row stays as it is."""
    pk = ended(bench.store, bench.run)
    before = row(bench.store, pk)
    with signals() as heard:
        bench.play([pk])
    [(name, sender, status, error)] = heard
    assert (name, sender.__name__, status) == ("finished", "JobsupBackend", str(FAILED))
    assert (type(error), str(error)) == (WorkerLost, "worker 1 (pid 100) was killed by SIGKILL")
    assert row(bench.store, pk) == before._replace(untold=False)
    assert bench.settled_keys == [pk]
    with signals() as heard:
        bench.play([pk])
    assert heard == [], "once"


def test_the_telling_has_no_limits_of_the_jobs(bench: Bench) -> None:
    """It is over, and its time with it."""
    result = tasks.noop.using(timeout=0.001, memory_limit="1M", max_attempts=1).enqueue()
    bench.store.lost(bench.run, [loss(*bench.claim())])
    bench.runner.load([int(result.id)])
    assert bench.runner.bounds(int(result.id)) == NO_BOUNDS


@pytest.mark.parametrize(
    "change",
    [
        lambda jobs, _run: jobs.update(claimed_by=10**6),
        lambda jobs, _run: jobs.update(untold=False),
        lambda jobs, run: jobs.update(status=Status.READY, claimed_by=run),
        lambda jobs, _run: jobs.delete(),
    ],
    ids=["adopted", "told", "tried anew", "pruned"],
)
def test_what_somebody_else_has_taken_meanwhile_is_not_told_of(
    bench: Bench, change: Callable[[Any, int], object]
) -> None:
    """Though this worker has loaded it already."""
    pk = ended(bench.store, bench.run)
    bench.runner.load([pk])
    bench.runner.run(pk)
    change(Job.objects.using(bench.alias).filter(pk=pk), bench.run)
    with signals() as heard:
        bench.runner.tidy()
        bench.runner.flush()
    assert heard == []


def test_a_task_that_is_gone_is_told_of_in_the_log_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody knows who would have been told."""
    pk = ended(bench.store, bench.run, task="tests.testapp.tasks.gone")
    with signals() as heard:
        bench.play([pk])
    assert heard == []
    assert f"job {pk} is recorded, but telling so failed: jobsup.errors.TaskNotFound" in caplog.text
    assert not row(bench.store, pk).untold


def test_those_who_tell_at_once_tell_of_each_job_once(store: Store) -> None:
    """Whoever takes it has it."""
    run = begin(store)
    pks = [ended(store, run) for _ in range(10)]
    shares = at_once([lambda: take(store, pks, run) for _ in range(4)])
    assert sorted(pk for share in shares for pk in share) == pks
    assert take(store, pks) == set()


def test_who_takes_what_another_is_just_taking_gets_nothing(store: Store, session: Session) -> None:
    """He waits until that is certain."""
    run = begin(store)
    pk = ended(store, run)
    with Session() as slower:
        with session.atomic(store.alias):
            assert session(lambda: take(store, [pk], run)) == {pk}
            second = slower.begin(lambda: take(store, [pk], run))
            assert not wait([second], 0.3).done
        assert second.result(30) == set()


# ---- a supervisor has its workers tell


def test_the_source_hands_over_what_is_to_be_told_once(fed: Fed) -> None:
    """Before any other work, no more than was asked for; each once, as long as its worker lives."""
    pks = put(fed.store, 3, max_attempts=1)
    assert fed.source.claim(5).pks == pks
    emptied(fed)
    for pk in pks:
        fed.killed(pk)
    assert not fed.source.is_empty()
    [other] = put(fed.store)
    assert fed.source.claim(2).pks == pks[:2]
    assert fed.source.claim(2).pks == pks[2:]
    assert fed.source.claim(2).pks == [other]
    fed.killed(other)
    assert fed.source.claim(2).pks == []
    assert fed.source.strays([]) == []


def test_a_worker_that_dies_before_it_took_them_leaves_them_to_the_next(fed: Fed) -> None:
    """By its death, or given back; what it had taken is not handed out again."""
    pks = put(fed.store, 3, max_attempts=1)
    fed.source.claim(5)
    for pk in pks:
        fed.killed(pk)
    assert fed.source.claim(5).pks == pks
    dead, back, told = pks
    take(fed.store, [told], fed.run)
    fed.source.lost([Loss(pk, 1, 100, "was killed", 0.0, Ended.DIED) for pk in (dead, told)])
    assert len(failures_of(fed.store, dead)) == 1, "no second account"
    fed.source.release([back])
    assert (row(fed.store, back).status, row(fed.store, back).attempt) == (Status.FAILED, 1)
    assert fed.source.claim(5).pks == [dead, back]


def test_looking_for_what_is_to_be_told_costs_nothing_usually(fed: Fed) -> None:
    """One statement after something was lost, none otherwise."""
    [pk] = put(fed.store)
    assert fed.source.claim(5).pks == [pk]
    emptied(fed)
    with statements_of(fed.store.alias) as statements:
        fed.source.claim(5)
        fed.source.claim(5)
    assert not [statement for statement in statements if "untold" in statement]
    fed.killed(pk)
    with statements_of(fed.store.alias) as statements:
        fed.source.claim(5)
        fed.source.claim(5)
    assert len([statement for statement in statements if "untold" in statement]) == 1


def test_what_a_dead_supervisor_left_untold_is_adopted(fed: Fed, tmp_path: Path) -> None:
    """Its last attempts that are accounted for now, and what it had not come round to; not that of the living."""
    store = fed.store
    dead, living = begin(store), begin(store)
    running, untold, theirs = claimed(store, dead, max_attempts=1), ended(store, dead), ended(store, living)
    silent_for(store, dead, 31)
    for _ in range(BEATS_PER_LOOK):
        fed.source.recover()
    assert row(store, running).status == Status.FAILED
    assert untold_of(store, fed.run) == sorted([running, untold])
    assert fed.source.claim(5).pks == sorted([running, untold])
    assert row(store, theirs).claimed_by == living
    runs.end(store, living)
    held = RunFile(tmp_path / "other.run")
    following = Fed(store.alias, held)
    assert following.source.claim(5).pks == [theirs], "at its start"
    held.release()


def test_two_that_adopt_at_once_do_not_share(store: Store) -> None:
    """Each job has one that tells."""
    dead = begin(store)
    pks = [ended(store, dead) for _ in range(20)]
    runs.end(store, dead)
    begun = [begin(store) for _ in range(3)]
    at_once([lambda run=run: adopt(store, run) for run in begun])  # type: ignore[misc]
    found = [untold_of(store, run) for run in begun]
    assert sorted(pk for share in found for pk in share) == pks
    assert {row(store, pk).claimed_by for pk in pks} <= set(begun)


def test_what_was_cancelled_and_given_back_is_told_of_too(fed: Fed) -> None:
    """No worker has begun it, and its canceller only asked."""
    [pk] = put(fed.store)
    fed.source.claim(1)
    fed.store.cancel([pk])
    fed.source.release([pk])
    assert (row(fed.store, pk).status, row(fed.store, pk).untold) == (Status.CANCELLED, True)
    for _ in range(BEATS_PER_LOOK):
        fed.source.recover()
    assert fed.source.claim(1).pks == [pk]


# ---- whoever cancels tells


def test_who_cancels_a_waiting_job_tells_at_the_commit(bench: Bench) -> None:
    """In his own process, once, and only if it has come to that."""
    first, second, running = (tasks.noop.enqueue() for _ in range(3))
    Job.objects.using(bench.alias).filter(pk=running.id).update(status=Status.RUNNING, claimed_by=bench.run)
    backend: Any = task_backends["default"]
    with signals() as heard:
        with transaction.atomic(using=bench.alias):
            assert set(backend.cancel([first.id, second.id, running.id])) == {first.id, second.id, running.id}
            assert heard == []
        assert [(name, status, type(error)) for name, _, status, error in heard] == [
            ("finished", str(FAILED), JobCancelled)
        ] * 2
        assert str(heard[0][3]) == "the job was cancelled while it waited"
        backend.cancel([first.id])
        assert len(heard) == 2, "once"
    assert not row(bench.store, int(first.id)).untold
    third = tasks.noop.enqueue()
    with signals() as heard, transaction.atomic(using=bench.alias):
        third.cancel()
        transaction.set_rollback(True, using=bench.alias)
    assert heard == []
    assert row(bench.store, int(third.id)).status == Status.READY


def test_what_a_canceller_did_not_come_to_tell_is_told_by_a_worker(fed: Fed) -> None:
    """He died, or had no receivers to tell."""
    [pk] = put(fed.store)
    fed.store.cancel([pk])
    for _ in range(BEATS_PER_LOOK):
        fed.source.recover()
    assert fed.source.claim(5).pks == [pk]


def test_a_canceller_without_the_task_says_so(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The job is cancelled all the same."""
    [pk] = put(bench.store, task="tests.testapp.tasks.gone")
    backend: Any = task_backends["default"]
    assert backend.cancel([str(pk)]) == [str(pk)]
    assert f"job {pk} tests.testapp.tasks.gone is cancelled, but telling so failed: jobsup.errors.TaskNotFound" in (
        caplog.text
    )


def test_a_job_that_was_cancelled_before_it_began_is_told_of_by_its_worker(bench: Bench) -> None:
    """As usual."""
    result = tasks.noop.enqueue()
    pks = bench.claim()
    bench.store.cancel(pks)
    with signals() as heard:
        bench.play(pks)
    assert [(name, type(error)) for name, _, _, error in heard] == [("finished", JobCancelled)]
    result.refresh()
    assert result.status is FAILED
    assert not row(bench.store, pks[0]).untold


def test_without_autocommit_a_worker_tells_of_what_was_cancelled(bench: Bench) -> None:
    """Nobody can say when that is certain: no callback can be registered there."""
    result = tasks.noop.enqueue()
    connection = transaction.get_connection(bench.alias)
    connection.set_autocommit(False)
    try:
        with signals() as heard:
            assert result.cancel()
            connection.commit()
    finally:
        connection.set_autocommit(True)
    assert heard == []
    assert (row(bench.store, int(result.id)).status, row(bench.store, int(result.id)).untold) == (
        Status.CANCELLED,
        True,
    )
