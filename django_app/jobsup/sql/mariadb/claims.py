"""Claims with SKIP LOCKED, in short transactions: an UPDATE of InnoDB's neither skips locked rows nor returns any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jobsup.sql.mariadb.base import Common, marks

# The index is named, or the statistics of a queue that has just been filled may lead to a sort of all of it, and then
# every row that is read is locked. It walks the queue in the order of the work and locks just what it takes.
WALK = """
    SELECT id, priority, queue FROM jobsup_job FORCE INDEX (jobsup_job_ready) WHERE status = 0 AND queue = %s
        AND NOT EXISTS (SELECT 1 FROM jobsup_queue WHERE name = %s AND paused_at IS NOT NULL)
    ORDER BY priority DESC, id LIMIT %s
"""
TAKE = """
    UPDATE jobsup_job SET status = 2, claimed_by = %s, attempt = LEAST(attempt + 1, 32767), worker = ''
    WHERE id IN ({pks})
"""
# One probe of the index for each queue; DISTINCT would read all ready jobs, and so would a recursive CTE.
NEXT_QUEUE = "SELECT min(queue) FROM jobsup_job FORCE INDEX (jobsup_job_ready) WHERE status = 0 AND queue > %s"


class Claims(Common):
    """The claims of MariaDB and MySQL."""

    def queues(self, queues: Sequence[str] | None) -> list[str]:
        if queues is not None:
            return list(queues)
        found = [""]
        while (name := self.rows(NEXT_QUEUE, (found[-1],))[0][0]) is not None:
            found.append(name)
        return found[1:]

    def claim(self, run: int, queues: Sequence[str] | None, limit: int, *, ordered: bool = False) -> list[int]:
        return [pk for pk, _ in self.claim_within(run, queues, {}, limit, ordered=ordered)]

    def claim_within(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool = False
    ) -> list[tuple[int, str]]:
        names = [name for name in self.queues(queues) if rooms.get(name, 1) > 0]
        ranks = {name: rank if ordered else 0 for rank, name in enumerate(names)}
        most = {name: min(limit, rooms.get(name, limit)) for name in names}
        shares = self._shares(ranks, most, limit) if names else {}
        rows = self.together(lambda: self._take(run, shares)) if shares else []
        best_first = sorted(rows, key=lambda row: (ranks[row[2]], -row[1], row[0]))
        return [(pk, queue) for pk, _, queue in best_first]

    def _shares(self, ranks: Mapping[str, int], most: Mapping[str, int], limit: int) -> Mapping[str, int]:
        """Return how many to take of each queue, by a look that locks nothing; an idle supervisor leaves it at that."""
        if len(most) == 1:  # what others take meanwhile is made up for
            [name] = most
            return most if self.rows(WALK, (name, name, 1)) else {}
        walk = " UNION ALL ".join([f"SELECT * FROM ({WALK}) AS walk{n}" for n in range(len(most))])  # noqa: S608
        seen = self.rows(walk, [value for name, room in most.items() for value in (name, name, room)])
        best = sorted(seen, key=lambda row: (ranks[row[2]], -row[1], row[0]))[:limit]
        return Counter(queue for _, _, queue in best)

    def _take(self, run: int, shares: Mapping[str, int]) -> list[tuple[Any, ...]]:
        rows = []
        for name, number in shares.items():
            rows += self.rows(f"{WALK} FOR UPDATE SKIP LOCKED", (name, name, number))
        if rows:
            self.run(TAKE.format(pks=marks(rows)), [run, *(row[0] for row in rows)])
        return rows
