"""Jobs with `atomic=True`: what they write and their success are one commit (promise 3, P8, P14)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.db.models import F

from jobsup import Discard, Retry, Snooze, exactly_once, runs, task
from jobsup.compat import InvalidTask, task_finished
from jobsup.exactly_once import CONFLICTS_MAX, LOSSES_MAX
from jobsup.interrupts import Interrupts
from jobsup.models import FailedAttempt, Job, Status
from jobsup.sql import postgresql
from jobsup.testing import immediate, run_pending
from spawnpool.bounds import Interrupt
from spawnpool.states import ExitCode
from tests.commitproxy import CommitProxy
from tests.db.rows import begin, loss, row, silent_for
from tests.postgres import PORT
from tests.testapp.models import Effect
from tests.testapp.traces import leave_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobsup.compat import TaskContext
    from tests.commitproxy import Cut
    from tests.db.bench import Bench
    from tests.db.rows import Session
    from tests.postgres import Cluster

    Deed = Callable[["TaskContext[Any, Any]"], Any]

STATEMENTS_MAX = 40
ON_POSTGRESQL = pytest.mark.parametrize("alias", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("alias", ["default"], indirect=True, ids=["sqlite"])

deeds: dict[str, Deed] = {}
"""What the job does after it has left its trace."""
begun: Counter[str] = Counter()
"""How often the function of each job was entered."""


@task(atomic=True, takes_context=True)
def act(context: TaskContext[Any, Any], name: str = "") -> Any:
    """Leave a trace and do a deed."""
    begun[name] += 1
    leave_trace(context)
    return deeds[name](context) if name else None


@task(atomic=True, takes_context=True, max_attempts=5, backoff=60)
def act_again(context: TaskContext[Any, Any], name: str = "") -> Any:
    """Do the same, and be tried again."""
    return act.func(context, name)


@task(atomic=True, takes_context=True)
def read_and_write(context: TaskContext[Any, Any], name: str) -> None:
    """Do a deed and leave a trace."""
    deeds[name](context)
    leave_trace(context)


@task(takes_context=True)
def ordinary(context: TaskContext[Any, Any]) -> None:
    """Leave a trace."""
    leave_trace(context)


@pytest.fixture(autouse=True)
def _no_deeds() -> Iterator[None]:
    deeds.clear()
    begun.clear()
    yield
    deeds.clear()


def do(name: str) -> Callable[[Deed], Deed]:
    """Have a function be a deed."""

    def keep(deed: Deed) -> Deed:
        deeds[name] = deed
        return deed

    return keep


def effects(alias: str) -> int:
    """Return how many traces there are."""
    return Effect.objects.using(alias).count()


def status(result: Any) -> Status:
    """Return what stands in the row."""
    return Status(Job.objects.get(pk=int(result.id)).status)


def words(result: Any) -> str:
    """Return what is told of the only failure of a job."""
    return FailedAttempt.objects.get(job_id=int(result.id)).traceback


def raise_sqlstate(state: str) -> None:
    """Have PostgreSQL raise an error."""
    with connections["postgresql"].cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'made by a test' USING ERRCODE = '{state}'; END $$")


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


# ---- conflicts and lost connections


def by_turns(*each: Callable[[], Any] | None) -> Deed:
    """Return a deed that does another thing each time; None for nothing."""
    left = list(each)

    def deed(_context: Any) -> None:
        if left and (now := left.pop(0)):
            now()

    return deed


@ON_POSTGRESQL
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_p14_a_conflict_is_repeated_at_once_within_the_attempt(bench: Bench, state: str) -> None:
    """A bounded number of times, with everything rolled back in between; then it is a failure like any other."""
    conflict = lambda: raise_sqlstate(state)  # noqa: E731
    deeds["meet"] = by_turns(*[conflict] * CONFLICTS_MAX)
    result = bench.finished(act.enqueue("meet"))
    assert (result.status.name, result.attempts, begun["meet"]) == ("SUCCESSFUL", 1, CONFLICTS_MAX + 1)
    assert effects(bench.alias) == 1
    deeds["give up"] = by_turns(*[conflict] * 99)
    failed = bench.finished(act.enqueue("give up"))
    assert (failed.status.name, begun["give up"]) == ("FAILED", CONFLICTS_MAX + 1)
    assert "made by a test" in words(failed)
    assert effects(bench.alias) == 1


@ON_POSTGRESQL
def test_p14_what_the_job_says_itself_and_other_databases_are_no_conflict(bench: Bench) -> None:
    """`Retry` out of a conflict is a `Retry`; an error of another alias tells nothing about this one."""

    @do("retry")
    def retry(_context: Any) -> None:
        try:
            raise_sqlstate("40001")
        except OperationalError as error:
            raise Retry(60) from error

    def fail_elsewhere() -> None:
        error = OperationalError("of another database")
        error.__cause__ = type("Lost", (Exception,), {"pgcode": "40001"})()
        raise error

    deeds["elsewhere"] = by_turns(fail_elsewhere)
    results = [act_again.enqueue("retry"), act.enqueue("elsewhere")]
    bench.work()
    assert [status(result) for result in results] == [Status.SCHEDULED, Status.FAILED]
    assert begun == {"retry": 1, "elsewhere": 1}


@ON_POSTGRESQL
def test_p14_a_deadlock_with_a_stranger_is_repeated(bench: Bench, session: Session) -> None:
    """The stranger waits for longer, so the job is the one that the server chooses."""
    pks = [Effect.objects.create(job=0, attempt=0, pid=0).pk for _ in range(2)]
    block = transaction.atomic(using=bench.alias)

    def bump(pk: int) -> int:
        return Effect.objects.filter(pk=pk).update(attempt=F("attempt") + 1)

    def begin_elsewhere() -> None:
        block.__enter__()
        with connections[bench.alias].cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1h'")
        bump(pks[0])

    def bump_both() -> None:
        bump(pks[0])
        bump(pks[1])
        block.__exit__(None, None, None)

    session(begin_elsewhere)
    waiting: list[Any] = []

    @do("meet")
    def meet(_context: Any) -> None:
        bump(pks[1])
        if not waiting:
            waiting.append(session.begin(bump_both))
        bump(pks[0])

    result = bench.finished(act.enqueue("meet"))
    waiting[0].result(30)
    assert (result.status.name, result.attempts, begun["meet"]) == ("SUCCESSFUL", 1, 2)
    assert sorted(Effect.objects.filter(pk__in=pks).values_list("attempt", flat=True)) == [2, 3]


@ON_POSTGRESQL
@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_p14_at_stricter_levels_it_holds_as_well(
    bench: Bench, session: Session, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """A counter that another transaction changes meanwhile; what the supervisor notes of a long job is no conflict."""
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    connection = connections[bench.alias]
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "isolation_level", IsolationLevel[level].value)
    connection.close()
    pk = Effect.objects.create(job=0, attempt=0, pid=0).pk
    store, run = bench.store, bench.run

    def bump() -> None:
        effect = Effect.objects.get(pk=pk)
        Effect.objects.filter(pk=pk).update(attempt=effect.attempt + 1)

    @do("be long")
    def be_long(context: Any) -> None:
        session(lambda: store.mark_running(run, int(context.task_result.id), "the supervisor's word", 0.5))

    @do("count")
    def count(context: Any) -> None:
        effect = Effect.objects.get(pk=pk)
        context.ready("well begun")
        if begun["count"] == 2:
            session(bump)
        Effect.objects.filter(pk=pk).update(attempt=effect.attempt + 1)

    try:
        long = bench.finished(act.enqueue("be long"))
        assert (long.status.name, begun["be long"]) == ("SUCCESSFUL", 1)
        result = bench.finished(act.enqueue("count"))
        # Its own word was written by another session, which is the first conflict; the stranger's count the second.
        assert (result.status.name, result.attempts, begun["count"]) == ("SUCCESSFUL", 1, 3)
        assert (Effect.objects.get(pk=pk).attempt, result.ready_message) == (2, "well begun")
    finally:
        connection.close()


@ON_POSTGRESQL
def test_fault_9_a_session_that_is_ended_under_a_job_is_repeated_once_over_a_new_one(bench: Bench) -> None:
    """A second time it is the job's failure, tried again as its task declares."""

    def end_session() -> None:
        with connections[bench.alias].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    deeds["lose"] = by_turns(*[end_session] * LOSSES_MAX)
    result = bench.finished(act.enqueue("lose"))
    assert (result.status.name, result.attempts, begun["lose"]) == ("SUCCESSFUL", 1, LOSSES_MAX + 1)
    deeds["lose again"] = by_turns(*[end_session] * (LOSSES_MAX + 1))
    again = bench.finished(act_again.enqueue("lose again"))
    assert status(again) is Status.SCHEDULED
    assert "OperationalError: " in words(again)
    assert bench.tried_again(again).status.name == "SUCCESSFUL"
    assert effects(bench.alias) == 2


