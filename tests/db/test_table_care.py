"""P2: how the migration has the tables stored and vacuumed on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.db import connections

from jobsup.models import Status
from jobsup.sql import FinishRow
from jobsup.sql.postgresql import care
from jobsup.store import Store
from tests.db.rows import begin, claimed, crowd
from tests.db.test_plans import nodes_of, plans

if TYPE_CHECKING:
    from tests.databases import Database

TABLES = {"jobsup_job": care.BUSY, "jobsup_supervisor": care.SMALL, "jobsup_failedattempt": care.CALM}


def stored(alias: str) -> dict[str, dict[str, float]]:
    """Return the storage parameters of the tables."""
    found = Store(alias).sql.rows(
        "SELECT relname, coalesce(reloptions, '{}') FROM pg_class WHERE relname = ANY(%s)", [list(TABLES)]
    )
    return {
        name: {key: float(value) for key, value in (option.split("=") for option in options)} for name, options in found
    }


def test_p2_tables_are_vacuumed_early_and_leave_room(postgresql: str) -> None:
    """As early as 1 % of a table is dead, without pauses; a page has room for the next version of its rows."""
    found = stored(postgresql)
    assert found == TABLES
    assert all(options["autovacuum_vacuum_scale_factor"] == 0.01 for options in found.values())
    assert all(options["autovacuum_vacuum_cost_delay"] == 0 for options in found.values())
    assert 70 <= found["jobsup_job"]["fillfactor"] <= 80


def test_p2_the_care_can_be_undone(database: Database) -> None:
    """The migration goes back and forth, and does nothing on other databases."""
    call_command("migrate", "jobsup", "0004", verbosity=0)
    if database.vendor == "postgresql":
        assert stored("default") == {name: {} for name in TABLES}
    call_command("migrate", "jobsup", verbosity=0)
    if database.vendor == "postgresql":
        assert stored("default") == TABLES


def test_p3_a_mark_touches_no_index(postgresql: str) -> None:
    """It changes nothing that is indexed, and finds room beside the row: the server updates it in place (HOT)."""
    store = Store(postgresql)
    run = begin(store)
    pks = [claimed(store, run) for _ in range(5)]
    hot = "SELECT pg_stat_get_xact_tuples_hot_updated('jobsup_job'::regclass)"
    with connections[postgresql].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(hot)
        [before] = cursor.fetchone()
        for pk in pks:
            store.mark_running(run, pk, "worker", 1.0)
        cursor.execute(hot)
        [after] = cursor.fetchone()
        cursor.execute("COMMIT")
    assert after - before == len(pks)


def test_p1_cancellations_are_looked_for_without_the_claims(postgresql: str) -> None:
    """By an index of their own, which stays empty whatever an old transaction keeps in that of the claims."""
    store = Store(postgresql)
    run = begin(store)
    crowd(store, Status.RUNNING, run)
    [plan] = plans(store, lambda: store.cancel_asked(run), "EXPLAIN (FORMAT JSON)")
    assert [scan.get("Index Name") for scan in nodes_of(plan).scans] == [care.ASKED]


@pytest.mark.parametrize(("status", "result"), [(3, "null"), (4, None)], ids=["plain", "with more to say"])
def test_p1_ends_find_their_rows_by_key(postgresql: str, status: int, result: str | None) -> None:
    """Not by the run's claims, however few of these the statistics tell of."""
    store = Store(postgresql)
    run = begin(store)
    pk = claimed(store, run)
    ends = [FinishRow(pk, 1, status, result, "", 1.0, 0.0, 0.0)]
    [plan] = plans(store, lambda: store.sql.finish(run, ends), "EXPLAIN (FORMAT JSON)")
    assert [scan.get("Index Name") for scan in nodes_of(plan).scans] in (["jobsup_job_pkey"], [None]), plan.text
