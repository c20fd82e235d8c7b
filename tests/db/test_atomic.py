"""Jobs with `atomic=True`: what they write and their success are one commit (promise 3, P8, P14)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction
from django.db.models import F

from jobsup import Discard, Retry, Snooze, task
from jobsup.compat import InvalidTask, task_finished
from jobsup.interrupts import Interrupts
from jobsup.models import FailedAttempt, Job, Status
from jobsup.testing import immediate, run_pending
from spawnpool.bounds import Interrupt
from spawnpool.states import ExitCode
from tests.db.atomics import Nth, act, act_again, deeds, do, effects, no_deeds, ordinary, status, words
from tests.db.rows import begin, loss
from tests.testapp.traces import leave_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobsup.compat import TaskContext
    from tests.db.bench import Bench
    from tests.db.rows import Session

    Deed = Callable[["TaskContext[Any, Any]"], Any]

__all__ = ["no_deeds"]  # a fixture


# ---- one commit


def test_the_writes_of_a_job_and_its_success_are_one_commit(bench: Bench) -> None:
    """Nothing of it is seen before; after that nothing is left to record."""

    @do("look")
    def look(context: Any) -> bool:
        return connections[bench.alias].in_atomic_block

    result = act.enqueue("look")
    pks = bench.claim()
    with Nth(bench.alias, 0, done=False).injected() as seen:
        bench.play(pks)
    kinds = [
        "finish" if "jobsup_job" in sql else sql.split()[0]
        for sql in seen[1:]
        if not sql.startswith(("BEGIN", "SELECT"))
    ]
    assert kinds == ["SAVEPOINT", "INSERT", "RELEASE", "finish", "COMMIT"]
    result.refresh()
    assert (result.status.name, result.return_value, result.attempts) == ("SUCCESSFUL", True, 1)
    assert effects(bench.alias) == 1
    assert bench.settled_keys == [int(result.id)]


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (ValueError("no"), Status.FAILED),
        (Retry(60), Status.SCHEDULED),
        (Snooze(60), Status.SCHEDULED),
        (Discard("no use"), Status.FAILED),
        (SystemExit(), Status.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_job_raises_takes_back_everything_that_it_wrote(
    bench: Bench, raised: BaseException, becomes: Status
) -> None:
    """Its end is recorded as that of any job."""

    @do("raise")
    def raise_it(context: Any) -> None:
        ordinary.enqueue()
        raise raised

    result = act_again.enqueue("raise")
    Job.objects.filter(pk=int(result.id)).update(options=None, max_attempts=None)
    bench.work()
    assert status(result) is (becomes if isinstance(raised, (Retry, Snooze, Discard)) else Status.FAILED)
    assert effects(bench.alias) == 0
    assert not Job.objects.filter(task=ordinary.module_path).exists()
    assert FailedAttempt.objects.filter(job_id=int(result.id)).count() == (not isinstance(raised, Snooze))


def test_a_result_that_cannot_be_stored_takes_it_all_back(bench: Bench) -> None:
    """The job failed, so it has no effects."""
    deeds["return"] = lambda _context: object()
    result = bench.finished(act.enqueue("return"))
    assert result.status.name == "FAILED"
    assert effects(bench.alias) == 0


def test_jobs_around_it_are_recorded_as_ever(bench: Bench) -> None:
    """In the lane's order, whoever records them."""
    results = [each.enqueue() for each in (ordinary, act, ordinary, act, ordinary)]
    bench.work()
    assert [status(result) for result in results] == [Status.SUCCESSFUL] * 5
    assert bench.settled_keys[-1] == int(results[-1].id)
    assert effects(bench.alias) == 5


@pytest.mark.parametrize("value", [1, "yes", object()])
def test_atomic_is_true_or_false(routed: str, value: Any) -> None:
    """Anything else is refused where it is declared."""
    with pytest.raises(InvalidTask, match=r"atomic is .*: expected True or False"):
        task(atomic=value)(ordinary.func)


def test_a_coroutine_cannot_be_atomic(routed: str) -> None:
    """Django has no transactions there."""

    async def coroutine() -> None:
        """Wait for nothing."""

    coroutine.__qualname__, coroutine.__module__ = "coroutine", __name__
    with pytest.raises(InvalidTask, match="atomic is True on a coroutine function"):
        task(atomic=True)(coroutine)


