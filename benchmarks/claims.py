"""What a claim costs beside many ready jobs, many finished ones, many other claimers, and an old transaction."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from jobsup.store import Store

Figures = dict[str, float]
Found = tuple[list[int], int]

HAND = 100
"""How many jobs a claim takes, a statement ends, and one enqueues."""
PART = 500
"""How many cycles are timed together."""
CLAIMERS = (1, 16, 64)
CLAIMING_S = 5.0


def held(jobs: int) -> Figures:
    """Cycles of claim, finish and enqueue, then so many jobs more beside a REPEATABLE READ transaction left open."""
    store, run = _begin()
    parts = max(3, jobs // (PART * HAND))
    calm = [_cycles(store, run) for _ in range(max(3, parts // 10))][1:]
    with old_transaction():
        disturbed = [_cycles(store, run) for _ in range(parts)]
    last = disturbed[-max(1, parts // 5) :]
    rate = statistics.median(calm)
    return {
        "calm_cycles_per_s": rate,
        "held_first_per_s": disturbed[0],
        "held_last_per_s": statistics.median(last),
        "held_slowest_per_s": min(disturbed),
        "ratio": statistics.median(last) / rate,
    }


def backlog(jobs: int) -> Figures:
    """Cycles with nothing else in the table, and with so many ready jobs behind them."""
    return _beside(jobs, 0)


def finished(jobs: int) -> Figures:
    """Cycles with nothing else in the table, and beside so many finished jobs."""
    return _beside(jobs, 3)


def claimers(jobs: int) -> Figures:
    """Claims of 100 by 1, 16 and 64 processes at once, and by 64 that are kept apart by SKIP LOCKED alone."""
    rates = {}
    for number, lanes in [*((number, True) for number in CLAIMERS), (CLAIMERS[-1], False)]:
        _clear()
        fill(jobs, 0)
        rates[f"claims_per_s_{number}{'' if lanes else '_skip_locked_only'}"] = _claim_rate(number, lanes=lanes)
    one, *_, many = (rates[f"claims_per_s_{number}"] for number in CLAIMERS)
    return rates | {"ratio": many / one, "ratio_skip_locked_only": list(rates.values())[-1] / one}


def fill(jobs: int, status: int) -> None:
    """Put jobs there, and let the server learn of them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO jobsup_job (task, queue, backend, priority, status, arguments, attempt, worker, enqueued_at,
                                       finished_at)
               SELECT 'benchmarks.tasks.noop', 'default', 'default', 0, %s, '{"args":[],"kwargs":{}}', 0, '', now(),
                      CASE WHEN %s > 2 THEN now() END
               FROM generate_series(1, %s)""",
            [status, status, jobs],
        )
        cursor.execute("VACUUM ANALYZE jobsup_job")


@contextmanager
def old_transaction() -> Iterator[None]:
    """Leave a transaction open that has looked at something."""
    from django.db import connection

    with closing(connection.copy()) as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT 1 FROM jobsup_queue")
        yield


def _begin() -> tuple[Store, int]:
    from jobsup import runs
    from jobsup.store import Store

    _clear()
    store = Store()
    for _ in range(10):
        _enqueue(store)
    return store, runs.begin(store, "bench", "node", "file", 1, 30)


def _beside(jobs: int, status: int) -> Figures:
    store, run = _begin()
    empty = [_cycles(store, run) for _ in range(4)][1:]
    fill(jobs, status)
    beside = [_cycles(store, run) for _ in range(4)][1:]
    rates = statistics.median(empty), statistics.median(beside)
    return {"empty_cycles_per_s": rates[0], "cycles_per_s": rates[1], "ratio": rates[1] / rates[0]}


def _cycles(store: Store, run: int) -> float:
    """Claim, finish and enqueue; return how many cycles there were in a second."""
    from jobsup.sql import FinishRow

    begun = time.perf_counter()
    for _ in range(PART):
        pks = store.claim(run, ["default"], HAND)
        assert len(pks) == HAND, len(pks)
        ended = store.sql.finish(run, [FinishRow(pk, 1, 3, "null", "w", 0.01, 0.0, 0.0) for pk in pks])
        assert len(ended) == HAND
        _enqueue(store)
    return PART / (time.perf_counter() - begun)


def _enqueue(store: Store) -> None:
    from django.db import transaction

    from jobsup.sql import NewRow

    head = NewRow("benchmarks.tasks.noop", "default", "default", 0, "", None, None)
    with transaction.atomic():
        store.sql.insert_many(head, ['{"args":[],"kwargs":{}}'] * HAND)


def _claim_rate(number: int, *, lanes: bool) -> float:
    from django.db import connection

    connection.close()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(number)
    counts: Queue[Found] = context.Queue()
    processes = [context.Process(target=_claim_for_long, args=(run, lanes, barrier, counts)) for run in range(number)]
    for process in processes:
        process.start()
    found: list[Found] = [counts.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    pks = [pk for mine, _ in found for pk in mine]
    assert len(pks) == len(set(pks)), "two claimers got the same job"
    return sum(claims for _, claims in found) / CLAIMING_S


def _claim_for_long(run: int, lanes: bool, barrier: Barrier, counts: Queue[Found]) -> None:  # noqa: FBT001
    import django

    django.setup()
    from jobsup.sql.postgresql import walks
    from jobsup.store import Store

    if not lanes:
        walks.LANE = ""
    store, claims = Store(), 0
    pks: list[int] = []
    store.claim(run, ["nothing"], 1)
    barrier.wait()
    give_up_at = time.perf_counter() + CLAIMING_S
    while time.perf_counter() < give_up_at:
        pks += store.claim(run, ["default"], HAND)
        claims += 1
    counts.put((pks, claims))


def _clear() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobsup_job, jobsup_failedattempt")
