"""Claims with SKIP LOCKED."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobsup.sql.base import Statements

# MATERIALIZED: the planner may otherwise run the subquery again for every row that it joins and lock more than the
# limit (the same surprise is described in Oban's basic engine). SKIP LOCKED: claimers do not wait for each other.
# The statement commits by itself: nothing stays locked while a job runs. That the queue is not paused is asked once.
CLAIM = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM jobsup_job WHERE status = 0 AND queue = %s
            AND NOT EXISTS (SELECT FROM jobsup_queue WHERE name = %s AND paused_at IS NOT NULL)
        ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobsup_job AS job SET status = 2, claimed_by = %s, attempt = job.attempt + 1, worker = ''
    FROM picked WHERE job.id = picked.id
    RETURNING job.id, job.priority, 0
"""

# Over several queues: the first rows of each by its own walk on the index, then the best of those. `queue IN (...)`
# with one ORDER BY would sort every ready row. Only what is taken is locked, and some more candidates are looked at
# than are wanted, so that simultaneous claimers find others than those that somebody has just locked.
SERVED = """
    WITH served AS MATERIALIZED (
        SELECT name, rank, room FROM unnest(%s::text[], %s::int[], %s::int[]) AS queues(name, rank, room)
        WHERE NOT EXISTS (SELECT FROM jobsup_queue WHERE name = queues.name AND paused_at IS NOT NULL)
    ), seen AS MATERIALIZED (
        SELECT job.id, job.priority, served.rank FROM served CROSS JOIN LATERAL (
            SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = served.name
            ORDER BY priority DESC, id LIMIT %s
        ) AS job WHERE served.room IS NULL
    ),"""
FREE = """
        SELECT job.id, seen.priority, seen.rank
        FROM seen JOIN jobsup_job AS job ON job.id = seen.id AND job.status = 0
        ORDER BY seen.rank, seen.priority DESC, seen.id LIMIT %s FOR UPDATE OF job SKIP LOCKED
"""
TAKE = """
    UPDATE jobsup_job AS job SET status = 2, claimed_by = %s, attempt = job.attempt + 1, worker = ''
    FROM picked WHERE job.id = picked.id
    RETURNING job.id, job.priority, picked.rank, job.queue
"""
CLAIM_SEVERAL = f"{SERVED} picked AS MATERIALIZED ({FREE}) {TAKE}"

# Where a queue has room for some only, these are locked where they are found: how many of a queue will be taken is
# not known before. Those that then are too many for the limit are let go with the commit, at once. The second LIMIT
# there is for the planner, which cannot know what the first one will be.
CLAIM_WITHIN = f"""
    {SERVED} free AS MATERIALIZED ({FREE}), few AS MATERIALIZED (
        SELECT job.id, job.priority, served.rank FROM served CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = served.name
                ORDER BY priority DESC, id LIMIT served.room FOR UPDATE SKIP LOCKED
            ) AS first LIMIT %s
        ) AS job WHERE served.room > 0
    ), picked AS MATERIALIZED (
        SELECT id, rank FROM (SELECT * FROM free UNION ALL SELECT * FROM few) AS found
        ORDER BY rank, priority DESC, id LIMIT %s
    )
    {TAKE}
"""  # noqa: S608  # constants

RIVALS = 64
"""How many rows of other claimers a claim over several queues can step over."""


class Claims(Statements):
    """The claims of PostgreSQL."""

    def claim(self, run: int, queues: Sequence[str] | None, limit: int, *, ordered: bool = False) -> list[int]:
        names = self.queues(queues)
        if len(names) == 1:
            rows = self.rows(CLAIM, (names[0], names[0], limit, run))
        elif names:
            ranks = list(range(len(names))) if ordered else [0] * len(names)
            rows = self.rows(CLAIM_SEVERAL, (names, ranks, [None] * len(names), limit + RIVALS, limit, run))
        else:
            rows = []
        return [row[0] for row in _best_first(rows, limit)]

    def claim_within(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool = False
    ) -> list[tuple[int, str]]:
        names = [name for name in self.queues(queues) if rooms.get(name, 1) > 0]
        if not names:
            return []
        ranks = list(range(len(names))) if ordered else [0] * len(names)
        room = [min(limit, rooms[name]) if name in rooms else None for name in names]
        rows = self.rows(CLAIM_WITHIN, (names, ranks, room, limit + RIVALS, limit, limit, limit, run))
        return [(row[0], row[3]) for row in _best_first(rows, limit)]


def _best_first(rows: list[tuple[Any, ...]], limit: int) -> list[tuple[Any, ...]]:
    """Return what a claim took (id, priority, rank, queue) in the order in which it is to be worked off."""
    assert len(rows) <= limit, "the claim took more than its limit"
    return sorted(rows, key=lambda row: (row[2], -row[1], row[0]))
