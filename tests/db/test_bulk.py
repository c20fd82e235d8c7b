"""Many jobs at once: what an item may be, all or nothing, streamed, and the same rows as single ones."""

from __future__ import annotations

import logging
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections, transaction
from django.utils import timezone

from jobsup import bulk, task
from jobsup.compat import TASKS_LOGGER, TaskResultDoesNotExist, task_backends, task_enqueued
from jobsup.errors import AlreadyEnqueued
from jobsup.models import Job, Status
from jobsup.store import Store
from jobsup.telling import is_heard
from tests.db.rows import at_once, statements_of
from tests.testapp.models import Effect
from tests.testapp.tasks import add, echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.db.bench import Bench
    from tests.db.rows import Session

Pair = namedtuple("Pair", "a b")


@task(unique=True)
def once(number: int) -> None:
    """Be there once for each number."""


@task(timeout=5, max_attempts=3, priority=-7, keep=timedelta(days=1))
def declared(value: Any) -> Any:
    """Declare options, and return what came."""
    return value


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have every third job begin another batch."""
    monkeypatch.setattr(bulk, "ROWS_MAX", 3)
    return 3


def numbers(count: int) -> Iterator[tuple[int, int]]:
    """Yield arguments of `add`."""
    yield from ((number, 1) for number in range(count))


def count() -> int:
    """Return how many jobs there are."""
    return Job.objects.count()


def test_each_item_is_the_call_of_a_job(bench: Bench) -> None:
    """A tuple by position, a dict by name; the results come in the order of the items."""
    jobs = add.enqueue_many([(1, 2), {"a": 3, "b": 4}, Pair(5, 6), {"b": 1, "a": 10**30}])
    assert len(jobs) == 4
    assert jobs.ids == [job.id for job in jobs]
    assert [(job.args, job.kwargs) for job in jobs][:2] == [([1, 2], {}), ([], {"a": 3, "b": 4})]
    bench.work()
    assert [job.return_value for job in jobs] == [3, 7, 11, 10**30 + 1]


def test_the_sequence_is_light_and_loads_what_is_looked_at(routed: str, small_batches: int) -> None:
    """Index, slice, iteration; a job that was removed meanwhile is told."""
    jobs = add.enqueue_many(numbers(10))
    assert (jobs[0].args, jobs[-1].args) == ([0, 1], [9, 1])
    assert [job.args[0] for job in jobs[2:4]] == [2, 3]
    assert jobs[2:4].ids == jobs.ids[2:4]
    assert repr(jobs) == "<10 jobs>"
    with pytest.raises(IndexError):
        jobs[10]
    Job.objects.filter(pk=int(jobs.ids[5])).delete()
    with pytest.raises(TaskResultDoesNotExist):
        list(jobs)
    with pytest.raises(TaskResultDoesNotExist):
        jobs[5]


def test_the_rows_are_those_of_single_enqueues(routed: str) -> None:
    """Every column but the id and the moment, for every option, be it due now or later."""
    hour = timezone.now() + timedelta(hours=1)
    for made in (
        declared,
        declared.using(
            backend="any queue", run_after=hour, queue_name="tab\there \\N \\. end", priority=100, memory_limit="1G"
        ),
        declared.using(run_after=datetime(2000, 1, 1, tzinfo=UTC), keep=0),
        echo,
    ):
        single, [many] = made.enqueue("x"), made.enqueue_many([("x",)])
        first, second = (dict[str, Any](Job.objects.filter(pk=int(job.id)).values().get()) for job in (single, many))
        assert first.pop("id") < second.pop("id")
        assert first.pop("enqueued_at") <= second.pop("enqueued_at")
        assert first == second
        assert many.enqueued_at is not None


@pytest.mark.parametrize(
    "value",
    [
        "tab\t newline\n return\r backslash\\ \\N \\. quote\" '",
        "nul\0 surrogate\ud800 é 😀",
        [1, {"a": [None, True, 1.5]}],
    ],
    ids=["escapes", "text", "nested"],
)
def test_what_goes_in_comes_out(bench: Bench, value: Any) -> None:
    """COPY has its own escapes."""
    [job] = echo.enqueue_many([(value,)])
    assert bench.finished(job).return_value == value


@pytest.mark.parametrize(
    ("item", "error", "words"),
    [
        ([1, 2], TypeError, "item 4 for tests.testapp.tasks.echo is a list: expected a tuple of arguments by position"),
        (7, TypeError, r"item 4 .* is a int: expected a tuple .* \(value,\) for a single one, or a dict"),
        ("text", TypeError, "item 4 .* is a str"),
        (None, TypeError, "item 4 .* is a NoneType"),
        ({1: 2}, TypeError, "item 4 .*the keys of a dict are names of arguments"),
        ((float("nan"),), ValueError, "item 4 for .* cannot be stored as JSON: Out of range float"),
        (({1, 2},), TypeError, "item 4 .* cannot be stored as JSON"),
        ({"value": object()}, TypeError, "item 4 .* cannot be stored as JSON"),
        (("x" * (1 << 20),), ValueError, "item 4 .* cannot be stored: .* the limit is"),
    ],
)
def test_a_wrong_item_is_named_and_nothing_is_inserted(
    routed: str, small_batches: int, item: Any, error: type[Exception], words: str
) -> None:
    """The batches before it are gone, and the caller's transaction goes on."""
    with transaction.atomic(using=routed):
        kept = add.enqueue(1, 2)
        with pytest.raises(error, match=words):
            echo.enqueue_many([(0,), (1,), (2,), (3,), item, (5,)])
    assert [str(pk) for pk in Job.objects.values_list("pk", flat=True)] == [kept.id]