def test_a_database_without_transactions_is_refused(routed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known where the task is declared, or where its first job is enqueued."""
    monkeypatch.setattr(connections[routed].features, "supports_transactions", False, raising=False)
    with pytest.raises(InvalidTask, match=f"atomic is True, and the database '{routed}' has no transactions"):
        task(atomic=True)(act.func)


def test_p6_a_zombie_has_no_effects(bench: Bench, session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """Its job was given to another run meanwhile: all is rolled back, refused and logged; on_commit is never called."""
    called: list[int] = []

    @do("be late")
    def be_late(context: Any) -> None:
        transaction.on_commit(lambda: called.append(1), using=bench.alias)

        def give_away() -> None:
            heir = begin(bench.store)
            Job.objects.filter(pk=int(context.task_result.id)).update(claimed_by=heir, attempt=F("attempt") + 1)

        if bench.alias == "default":  # SQLite, where nobody else can write while it runs
            give_away()
        else:
            session(give_away)

    result = act.enqueue("be late")
    pk = int(result.id)
    bench.work()
    assert f"late result refused: attempt 1 of job {pk} is owned by somebody else" in caplog.text
    assert effects(bench.alias) == 0
    assert called == []
    assert bench.settled_keys == [pk]


# ---- after the commit


def test_on_commit_comes_after_it_and_its_errors_change_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """In order, each in autocommit mode with the job's success to be seen; then `task_finished`."""
    told: list[Any] = []
    result = act.enqueue("leave")

    def look(name: str) -> None:
        told.append((name, status(result), connections[bench.alias].in_atomic_block))

    def fail() -> None:
        raise ValueError("no use")

    @do("leave")
    def leave(context: Any) -> None:
        transaction.on_commit(lambda: look("first"), using=bench.alias)
        transaction.on_commit(fail, using=bench.alias)
        try:
            with transaction.atomic(using=bench.alias):
                transaction.on_commit(lambda: look("rolled back"), using=bench.alias)
                1 / 0  # noqa: B018
        except ZeroDivisionError:
            pass
        transaction.on_commit(lambda: look("last"), using=bench.alias)

    def finished(task_result: Any, **_kwargs: Any) -> None:
        look(f"finished {task_result.status.name}")

    task_finished.connect(finished)
    try:
        bench.work()
    finally:
        task_finished.disconnect(finished)
    well = Status.SUCCESSFUL, False
    assert told == [("first", *well), ("last", *well), ("finished SUCCESSFUL", *well)]
    assert f"job {result.id} {act.module_path} is successful, but a function that it left to on_commit()" in caplog.text


@pytest.mark.parametrize("why", [Interrupt.TIMEOUT, Interrupt.CANCEL])
def test_an_interruption_that_comes_with_the_commit_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, why: Interrupt
) -> None:
    """One within the job rolls back; from the record of its success on it is too late."""
    interrupts: Interrupts = bench.runner._interrupts
    connection: Any = connections[bench.alias]
    commit = connection._commit

    def commit_and_be_interrupted() -> Any:
        interrupts.come(why)
        answer = commit()
        interrupts.come(why)
        return answer

    result = act.enqueue()
    pks = bench.claim()
    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", commit_and_be_interrupted)
        bench.play(pks)
    assert (status(result), effects(bench.alias)) == (Status.SUCCESSFUL, 1)
    deeds["be interrupted"] = lambda _context: interrupts.come(why)
    other = act.enqueue("be interrupted")
    bench.work()
    ended = Status.CANCELLED if why is Interrupt.CANCEL else Status.FAILED
    assert (status(other), effects(bench.alias)) == (ended, 1)


# ---- jobs that meddle with the transaction


def meddle(how: str, alias: str) -> None:  # noqa: C901  # a list
    """Take the transaction of a job from it."""
    connection = connections[alias]
    match how:
        case "close":
            connection.close()
        case "close and go on":
            connection.close()
            connection.connection = None
            connection.in_atomic_block = False
            connection.closed_in_transaction = False
            connection.ensure_connection()
        case "driver's rollback":
            connection.connection.rollback()
        case "ROLLBACK" | "COMMIT":
            with connection.cursor() as cursor:
                cursor.execute(how)
        case "leave open":
            transaction.atomic(using=alias).__enter__()
        case "leave":
            connection.in_atomic_block = False
            connection.rollback()
        case "set_rollback":
            transaction.set_rollback(True, using=alias)
        case "forget":
            del connections[alias]
        case "swallow":
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT no_such_column FROM jobsup_job")
            except DatabaseError:
                pass


