"""Which jobs are meant, how many they are, in which order they are taken, and the whole story of one."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F

from jobsup import queries, runs
from jobsup.models import FailedAttempt, Job, Status, Supervisor
from jobsup.queries import ENDED, Filters, keys, listed, matching, story, supervisors, tally
from tests.db.rows import NOOP, WORKER, begin, claimed, failure, loss, put, success
from tests.db.test_plans import filled, nodes_of, plans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobsup.store import Store


def found(store: Store, **chosen: Any) -> list[int]:
    """Return the jobs that filters find, oldest first."""
    return sorted(matching(store, Filters(**chosen)).values_list("pk", flat=True))


def aged(store: Store, pk: int, **values: float) -> None:
    """Let a job have been enqueued so many seconds ago."""
    jobs = Job.objects.using(store.alias).filter(pk=pk)
    assert jobs.update(**{name: F(name) - timedelta(seconds=ago) for name, ago in values.items()}) == 1


def failed(store: Store, run: int, words: str, attempt: int = 1) -> int:
    """Return a job that failed once with these words."""
    pk = claimed(store, run)
    store.finish(run, [failure(pk, attempt, words=words)])
    return pk


# -- filters ----------------------------------------------------------------------------------------------------------


def test_each_filter_finds_its_own(store: Store) -> None:
    """Ids, queue, status, and all of them together."""
    [one], [two] = put(store), put(store, queue="other")
    [later] = put(store, run_after=store.sql.now() + timedelta(hours=1))
    assert found(store) == [one, two, later]
    assert found(store, ids=(two, later, 10**9, 2**63, -1)) == [two, later]
    assert found(store, ids=(2**70,)) == []
    assert found(store, queues=("other",)) == [two]
    assert found(store, queues=("other", "default")) == [one, two, later]
    assert found(store, statuses=(Status.SCHEDULED,)) == [later]
    assert found(store, statuses=(Status.SCHEDULED, Status.READY), queues=("default",), ids=(one,)) == [one]


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        (NOOP, [0]),
        ("tests.testapp.tasks", [0, 1]),
        ("tests.testapp.tasks.", [0, 1]),
        ("tests.testapp.tasks.no", []),
        ("*.noop", [0, 2]),
        ("tests.testapp.?asks.noop", [0]),
        ("tests*tasks.noop", [0]),
        ("*.noo", []),
        ("*noop", [0, 2]),
        ("testsxtestapp.*", []),
        ("tests.testapp.?.noop", []),
        ("tests*x*noop", []),
        ("*.odd+(", [3]),
    ],
)
def test_a_task_is_named_wholly_by_its_module_or_by_a_pattern(store: Store, text: str, hits: list[int]) -> None:
    """Nothing in it but * and ? means anything else."""
    paths = [NOOP, "tests.testapp.tasks.add", "other.noop", "a.odd+("]
    pks = [put(store, task=path)[0] for path in paths]
    assert found(store, task=text) == [pks[hit] for hit in hits]


def test_ages_count_by_the_clock_of_the_database(store: Store) -> None:
    """At least so old, at most so old; an age that no calendar has is no trouble."""
    old, young = put(store, 2)
    aged(store, old, enqueued_at=3600)
    assert found(store, older_s=1800.0) == [old]
    assert found(store, newer_s=1800.0) == [young]
    assert found(store, older_s=600.0, newer_s=7200.0) == [old]
    assert found(store, newer_s=1e12) == [old, young]


def test_the_text_of_the_latest_error_is_looked_for(store: Store) -> None:
    """In its class and its traceback, in small and capital letters; an earlier error does not count."""
    run = begin(store)
    refused, other = failed(store, run, "connection REFUSED"), failed(store, run, "100 % odd_ned")
    [fine] = put(store)
    jobs = FailedAttempt.objects.using(store.alias)
    jobs.create(
        job_id=other, attempt=0, worker="", ended_at=store.sql.now(), exception_class_path="x", traceback="refused"
    )
    assert found(store, error="refused") == [refused]
    assert found(store, error="valueerror") == [refused, other]
    assert found(store, error="100 % odd_") == [other]
    assert found(store, error="100 _") == [], "what LIKE would take for anything is itself"
    assert fine not in found(store, error="e")


def test_whether_each_job_was_named() -> None:
    """Only then nobody is asked."""
    assert Filters(ids=(1,)).names_ids_only()
    assert not Filters(ids=(1,), queues=("a",)).names_ids_only()
    assert not Filters().names_ids_only()
    assert not Filters()
    assert Filters(older_s=0.0)


# -- counting and taking ----------------------------------------------------------------------------------------------


def test_a_tally_tells_what_there_is(store: Store) -> None:
    """By task and status, the most frequent first; never more than the limit."""
    put(store, 3)
    put(store, task="a.b", queue="other")
    counted = tally(matching(store, Filters()))
    assert (counted.count, counted.more) == (4, False)
    assert counted.groups == ((NOOP, Status.READY, 3), ("a.b", Status.READY, 1))
    assert counted.by_status() == {Status.READY: 4}
    assert tally(matching(store, Filters()), 2).count == 2
    assert tally(matching(store, Filters()), 3).groups == ((NOOP, Status.READY, 3),), "the oldest"
    assert tally(matching(store, Filters(queues=("nobody",)))).count == 0


def test_a_tally_gives_up_at_its_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that there are more."""
    monkeypatch.setattr(queries, "COUNTED_MAX", 3)
    put(store, 3)
    assert not tally(matching(store, Filters())).more
    put(store, 2)
    assert tally(matching(store, Filters())).more