# ---- the commit itself


@contextmanager
def proxied(cluster: Cluster, alias: str) -> Iterator[CommitProxy]:
    """Have the worker reach PostgreSQL through a proxy."""
    settings = connections[alias].settings_dict
    before = settings["HOST"]
    place = tempfile.mkdtemp(prefix="jobsup-cut-", dir="/tmp")  # a short path, as a socket needs it
    try:
        with CommitProxy(Path(place), cluster.directory, PORT) as proxy:
            connections[alias].close()
            settings["HOST"] = place
            yield proxy
            connections[alias].close()
    finally:
        settings["HOST"] = before
        shutil.rmtree(place)


@ON_POSTGRESQL
@pytest.mark.parametrize(
    ("cut", "times"),
    [("not sent", 2), ("answer lost", 1), ("under way", 1)],
    ids=["not sent", "answer lost", "under way"],
)
def test_fault_42_p8_a_commit_whose_answer_is_lost_is_asked_for(
    postgres_cluster: Cluster, bench: Bench, cut: Cut, times: int
) -> None:
    """It happened, or it did not and the job is repeated; a commit that is still under way is waited for."""
    called: list[int] = []
    deeds["leave"] = lambda _context: transaction.on_commit(lambda: called.append(1), using=bench.alias)
    result = act.enqueue("leave")
    with proxied(postgres_cluster, bench.alias) as proxy:
        pks = bench.claim()
        proxy.cuts = [cut]
        bench.play(pks)
        assert proxy.cuts == []
    result.refresh()
    assert (result.status.name, result.attempts, begun["leave"]) == ("SUCCESSFUL", 1, times)
    assert (effects(bench.alias), called) == (1, [1])