@pytest.mark.parametrize(
    "how",
    [
        *("close", "close and go on", "driver's rollback", "ROLLBACK", "COMMIT"),
        *("leave open", "leave", "set_rollback", "forget"),
    ],
)
def test_a_job_that_takes_its_transaction_away_is_found_out(bench: Bench, how: str) -> None:
    """It fails in words and is never successful without its writes; the next job finds all in order."""
    deeds["meddle"] = lambda _context: meddle(how, bench.alias)
    result = act.enqueue("meddle")
    bench.work()
    assert status(result) is Status.FAILED
    assert "jobsup.errors.TransactionBroken: the transaction of the job cannot be committed: " in words(result)
    assert effects(bench.alias) == (how == "COMMIT"), "what it committed itself nobody can take back"
    assert bench.finished(act.enqueue()).status.name == "SUCCESSFUL"


def test_a_job_that_goes_on_after_a_database_error_fails_where_that_undoes_everything(bench: Bench) -> None:
    """PostgreSQL answers COMMIT by a ROLLBACK then, and no error; elsewhere only the statement is undone."""
    deeds["swallow"] = lambda _context: meddle("swallow", bench.alias)
    result = act.enqueue("swallow")
    bench.work()
    if bench.alias == "postgresql":
        assert status(result) is Status.FAILED
        assert "the job went on after a database error; put what may fail in an atomic() of its own" in words(result)
        assert effects(bench.alias) == 0
    else:
        assert (status(result), effects(bench.alias)) == (Status.SUCCESSFUL, 1)


@pytest.mark.parametrize("comes_back", ["returns", "raises"])
def test_m17_a_forked_child_that_comes_back_does_not_touch_the_transaction(bench: Bench, comes_back: str) -> None:
    """It has the same socket: whatever it said there would be said in its parent's name."""
    exits: list[int] = []

    @do("fork")
    def fork(_context: Any) -> None:
        child = os.fork()
        if not child:
            assert comes_back == "returns"
            return
        exits.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    result = bench.finished(act.enqueue("fork"))
    assert (result.status.name, exits, effects(bench.alias)) == ("SUCCESSFUL", [ExitCode.WALKED_ON], 1)


def test_a_durable_block_in_a_job_fails_as_django_has_it(bench: Bench) -> None:
    """It is nested, after all."""

    @do("be durable")
    def be_durable(_context: Any) -> None:
        with transaction.atomic(using=bench.alias, durable=True):
            pass

    result = act.enqueue("be durable")
    bench.work()
    assert "A durable atomic block cannot be nested within another atomic block" in words(result)


def test_blocks_of_the_job_are_savepoints(bench: Bench) -> None:
    """What fails in one of them and is caught there costs the rest nothing."""

    @do("nest")
    def nest(context: Any) -> None:
        try:
            with transaction.atomic(using=bench.alias):
                leave_trace(context)
                Job.objects.create(pk=int(context.task_result.id))
        except IntegrityError:
            pass

    assert bench.finished(act.enqueue("nest")).status.name == "SUCCESSFUL"
    assert effects(bench.alias) == 1


# ---- in the tests of a project


@pytest.mark.parametrize("outer", [True, False], ids=["in a transaction", "in none"])
def test_in_tests_it_is_all_or_nothing_as_well(routed: str, outer: bool) -> None:  # noqa: FBT001
    """In the caller's transaction, in savepoints of it; on_commit and task_finished come as they do in a worker."""
    told: list[str] = []
    alias = routed

    @do("leave")
    def leave(_context: Any) -> None:
        transaction.on_commit(lambda: told.append(f"committed {effects(alias)}"), using=alias)

    @do("raise")
    def raise_it(_context: Any) -> None:
        transaction.on_commit(lambda: told.append("never"), using=alias)
        raise ValueError("no")

    deeds["set_rollback"] = lambda _context: transaction.set_rollback(True, using=alias)

    def finished(task_result: Any, **_kwargs: Any) -> None:
        told.append(f"finished {task_result.status.name}")

    def run() -> list[Any]:
        results = [act.enqueue(name) for name in ("leave", "raise", "set_rollback")]
        run_pending()
        with immediate():
            return [*results, act.enqueue()]

    task_finished.connect(finished)
    try:
        if outer:
            with transaction.atomic(using=alias):
                results = run()
        else:
            results = run()
    finally:
        task_finished.disconnect(finished)
    assert [status(each) for each in results] == [Status.SUCCESSFUL, Status.FAILED, Status.FAILED, Status.SUCCESSFUL]
    assert told == ["committed 1", "finished SUCCESSFUL", "finished FAILED", "finished FAILED", "finished SUCCESSFUL"]
    assert effects(alias) == 2


def test_a_job_lost_after_its_commit_is_not_lost(bench: Bench) -> None:
    """The supervisor hears of the worker's death before it hears of the end: the row counts."""
    result = act.enqueue()
    bench.play(bench.claim())
    assert bench.store.lost(bench.run, [loss(int(result.id))]) == []
    assert status(result) is Status.SUCCESSFUL
