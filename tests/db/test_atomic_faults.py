"""Atomic jobs when something goes wrong: conflicts, lost connections and answers to the commit (P8, P14, fault 49)."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction
from django.db.models import F

from jobsup import Retry, exactly_once, runs
from jobsup.exactly_once import CONFLICTS_MAX, LOSSES_MAX
from jobsup.models import FailedAttempt, Job, Status
from jobsup.sql import postgresql
from tests.commitproxy import CommitProxy
from tests.db.atomics import (
    Nth,
    act,
    act_again,
    begun,
    deeds,
    do,
    effects,
    no_deeds,
    ordinary,
    raise_sqlstate,
    read_and_write,
    status,
    words,
)
from tests.db.rows import begin, row, silent_for
from tests.postgres import PORT
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobsup.compat import TaskContext
    from tests.commitproxy import Cut
    from tests.db.bench import Bench
    from tests.db.rows import Session
    from tests.postgres import Cluster

    Deed = Callable[["TaskContext[Any, Any]"], Any]

__all__ = ["no_deeds"]  # a fixture

STATEMENTS_MAX = 40
ON_POSTGRESQL = pytest.mark.parametrize("alias", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("alias", ["default"], indirect=True, ids=["sqlite"])

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