@ON_POSTGRESQL
def test_fault_42_p8_a_commit_that_is_cut_again_and_again_ends_as_a_lost_connection(
    postgres_cluster: Cluster, bench: Bench
) -> None:
    """Tried again as its task declares, with no effects so far."""
    result = act_again.enqueue()
    with proxied(postgres_cluster, bench.alias) as proxy:
        pks = bench.claim()
        again: list[Cut | None] = ["not sent", None]  # in between it is asked what became of the commit
        proxy.cuts = [*again * LOSSES_MAX, "not sent"]
        bench.play(pks)
        assert proxy.cuts == []
    assert (status(result), effects(bench.alias)) == (Status.SCHEDULED, 0)
    assert bench.tried_again(result).status.name == "SUCCESSFUL"
    assert effects(bench.alias) == 1


@ON_POSTGRESQL
def test_a_constraint_that_is_checked_at_the_commit_fails_the_job(bench: Bench) -> None:
    """The answer is no, and the row says that nothing happened."""

    @do("point nowhere")
    def point_nowhere(_context: Any) -> None:
        now = bench.store.sql.now()
        FailedAttempt.objects.create(job_id=10**9, attempt=1, ended_at=now, exception_class_path="", traceback="")

    result = bench.finished(act.enqueue("point nowhere"))
    assert (result.status.name, begun["point nowhere"]) == ("FAILED", 1)
    assert "IntegrityError" in words(result)
    assert effects(bench.alias) == 0


