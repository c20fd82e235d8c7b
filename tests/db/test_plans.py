"""P3: the plans of the statements that stand between a long queue and its speed, with 100,000 jobs in the table."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from django.db import connections, transaction

from jobsup import queue_control, runs, untold
from jobsup.recorder import TOGETHER_MAX
from jobsup.sql import FinishRow
from jobsup.sql.postgresql import walks
from jobsup.sql.postgresql.floors import MARGIN
from jobsup.sql.postgresql.walks import RIVALS
from jobsup.store import Store
from spawnpool.lanes import HAND_KEYS_MAX
from tests import databases
from tests.db.rows import begin, loss, new_row, success

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

JOBS = 100_000
QUEUES = ["a", "b", "c", "d"]
LIMIT = 50


class Plan(NamedTuple):
    """A statement and how the database would execute it."""

    sql: str
    text: str


class Nodes(NamedTuple):
    """What a PostgreSQL plan consists of."""

    scans: list[dict[str, Any]]
    sorts: list[dict[str, Any]]


@contextmanager
def filled(alias: str) -> Iterator[Store]:
    """Put 100,000 jobs there: nine of ten ready, the others scheduled, running for a run, or over."""
    store = Store(alias)
    databases.empty(alias)
    numbers = (
        f"generate_series(1, {JOBS}) AS number(n)"
        if alias == "postgresql"
        else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {JOBS}) SELECT n FROM c)"
    )
    later = store.sql.now().replace(year=2100)
    with connections[alias].cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, status, attempt,
                                        claimed_by, worker, enqueued_at)
                SELECT 'tests.testapp.tasks.noop', substr('abcd', 1 + n %% 4, 1), 'default', n %% 3, '{{}}', %s,
                       CASE n %% 40 WHEN 0 THEN 1 WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 4 ELSE 0 END, 1,
                       CASE WHEN n %% 40 = 1 THEN n / 10000 END, '', %s FROM {numbers}""",
            [store.sql._stored(later) if alias == "default" else later] * 2,  # type: ignore[attr-defined]
        )
        cursor.execute("ANALYZE")
    yield store
    databases.empty(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("VACUUM ANALYZE jobsup_job" if alias == "postgresql" else "ANALYZE")


@pytest.fixture(scope="module")
def big_postgresql(postgresql_template: object, sqlite_template: object) -> Iterator[Store]:
    """A PostgreSQL table with many jobs."""
    with filled("postgresql") as store:
        yield store


@pytest.fixture(scope="module")
def big_sqlite(sqlite_template: object) -> Iterator[Store]:
    """A SQLite table with many jobs."""
    with filled("default") as store:
        yield store


def plans(store: Store, action: Callable[[], object], explain: str) -> list[Plan]:
    """Do something and return the plans of its statements on the jobs, with the parameters that they had."""
    connection = connections[store.alias]
    found = []

    def look(execute: Callable[..., Any], sql: str, params: Sequence[Any], many: bool, context: Any) -> Any:  # noqa: FBT001
        if "jobsup_job" in sql and not many:
            cursor = connection.create_cursor()
            cursor.execute(f"{explain} {sql.removeprefix(walks.LANE)}", params)
            rows = cursor.fetchall()
            found.append(Plan(sql, json.dumps(rows[0][0]) if "JSON" in explain else "\n".join(r[-1] for r in rows)))
            cursor.close()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        action()
    assert found
    return found


def nodes_of(plan: Plan) -> Nodes:
    """Return the scans of the jobs' table and the sorts in a PostgreSQL plan."""
    nodes = Nodes([], [])

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "jobsup_job" and "Scan" in node["Node Type"]:
            nodes.scans.append(node)
        if "Sort" in node["Node Type"]:
            nodes.sorts.append(node)
        for child in node.get("Plans", []):
            walk(child)

    walk(json.loads(plan.text)[0]["Plan"])
    return nodes


def actions(store: Store) -> dict[str, tuple[Callable[[], object], str]]:
    """Return what a supervisor and its workers do all day, with the index that carries it."""
    ready, due, owned, key = "jobsup_job_ready", "jobsup_job_due", "jobsup_job_claimed", "key"
    run = begin(store)
    pks = store.claim(run, ["a"], 5)
    many = [FinishRow(pk, 1, 3, "null", "", 1.0, 0.0, 0.0) for pk in range(TOGETHER_MAX)]
    return {
        "claim one queue": (lambda: store.claim(run, ["a"], LIMIT), ready),
        "claim several queues": (lambda: store.claim(run, QUEUES, LIMIT), ready),
        "claim any queue": (lambda: store.claim(run, None, LIMIT), ready),
        "claim in order": (lambda: store.sql.claim(run, QUEUES, LIMIT, ordered=True), ready),
        "claim some only": (lambda: store.sql.claim_within(run, QUEUES, {"a": 2, "c": 0}, LIMIT, ordered=True), ready),
        "look for paused": (lambda: (queue_control.pause(store, ["z"]), queue_control.paused_jobs(store, run)), owned),
        "look for untold": (lambda: untold.untold_of(store, run), "jobsup_job_untold"),
        "adopt untold": (lambda: untold.adopt(store, run), "jobsup_job_untold"),
        "promote": (store.sql.promote, due),
        "next due": (store.sql.next_due_s, due),
        "recover": (lambda: runs.recover(store, run, "x"), owned),
        "begin a run": (lambda: begin(store), owned),
        "load": (lambda: store.sql.load(pks), key),
        "load many": (lambda: store.sql.load(range(HAND_KEYS_MAX)), key),
        "finish": (lambda: store.sql.finish(run, many), key),
        "finish one": (lambda: store.sql.finish(run, many[:1]), key),
        "mark": (lambda: store.mark_running(run, pks[0], "", 1.0), key),
        "lost": (lambda: store.lost(run, [loss(pks[0]), loss(pks[1])]), key),
        "release": (lambda: store.release(run, pks[2:4]), key),
        "refused": (lambda: store.finish(run, [success(pks[0])]), key),
        "enqueue": (lambda: store.enqueue(new_row()), ""),
    }


NAMES = [
    "claim one queue", "claim several queues", "claim any queue", "claim in order", "claim some only",
    "look for paused", "look for untold", "adopt untold", "promote", "next due", "begin a run", "load", "load many",
    "finish", "finish one", "mark", "lost", "release", "refused", "recover", "enqueue",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_p3_postgresql_walks_indexes(big_postgresql: Store, name: str) -> None:
    """No statement reads the whole table, and none sorts more than it takes."""
    action, index = actions(big_postgresql)[name]
    for plan in plans(big_postgresql, action, "EXPLAIN (FORMAT JSON)"):
        nodes = nodes_of(plan)
        used = {scan.get("Index Name", scan["Node Type"]) for scan in nodes.scans}
        assert "Seq Scan" not in used, f"{plan.sql}\n{plan.text}"
        assert index in ("", "key") or used & {index, "Bitmap Heap Scan"} or "jobsup_job_pkey" in used, plan.text
        assert all(sort["Plan Rows"] <= (LIMIT + RIVALS) * len(QUEUES) for sort in nodes.sorts), (
            f"{plan.sql}\n{plan.text}"
        )


@pytest.mark.parametrize(("queues", "sorts"), [(["a"], 0), (QUEUES, 1), (None, 1)], ids=["one", "several", "any"])
def test_p3_a_claim_reads_only_what_it_takes(big_postgresql: Store, queues: list[str] | None, sorts: int) -> None:
    """The claim reads its rows in the order of the ready index and stops: no sort, no rows read in vain."""
    run = begin(big_postgresql)
    explain = "EXPLAIN (ANALYZE, FORMAT JSON)"
    *_, plan = plans(big_postgresql, lambda: big_postgresql.claim(run, queues, LIMIT), explain)
    nodes = nodes_of(plan)
    [walk] = [scan for scan in nodes.scans if scan.get("Index Name") == "jobsup_job_ready"]
    assert walk["Actual Rows"] <= (LIMIT if queues == ["a"] else LIMIT + RIVALS)
    assert walk.get("Rows Removed by Filter", 0) == 0
    assert len(nodes.sorts) == sorts


@pytest.fixture
def odd_statistics(big_postgresql: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """The same table with statistics of another time; autovacuum is kept from mending them meanwhile."""
    with connections[big_postgresql.alias].cursor() as cursor, transaction.atomic(using=big_postgresql.alias):
        if request.param == "all over":
            cursor.execute("UPDATE jobsup_job SET status = 3 WHERE status = 0")
            cursor.execute("ANALYZE jobsup_job")
            cursor.execute("UPDATE jobsup_job SET status = 0 WHERE status = 3")
        else:
            cursor.execute("ALTER TABLE jobsup_job SET (autovacuum_enabled = false)")
            cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'jobsup_job'::regclass")
            cursor.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname ~ '^jobsup_job'")
        yield big_postgresql
        transaction.set_rollback(True, using=big_postgresql.alias)


@pytest.mark.parametrize("odd_statistics", ["never analysed", "all over"], indirect=True)
def test_p3_bad_statistics_do_not_turn_a_plan(odd_statistics: Store) -> None:
    """Neither those of a table that was never analysed, nor those of a time at which nothing was ready."""
    store, run = odd_statistics, begin(odd_statistics)
    recent = [(name, priority, 1000) for name in QUEUES for priority in (0, 1, 2)]
    for active in (False, True):
        for queues, rooms in ((["a"], {}), (QUEUES, {}), (["a"], {"a": 5}), (QUEUES, {"a": 2, "b": 3})):
            if active:
                known = store.sql.floors(queues)  # type: ignore[attr-defined]
                known.begin([], [], short=False)
                known.learn(recent)
            for plan in plans(
                store, partial(store.sql.claim_within, run, queues, rooms, LIMIT), "EXPLAIN (FORMAT JSON)"
            ):
                used = {scan.get("Index Name", scan["Node Type"]) for scan in nodes_of(plan).scans}
                assert used <= {"jobsup_job_ready", "jobsup_job_pkey"}, f"{plan.sql}\n{plan.text}"
                by_key = [scan for scan in nodes_of(plan).scans if scan.get("Index Name") == "jobsup_job_pkey"]
                assert all("id = " in scan["Index Cond"] for scan in by_key if "picked" in plan.sql), plan.text
                assert "jobsup_job_ready" in used or "picked" not in plan.sql, f"{plan.sql}\n{plan.text}"
            store.sql.floors(queues).forget()  # type: ignore[attr-defined]
    for many in (1, 100, TOGETHER_MAX):
        ends = [FinishRow(pk, 1, 3, "null", "", 1.0, 0.0, 0.0) for pk in range(many)]
        for plan in plans(store, partial(store.sql.finish, run, ends), "EXPLAIN (FORMAT JSON)"):
            assert {scan.get("Index Name", scan["Node Type"]) for scan in nodes_of(plan).scans} == {"jobsup_job_pkey"}


def test_p3_a_claim_from_floors_begins_there(big_postgresql: Store) -> None:
    """Each step reads what it takes and nothing before it, by the index of ready jobs alone."""
    store, run = big_postgresql, begin(big_postgresql)
    recent = [(name, priority, JOBS // 2 + MARGIN) for name in QUEUES for priority in (0, 1, 2)]
    for queues in (["a"], QUEUES):
        known = store.sql.floors(queues)  # type: ignore[attr-defined]
        known.begin([], [], short=False)
        known.learn(recent, trust=True)
        known.looked(known.behind(0.0), 10**6, full=False, took_s=1e6, now=time.monotonic())
        [plan] = plans(store, partial(store.claim, run, queues, LIMIT), "EXPLAIN (ANALYZE, FORMAT JSON)")
        known.forget()
        scans = [scan for scan in nodes_of(plan).scans if scan.get("Index Name") == "jobsup_job_ready"]
        read = sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans)
        assert read <= (LIMIT if queues == ["a"] else (LIMIT + RIVALS) * len(queues)), plan.text
        assert all(scan.get("Rows Removed by Filter", 0) == 0 for scan in scans), plan.text
        assert "(id > " in plan.text


@pytest.mark.parametrize("name", NAMES)
def test_p3_sqlite_searches_indexes(big_sqlite: Store, name: str) -> None:
    """No statement reads the whole table, none sorts the queue."""
    action, index = actions(big_sqlite)[name]
    seen = plans(big_sqlite, action, "EXPLAIN QUERY PLAN")
    for plan in seen:
        assert not re.search(r"SCAN (jobsup_job|U0)\b(?! USING (COVERING )?INDEX jobsup_job_\w+)", plan.text), (
            f"{plan.sql}\n{plan.text}"
        )
    assert index in ("", "key") or any(index in plan.text for plan in seen), seen


def test_p3_sqlite_finds_the_ends_of_jobs_by_their_keys(big_sqlite: Store) -> None:
    """By the index of what the run has claimed it would read all of that for each of them."""
    ends = [success(pk) for pk in range(1, 4)]
    [plan] = plans(big_sqlite, lambda: big_sqlite.sql.finish(1, [end.row for end in ends]), "EXPLAIN QUERY PLAN")
    assert "SEARCH jobsup_job USING INTEGER PRIMARY KEY" in plan.text
    assert "jobsup_job_claimed" not in plan.text


def test_p3_sqlite_takes_a_queue_in_the_order_of_its_index(big_sqlite: Store) -> None:
    """Each queue is walked in the order of the index; only the few rows taken from there are put into one order."""
    run = begin(big_sqlite)
    for queues in (["a"], QUEUES):
        [plan] = plans(big_sqlite, lambda queues=queues: big_sqlite.claim(run, queues, LIMIT), "EXPLAIN QUERY PLAN")  # type: ignore[misc]
        lines = plan.text.splitlines()
        walks = [n for n, line in enumerate(lines) if re.search(r"INDEX jobsup_job_ready \(queue=\?\)$", line)]
        assert len(walks) == len(queues), plan.text
        assert not any(lines[n + 1].startswith("USE TEMP B-TREE") for n in walks), plan.text
