"""A supervisor's session keeps its usual claim ready: parsed once, planned once, by the plan that it should have."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections

from jobsup.models import Status
from jobsup.sql.postgresql import walks
from jobsup.sql.postgresql.driver import to_last_result
from jobsup.store import Store
from tests.db.rows import begin, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PARAMS: dict[str, str | int] = {"lane": 1, "queue": "default", "limit": 1, "run": 1}
KEPT = "SELECT name FROM pg_prepared_statements ORDER BY name"


@pytest.fixture
def attending(postgresql: str) -> Iterator[Store]:
    """The store of a supervisor that has just connected."""
    store = Store(postgresql)
    connections[postgresql].close()
    store.sql.attend(listen=False)
    yield store
    connections[postgresql].close()


def statements_of(store: Store, action: Callable[[], object]) -> list[str]:
    """Do something and return the statements that it took."""
    found: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        found.append(sql)
        return execute(sql, *rest)

    with store.sql.connection.execute_wrapper(note):
        action()
    return found


def kept(store: Store) -> list[str]:
    """Return the statements that the session keeps."""
    return [name for (name,) in store.sql.rows(KEPT)]


def test_a_claim_is_prepared_with_the_first_and_executed_by_all_others(attending: Store) -> None:
    """Each is one round trip, and takes what it should."""
    run, pks = begin(attending), put(attending, 4)
    taken: list[int] = []
    for n in range(4):
        attending.sql._suspect = False  # type: ignore[attr-defined]  # one that took long has the next one counted
        (sql,) = statements_of(attending, lambda: taken.extend(attending.claim(run, ["default"], 1)))
        assert "EXECUTE" in sql
        assert ("PREPARE" in sql) == (n == 0)
    assert taken == pks
    assert len(kept(attending)) == 1


def test_a_new_session_prepares_it_anew(attending: Store) -> None:
    """The supervisor closes its connection every few seconds."""
    run, pks = begin(attending), put(attending, 2)
    assert attending.claim(run, ["default"], 1) == pks[:1]
    attending.sql.connection.close()
    attending.sql.attend(listen=False)
    assert kept(attending) == []
    assert attending.claim(run, ["default"], 1) == pks[1:]
    assert len(kept(attending)) == 1


def test_a_claim_that_failed_once_it_was_prepared_does_not_stand_in_the_way(attending: Store) -> None:
    """What is prepared stays though the statement behind it fails."""
    run, pks = begin(attending), put(attending)
    with connections[attending.alias].copy().cursor() as other:
        other.execute("BEGIN; LOCK TABLE jobsup_job")
        attending.sql.run("SET lock_timeout = 50")
        for _ in range(2):
            with pytest.raises(OperationalError, match="lock timeout"):
                attending.claim(run, ["default"], 1)
        other.execute("ROLLBACK")
        other.connection.close()
    assert attending.claim(run, ["default"], 1) == pks


def test_a_session_that_is_nobodys_keeps_nothing(postgresql: str) -> None:
    """That of a web process, or of a command, may belong to a pooler."""
    store = Store(postgresql)
    run, pks = begin(store), put(store)
    (sql,) = statements_of(store, lambda: store.claim(run, ["default"], 1))
    assert "EXECUTE" not in sql
    assert store.statuses(pks) == {pks[0]: Status.RUNNING}


def test_p3_it_is_planned_once_and_reads_no_more_than_it_takes(attending: Store) -> None:
    """Whatever the limit is: a plan for many rows must neither sort nor read the table, nor join with all of it."""
    run = begin(attending)
    with attending.sql.connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobsup_job (task, queue, backend, priority, arguments, status, attempt, worker, enqueued_at) "
            "SELECT 't', 'default', 'default', 0, '{}', 0, 0, '', now() FROM generate_series(1, 20000)"
        )
        cursor.execute("ANALYZE jobsup_job")
    for _ in range(3):
        attending.claim(run, ["default"], 1)
    # After one that took long, the next one counts what it reads: that is another statement.
    found = attending.sql.rows("SELECT name, generic_plans, custom_plans FROM pg_prepared_statements ORDER BY name")
    assert [sum(row[1:][n] for row in found) for n in range(2)] == [3, 0]
    name = found[0][0]
    with attending.sql.connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(walks.LANE_OF_PLANS, {"lane": 1})
        cursor.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name}('default', 1, 1)")
        plan = json.dumps(cursor.fetchone()[0])
        cursor.execute("ROLLBACK")
    assert '"Index Name": "jobsup_job_ready"' in plan
    assert '"Index Cond": "(id = picked.id)"' in plan
    assert '"Node Type": "Sort"' not in plan
    assert re.search(r'"Seq Scan"[^{}]*"Relation Name": "jobsup_job"', plan) is None


@pytest.mark.parametrize("lane", [walks.LANE, walks.LANE_OF_PLANS], ids=["once", "plans"])
def test_p3_it_is_never_compiled(attending: Store, lane: str) -> None:
    """Where very much is ready the server would do so for each claim, which takes longer than the claim."""
    compiled: list[bool] = []
    with attending.sql.connection.cursor() as cursor:
        cursor.execute("BEGIN; SET LOCAL jit_above_cost = 0; SELECT pg_jit_available()")
        to_last_result(cursor)
        can_be = cursor.fetchone()[0]
        for before in ("", lane):
            cursor.execute(before + "EXPLAIN (FORMAT JSON) " + walks.plain(1, {}, counted=False), PARAMS)
            to_last_result(cursor)
            compiled.append("JIT" in cursor.fetchone()[0][0])
        cursor.execute("ROLLBACK")
    assert compiled == [can_be, False]