def test_keys_come_in_batches_oldest_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes meanwhile, or is enqueued meanwhile, is no trouble."""
    monkeypatch.setattr(queries, "BATCH", 2)
    pks = put(store, 5)
    assert list(keys(matching(store, Filters()))) == [pks[:2], pks[2:4], pks[4:]]
    assert list(keys(matching(store, Filters()), 3)) == [pks[:2], pks[2:3]]
    seen = []
    for batch in keys(matching(store, Filters(statuses=(Status.READY,)))):
        seen += batch
        store.cancel(batch)
        put(store)
    assert seen == pks


def test_a_list_shows_the_newest_with_their_latest_error(store: Store) -> None:
    """The newest first, no more than asked for."""
    run = begin(store)
    broken = failed(store, run, "no")
    fine = claimed(store, run)
    store.finish(run, [success(fine)])
    [waiting] = put(store)
    rows = listed(matching(store, Filters()), 10)
    assert [(row["id"], row["status"], row["error"]) for row in rows] == [
        (waiting, "ready", None), (fine, "successful", None), (broken, "failed", "builtins.ValueError"),
    ]  # fmt: skip
    assert set(rows[0]) == {*queries.LISTED, "error"}
    assert [row["id"] for row in listed(matching(store, Filters()), 1)] == [waiting]


# -- one job ----------------------------------------------------------------------------------------------------------


def test_the_story_of_a_job_has_every_attempt(store: Store) -> None:
    """Those that failed with their errors, the one that went well with its times and its worker."""
    run = begin(store)
    pk = claimed(store, run, max_attempts=3)
    store.finish(run, [failure(pk, retry_in_s=0.0, words="first")])
    store.sql.promote()
    assert store.claim(run, None, 1) == [pk]
    store.lost(run, [loss(pk, at_once=True)])
    assert store.claim(run, None, 1) == [pk]
    store.finish(run, [success(pk, attempt=3, result='{"a": 1}')])
    told = story(store, pk)
    assert told is not None
    assert (told["status"], told["result"], told["owner"], told["has_result"]) == ("successful", {"a": 1}, None, True)
    attempts = told["attempts"]
    assert [(each["attempt"], each["outcome"], each["error"]) for each in attempts] == [
        (1, "failed", "builtins.ValueError"), (2, "failed", "jobsup.errors.WorkerLost"), (3, "successful", None),
    ]  # fmt: skip
    assert attempts[1]["traceback"] == "worker 1 (pid 100) was killed by SIGKILL"
    assert all(each["worker"] == WORKER and each["started_at"] <= each["ended_at"] for each in attempts)


def test_the_story_of_a_job_that_runs_names_who_has_it(store: Store) -> None:
    """Its supervisor; its worker and attempt as soon as they are known; also when the supervisor's row is gone."""
    run = begin(store)
    pk = claimed(store, run)
    told = story(store, pk)
    assert told is not None
    assert (told["owner"]["run"], told["owner"]["name"], told["attempts"]) == (run, "one", [])
    store.mark_running(run, pk, WORKER, 1.0)
    told = story(store, pk)
    assert told is not None
    assert [(each["outcome"], each["worker"], each["ended_at"]) for each in told["attempts"]] == [
        ("running", WORKER, None)
    ]
    Supervisor.objects.using(store.alias).all().delete()
    told = story(store, pk)
    assert told is not None
    assert told["owner"] == {"run": run}
    assert story(store, 10**9) is None


def test_supervisors_that_are_over_are_left_out(store: Store) -> None:
    """The others with the age of their beat."""
    over, alive = begin(store), begin(store)
    runs.end(store, over)
    [only] = supervisors(store)
    assert (only["run"], only["name"], only["silent_s"] < 30) == (alive, "one", True)


# -- a long table -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_postgresql(postgresql_template: object, sqlite_template: object) -> Iterator[Store]:
    """A PostgreSQL table with many jobs."""
    with filled("postgresql") as store:
        yield store


@pytest.fixture(scope="module")
def long_sqlite(sqlite_template: object) -> Iterator[Store]:
    """A SQLite table with many jobs."""
    with filled("default") as store:
        yield store


READS: dict[str, Any] = {
    "the newest": lambda store: listed(matching(store, Filters()), 50),
    "by id": lambda store: listed(matching(store, Filters(ids=(5, 7))), 50),
    "scheduled": lambda store: listed(matching(store, Filters(statuses=(Status.SCHEDULED,))), 50),
    "running": lambda store: listed(matching(store, Filters(statuses=(Status.RUNNING,))), 50),
    "keys": lambda store: next(keys(matching(store, Filters(statuses=ENDED)))),
    "story": lambda store: story(store, 5),
}


@pytest.mark.parametrize("name", READS)
def test_p3_postgresql_reads_what_it_shows(long_postgresql: Store, name: str) -> None:
    """No list and no story reads the whole table."""
    for plan in plans(long_postgresql, lambda: READS[name](long_postgresql), "EXPLAIN (FORMAT JSON)"):
        nodes = nodes_of(plan)
        assert "Seq Scan" not in {scan["Node Type"] for scan in nodes.scans}, f"{plan.sql}\n{plan.text}"


@pytest.mark.parametrize("name", READS)
def test_p3_sqlite_reads_what_it_shows(long_sqlite: Store, name: str) -> None:
    """It walks the keys from the newest on, or a partial index."""
    for plan in plans(long_sqlite, lambda: READS[name](long_sqlite), "EXPLAIN QUERY PLAN"):
        assert not re.search(r"SCAN (jobsup_job|U0)$", plan.text, re.MULTILINE) or "ORDER BY" in plan.sql, plan.text
        assert name == "keys" or "TEMP B-TREE" not in plan.text or "INDEX jobsup_job_" in plan.text, plan.text