def test_an_iterable_that_fails_leaves_nothing(routed: str, small_batches: int) -> None:
    """Its error goes up as it is, without a transaction of the caller's, too."""

    def broken() -> Iterator[tuple[int, int]]:
        yield from numbers(7)
        raise LookupError("the file ends here")

    with pytest.raises(LookupError, match="the file ends here"):
        add.enqueue_many(broken())
    assert count() == 0
    assert not connections[routed].in_atomic_block


def test_d7_it_joins_the_callers_transaction(routed: str, small_batches: int, session: Session) -> None:
    """Others see all of them at the commit, or none."""
    with transaction.atomic(using=routed):
        add.enqueue_many(numbers(7))
        assert session(count) == 0
        transaction.set_rollback(True, using=routed)
    assert count() == 0
    with transaction.atomic(using=routed):
        add.enqueue_many(numbers(7))
    assert session(count) == 7


def test_without_a_transaction_it_has_one_of_its_own(routed: str, small_batches: int, session: Session) -> None:
    """Others see nothing as long as it goes on."""
    seen = []

    def looked() -> Iterator[tuple[int, int]]:
        for item in numbers(7):
            seen.append(session(count))
            yield item

    add.enqueue_many(looked())
    assert (set(seen), session(count)) == ({0}, 7)


def test_the_iterable_is_read_as_it_is_written(routed: str, small_batches: int) -> None:
    """Never more than a batch is held, so a generator may be endless but for its end."""
    ahead = []

    def watched() -> Iterator[tuple[int, int]]:
        for read, item in enumerate(numbers(20)):
            ahead.append(read - count())
            yield item

    add.enqueue_many(watched())
    assert max(ahead) == small_batches - 1


