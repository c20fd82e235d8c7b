"""A view starts work and knows soon that it began well, or why not."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE, runs
from tests.testapp import tasks, waited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobsup.waiting import Waited
    from tests.databases import Database

WAIT_S = 60


@contextmanager
def one_worker(database: Database) -> Iterator[None]:
    """Have a supervisor with one worker on duty."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        yield
        supervisor.stop()


def test_h_a_job_begins_well_goes_on_and_ends(database: Database, tmp_path: Path) -> None:
    """(True, None) for each of them, at once when it has happened; the message is there to be shown."""
    go = tmp_path / "go"
    with one_worker(database):
        result = waited.begin_well.enqueue(str(go))
        assert result.wait(timeout=WAIT_S, until="ready") == (True, None)
        assert (result.status, result.ready_message) == ("RUNNING", "the file has 3 sheets")
        assert result.wait(timeout=0.1, until="finished") == (False, "not finished after 0.1 s: the job is running")
        assert result.wait(timeout=WAIT_S, until="started") == (True, None)
        go.touch()
        assert result.wait(timeout=WAIT_S) == (True, None)
        assert result.return_value == "done"


def test_h_a_job_that_refuses_says_why(database: Database) -> None:
    """Well before the ten seconds of a view are over; one that is tried again is waited for."""
    with one_worker(database):
        refused = waited.refuse.enqueue("/data/in.csv")
        told = (False, "FileNotFoundError: /data/in.csv is not there")
        assert refused.wait(timeout=WAIT_S, until="ready") == told
        assert refused.status == "FAILED"
        again = waited.fail_early.enqueue("/data/in.csv")
        assert again.wait(timeout=WAIT_S, until="ready") == told
        assert len(again.errors) == 2


def test_h_coroutines_wait_and_say_so_too(database: Database) -> None:
    """Many at a time, each on a connection of its own, which is closed afterwards."""

    async def view() -> list[Waited]:
        return await asyncio.gather(*(one.wait_async(WAIT_S, "ready") for one in results))

    results = [waited.begin_well_async.enqueue() for _ in range(3)]
    with one_worker(database):
        assert asyncio.run(view()) == [(True, None)] * 3


@ON_POSTGRESQL
def test_h_what_is_said_in_a_transaction_is_heard_at_once(database: Database, tmp_path: Path) -> None:
    """Whatever becomes of the transaction."""
    go = tmp_path / "go"
    with one_worker(database):
        result = waited.begin_in_a_transaction.enqueue(str(go))
        assert result.wait(timeout=WAIT_S, until="ready") == (True, None)
        assert result.ready_message == "in the middle"
        go.touch()
        assert result.wait(timeout=WAIT_S) == (False, "ValueError: undo all that")
    assert runs(result) == []


@ON_SQLITE
def test_h_sqlite_says_that_it_cannot(database: Database, tmp_path: Path) -> None:
    """There the transaction would wait for itself."""
    with one_worker(database):
        result = waited.begin_in_a_transaction.enqueue(str(tmp_path / "go"))
        waiting = result.wait(timeout=WAIT_S)
    assert waiting.why is not None
    assert "SQLite has one writer at a time; call it before or after atomic()" in waiting.why


@pytest.mark.parametrize("until", ["started", "finished"])
@ON_POSTGRESQL
def test_h_a_short_job_is_waited_for(database: Database, until: str) -> None:
    """It is over before anybody could ask."""
    with one_worker(database):
        result = tasks.add.enqueue(2, 3)
        assert result.wait(WAIT_S, until) == (True, None)  # type: ignore[arg-type]
