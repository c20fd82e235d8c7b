"""Many claimers at once: what they get together, and that no two of them get the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.crowd import together
from benchmarks.errors import NotMeasured
from benchmarks.world import Figures, World

HAND = 100
"""How many jobs a claim takes."""

Found = tuple[list[int], int]

BARE_CLAIM = """
    UPDATE jobsup_job SET status = 2 WHERE id IN (
        SELECT id FROM jobsup_job WHERE status = 0 AND queue = 'default' ORDER BY priority DESC, id
        LIMIT %s FOR UPDATE SKIP LOCKED
    ) RETURNING id
"""


def claimers(world: World, jobs: int, numbers: Sequence[int], seconds: float) -> Figures:
    """Claims of 100 by some processes at once, and by the most of them with a bare SKIP LOCKED."""
    from benchmarks import tasks
    from benchmarks.tables import clear, vacuum

    figures: Figures = {}
    for name, work, number in [
        *((f"{number} claimer{'s' * (number > 1)}", _claim, number) for number in numbers),
        (f"{numbers[-1]} bare claimers", _claim_barely, numbers[-1]),
    ]:
        clear()
        tasks.nothing.enqueue_many(() for _ in range(jobs))
        vacuum()
        world.checkpoint()
        crowd = together(work, [(run, seconds) for run in range(1, number + 1)])
        found: list[Found] = [each.answer for each in crowd.done]
        pks = [pk for mine, _ in found for pk in mine]
        assert len(pks) == len(set(pks)), "two claimers got the same job"
        if len(pks) > jobs - HAND:
            raise NotMeasured(f"{jobs} jobs were not enough for {number} claimers: give --jobs")
        figures[name] = {"claims_per_s": sum(claims for _, claims in found) / crowd.took_s}
    alone = next(iter(figures.values()))["claims_per_s"]
    return {name: {**each, "share": each["claims_per_s"] / alone} for name, each in figures.items()}


def _claim(asked: tuple[int, float]) -> Found:
    from jobsup.store import Store

    run, seconds = asked
    store = Store()
    return _for_long(lambda: store.claim(run, ["default"], HAND), seconds)


def _claim_barely(asked: tuple[int, float]) -> Found:
    from django.db import connection

    def claim() -> list[int]:
        with connection.cursor() as cursor:
            cursor.execute(BARE_CLAIM, [HAND])
            return [pk for (pk,) in cursor.fetchall()]

    return _for_long(claim, asked[1])


def _for_long(claim: Callable[[], list[int]], seconds: float) -> Found:
    pks: list[int] = []
    claims = 0
    give_up_at = time.perf_counter() + seconds
    while time.perf_counter() < give_up_at:
        mine = claim()
        pks += mine
        claims += len(mine) == HAND
    return pks, claims