def test_long_arguments_make_short_batches(routed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is bounded in size as well."""
    monkeypatch.setattr(bulk, "CHARS_MAX", 1000)
    batches = list(bulk._batches("task", [("x" * 400,)] * 10))
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert len(echo.enqueue_many([("x" * 400,)] * 10)) == 10


def test_the_iterable_may_use_the_same_connection(routed: str, small_batches: int) -> None:
    """It is read between the statements: a queryset of a million rows, read in pieces, is the usual case."""
    Effect.objects.bulk_create(Effect(job=1, attempt=number, pid=1) for number in range(50))
    rows = Effect.objects.order_by("attempt").values_list("attempt", "pid")
    jobs = add.enqueue_many(rows.iterator(chunk_size=7))
    assert [job.args for job in jobs] == [[number, 1] for number in range(50)]


def test_nothing_is_a_bulk_too(routed: str) -> None:
    """Of no items; nobody is woken."""
    with statements_of(routed) as statements:
        jobs = add.enqueue_many([])
    assert (len(jobs), jobs.ids, list(jobs)) == (0, [], [])
    assert not [sql for sql in statements if "jobsup" in sql]


def test_many_enqueuers_at_the_same_time_get_ids_of_their_own(routed: str, small_batches: int) -> None:
    """In bulk and one by one, from the very first job of the table on (P: the sequence of SQLite has no row then)."""
    if routed == "default":
        with connections[routed].cursor() as cursor:
            cursor.execute("DELETE FROM sqlite_sequence WHERE name = 'jobsup_job'")
    found = at_once(
        [*[lambda: add.enqueue_many(numbers(40)).ids] * 4, *[lambda: [add.enqueue(1, 2).id for _ in range(20)]] * 2]
    )
    ids = [int(pk) for each in found for pk in each]
    assert len(set(ids)) == len(ids) == count() == 200
    assert all(each == sorted(each, key=int) for each in found)
    assert int(add.enqueue(1, 2).id) > max(ids)


def test_supervisors_are_woken_once_at_the_commit(postgresql: str, session: Session) -> None:
    """However many batches there were."""
    store, listener = Store(postgresql), Store(postgresql)
    backend: Any = task_backends["default"]
    head = backend.new_row(add, "")

    def awakened() -> bool:
        listener.sql.now()
        return listener.sql.changed()

    def listen() -> None:
        listener.sql.connection.ensure_connection()
        listener.sql.attend(listen=True)

    session(listen)
    with transaction.atomic(using=postgresql), statements_of(postgresql) as statements:
        store.enqueue_many(head, [['{"args":[1,2],"kwargs":{}}']] * 5, lambda *_: None)
        assert not session(awakened)
    assert sum("pg_notify" in sql for sql in statements) == 1
    assert session(awakened)
    assert not session(awakened)


def test_receivers_hear_of_each_job(routed: str, small_batches: int) -> None:
    """With the result of each, in order."""
    heard: list[tuple[str, Any]] = []

    def receive(sender: type, task_result: Any, **_rest: Any) -> None:
        heard.append((task_result.id, task_result.args))
        assert (sender, task_result.status.name) == (type(task_backends["default"]), "READY")
        assert Job.objects.filter(pk=int(task_result.id)).exists()

    task_enqueued.connect(receive)
    try:
        jobs = add.enqueue_many(numbers(7))
    finally:
        task_enqueued.disconnect(receive)
    assert heard == [(pk, [number, 1]) for number, pk in enumerate(jobs.ids)]


def test_without_receivers_no_result_is_made_unless_django_logs_it(
    routed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That would take several times as long as the rest."""
    assert not is_heard(task_enqueued)
    with caplog.at_level(logging.DEBUG, TASKS_LOGGER):
        assert is_heard(task_enqueued)
        jobs = add.enqueue_many(numbers(2))
    told = [record.getMessage() for record in caplog.records if record.name == TASKS_LOGGER]
    assert [text.split()[1] for text in told] == [f"id={pk}" for pk in jobs.ids]


def test_unique_jobs_are_enqueued_one_by_one(routed: str) -> None:
    """The id of the job that is there stands for those that are not inserted."""
    there = once.enqueue(1)
    jobs = once.enqueue_many([(0,), (1,), {"number": 2}, (0,)])
    assert jobs.ids[1] == there.id
    assert jobs.ids[0] == jobs.ids[3]
    assert count() == 3


def test_unique_jobs_are_all_or_nothing_too(routed: str) -> None:
    """With on_conflict="raise" the first conflict ends it; a wrong item likewise."""
    with pytest.raises(AlreadyEnqueued):
        once.using(on_conflict="raise").enqueue_many([(0,), (1,), (0,)])
    with pytest.raises(TypeError, match=r"item 1 .* is a list"):
        once.enqueue_many([(0,), [1]])  # type: ignore[list-item]
    assert count() == 0


def test_from_a_coroutine(routed: str) -> None:
    """The same."""
    jobs = async_to_sync(add.aenqueue_many)(numbers(3))
    assert [str(pk) for pk in Job.objects.order_by("pk").values_list("pk", flat=True)] == jobs.ids
    assert set(Job.objects.values_list("status", flat=True)) == {Status.READY}