@ON_POSTGRESQL
def test_a_worker_that_freezes_before_its_commit_does_not_keep_others_from_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row is locked: the server ends that session soon, the job is taken over, and the late commit is refused."""
    monkeypatch.setattr(postgresql, "LAST", postgresql.LAST.replace("'5s'", "'200ms'"))
    connection: Any = connections[bench.alias]
    commit = connection._commit

    def take_over() -> None:
        heir = begin(bench.store)
        silent_for(bench.store, bench.run, 60)
        runs.recover(bench.store, heir, "")
        Job.objects.filter(pk=pk, status=Status.READY).update(claimed_by=heir)

    def freeze() -> Any:
        monkeypatch.setattr(connection, "_commit", commit)
        session(take_over)
        taken.append(pk)
        return commit()

    taken: list[int] = []
    pk = int(act.enqueue().id)
    monkeypatch.setattr(connection, "_commit", freeze)
    bench.work()
    assert taken == [pk], "nobody could take it over in time"
    assert effects(bench.alias) == 0
    assert Status(row(bench.store, pk).status) is Status.READY
    assert f"late result refused: attempt 1 of job {pk} is owned by somebody else" in caplog.text


@ON_SQLITE
def test_on_sqlite_it_may_write_from_the_start_whatever_the_settings_say(
    bench: Bench, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read first, and write after somebody tried to write: a transaction that begins as a reader would fail at once."""
    connection = connections[bench.alias]
    monkeypatch.setattr(connection, "transaction_mode", None)
    waiting: list[Any] = []

    @do("read")
    def read(_context: Any) -> None:
        assert effects(bench.alias) == 0
        waiting.append(session.begin(ordinary.enqueue))
        with suppress(TimeoutError):
            waiting[0].result(0.5)

    result = read_and_write.enqueue("read")
    bench.work()
    waiting[0].result(30)
    assert (status(result), effects(bench.alias)) == (Status.SUCCESSFUL, 1)


@ON_SQLITE
def test_on_sqlite_a_job_that_keeps_others_waiting_for_long_is_told_of(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log, with its name."""
    monkeypatch.setattr(exactly_once, "LOCKED_S", 0.0)
    result = bench.finished(act.enqueue())
    assert f"job {result.id} {act.module_path} is atomic and kept everybody else from writing for 0." in caplog.text


@ON_SQLITE
def test_on_sqlite_the_ends_of_earlier_jobs_do_not_wait_for_an_atomic_one(bench: Bench) -> None:
    """Nobody can write while it runs, so they are recorded before it begins."""
    before = ordinary.enqueue()
    seen: list[Status] = []
    deeds["look"] = lambda _context: seen.append(status(before))
    act.enqueue("look")
    bench.work()
    assert seen == [Status.SUCCESSFUL]


# ---- fault 49


class Nth:
    """Has the n-th statement or COMMIT fail, `done` after it was executed."""

    def __init__(self, alias: str, number: int, *, done: bool) -> None:
        self.number, self.done = number, done
        self.connection: Any = connections[alias]
        self.seen: list[str] = []

    def call(self, what: str, execute: Callable[[], Any]) -> Any:
        """Execute something, or have it fail."""
        self.seen.append(what)
        hit = len(self.seen) == self.number
        if hit and not self.done:
            raise OperationalError("the connection is gone")
        answer = execute()
        if hit:
            raise OperationalError("the connection is gone, and with it the answer")
        return answer

    @contextmanager
    def injected(self) -> Iterator[list[str]]:
        """Have it happen meanwhile."""
        commit = self.connection._commit

        def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
            return self.call(sql, lambda: execute(sql, params, many, context))

        self.connection._commit = lambda: self.call("COMMIT", commit)
        try:
            with self.connection.execute_wrapper(execute):
                yield self.seen
        finally:
            del self.connection._commit


@pytest.mark.parametrize("done", [False, True], ids=["refused", "answer lost"])
def test_fault_49_whichever_call_to_the_database_fails_the_effect_is_there_once(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    done: bool,  # noqa: FBT001
) -> None:
    """Successful and the effect is there, or neither; in the end both, once."""
    for number in range(1, STATEMENTS_MAX):
        Effect.objects.all().delete()
        result = act_again.enqueue()
        pks = bench.claim()
        with Nth(bench.alias, number, done=done).injected() as seen:
            bench.play(pks)
        assert effects(bench.alias) == (status(result) is Status.SUCCESSFUL), (number, seen)
        if status(result) is not Status.SUCCESSFUL:
            assert status(result) is Status.SCHEDULED, (number, seen)
            bench.tried_again(result)
        assert (status(result), effects(bench.alias)) == (Status.SUCCESSFUL, 1), (number, seen)
        if len(seen) < number:
            return
    pytest.fail(f"it needs more than {STATEMENTS_MAX} calls")


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
