"""Claims with SKIP LOCKED; see `walks` for the statements and `floors` for what is done against dead entries."""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import OperationalError

from jobsup.sql.base import Statements
from jobsup.sql.postgresql import walks
from jobsup.sql.postgresql.driver import to_last_result
from jobsup.sql.postgresql.floors import Floors, Step, Taken, bearable
from jobsup.sql.trouble import code_of

CANCELLED = "57014"
"""SQLSTATE of a statement that took longer than it may."""

SUSPECT_S = 0.002
"""After a claim that took longer than this the next one counts over how many dead entries it walks."""

LANES = 4
"""So many claimers of the same queues may be at it at the same time; the others wait for them.

With 64 of them on two cores, one lane reached 68 % of the rate of a single claimer, two to four 85 to 90 %, none 30 %.
"""

RIVALS = walks.RIVALS


class Claims(Statements):
    """The claims of PostgreSQL."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._floors: dict[tuple[str, ...] | None, Floors] = {}  # for each set of queues that is claimed from
        self._suspect = False
        self._plans: dict[str, str] = {}  # statements that the session keeps ready, with their names there
        self._planned_on: Any = None  # the driver's connection of that session

    def claim(self, run: int, queues: Sequence[str] | None, limit: int, *, ordered: bool = False) -> list[int]:
        return [job.pk for job in self._claim(run, queues, {}, limit, ordered=ordered)]

    def claim_within(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool = False
    ) -> list[tuple[int, str]]:
        return [(job.pk, job.queue) for job in self._claim(run, queues, rooms, limit, ordered=ordered)]

    def put_back(self, pks: Iterable[int]) -> None:
        pks = list(pks)
        for floors in self._floors.values():
            floors.put_back(pks)

    def look_again_s(self) -> float | None:
        now = time.monotonic()
        due = [again_s for floors in self._floors.values() if (again_s := floors.look_again_s(now)) is not None]
        return min(due, default=None)

    def floors(self, queues: Sequence[str] | None) -> Floors:
        """Return what is known of where the ready jobs of these queues begin."""
        return self._floors.setdefault(None if queues is None else tuple(queues), Floors())

    def queues(self, queues: Sequence[str] | None) -> list[str]:
        known = sorted(self.floors(None).after) if queues is None else []
        if not known:
            return super().queues(queues)
        while new := [name for (name,) in self.rows(walks.NEW_QUEUES, (["", *known], known, known[-1])) if name]:
            known = sorted({*known, *new})
        return known

    def _claim(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool
    ) -> list[Taken]:
        names = [name for name in self.queues(queues) if rooms.get(name, 1) > 0]
        if not names or limit < 1:
            return []
        claim = _Claim(self.floors(queues), run, names, rooms, limit, ordered=ordered)
        if claim.floors.active:
            self._claim_from_floors(claim)
        else:
            self._claim_from_the_beginning(claim, walks.plain(len(names), rooms, counted=self._suspect))
        assert len(claim.taken) <= limit, "the claim took more than its limit"
        return sorted(claim.taken, key=lambda job: (job.rank, -job.priority, job.pk))

    def _claim_from_the_beginning(self, claim: _Claim, sql: str) -> None:
        begun = time.monotonic()
        try:
            walked = self._execute(claim, sql)
        except OperationalError as error:
            if self.connection.in_atomic_block or code_of(error) != CANCELLED:
                raise
            # There is more dead than a statement can walk over in its time.
            claim.floors.begin([], claim.names, short=False)
            self._learn(claim, trust=True)
            self._claim_from_floors(claim)
            return
        self._suspect = time.monotonic() - begun > SUSPECT_S
        if walked > bearable(claim.limit):
            claim.floors.begin(claim.taken, claim.seen, short=claim.left > 0)
            if not claim.taken:
                self._learn(claim, trust=True)

    def _claim_from_floors(self, claim: _Claim) -> None:
        self._look_behind(claim, idle=False)
        if not claim.left or not claim.open:
            return
        before = len(claim.taken)
        walked = self._execute(claim, walks.FROM_FLOORS, list(claim.floors.steps(claim.open)))
        claim.floors.saw(claim.taken[before:], claim.seen, short=claim.left > 0)
        if claim.floors.must_learn(walked, time.monotonic()):
            self._learn(claim)
        if claim.left:
            self._look_behind(claim, idle=True)

    def _look_behind(self, claim: _Claim, *, idle: bool) -> None:
        """Claim what is behind the floors, if it is time for that."""
        begun = time.monotonic()
        if not (stretches := claim.floors.behind(begun, idle=idle)):
            return
        steps = list(claim.floors.steps_behind(stretches, claim.open))
        walked = self._execute(claim, walks.FROM_FLOORS, steps) if steps else 0
        now = time.monotonic()
        took_s = now - begun if steps else 0.0
        claim.floors.looked(stretches, walked, full=not claim.left, took_s=took_s, now=now)

    def _learn(self, claim: _Claim, *, trust: bool = False) -> None:
        """Learn of which queues and priorities there are jobs among the newest, whatever has become of them."""
        claim.floors.learn(self.rows(walks.RECENT, (walks.RECENT_KEYS, list(claim.served))), trust=trust)

    def _execute(self, claim: _Claim, sql: str, steps: Iterable[Step] = ()) -> int:
        """Claim what there is still room for; return over how many dead entries that went, 0 if nobody counted."""
        names = claim.open
        queues, above, priorities, after, upto = zip(*steps, strict=True) if steps else ((),) * 5
        params: dict[str, Any] = {
            "lane": _lane(claim.names, claim.run),
            "run": claim.run,
            "queue": names[0],
            "limit": claim.left,
            "candidates": claim.left + RIVALS,
            "names": names,
            "ranks": [claim.ranks[name] for name in names],
            "rooms": [claim.room(name, alone=sql == walks.FROM_FLOORS and len(names) == 1) for name in names],
            "queues": list(queues),
            "above": list(above),
            "priorities": list(priorities),
            "after": list(after),
            "upto": list(upto),
        }
        connection = self.connection
        with connection.cursor() as cursor:
            # In a transaction of the caller's the lock would last as long; what the server binds is one statement.
            if connection.in_atomic_block or connection.settings_dict["OPTIONS"].get("server_side_binding") is True:
                cursor.execute(sql, params)
            elif self.keeps_plans and len(claim.names) == 1 and not steps and not claim.limited:
                self._execute_plan(cursor, sql, params)
            else:
                cursor.execute(walks.LANE + sql, params)
                to_last_result(cursor)
            rows = cursor.fetchall()
        found = [Taken(*row) for row in rows if row[1] is not None]
        claim.taken += found
        if len(rows) == len(found):
            return 0
        [[read, _, _, served]] = [row for row in rows if row[1] is None]
        claim.served = json.loads(served or "[]")
        return int(read) - len(found)

    def _execute_plan(self, cursor: Any, sql: str, params: Mapping[str, Any]) -> None:
        """Execute a claim from one queue; what prepares it goes with the first one in a session."""
        if self._planned_on is not self.connection.connection:
            self._planned_on = self.connection.connection
            self._plans.clear()
        name, prepare = self._plans.get(sql), ""
        if name is None:
            # A name that nobody has taken: another of us on this connection, or one that failed once it was prepared.
            name = f"jobsup_claim_{secrets.token_hex(8)}"
            prepare = walks.prepared(sql, name)
        cursor.execute(walks.LANE_OF_PLANS + prepare + walks.EXECUTE.format(name=name), params)
        to_last_result(cursor)
        self._plans[sql] = name


class _Claim:
    """What is wanted, and what there is of it so far."""

    def __init__(
        self, floors: Floors, run: int, names: Sequence[str], rooms: Mapping[str, int], limit: int, *, ordered: bool
    ) -> None:
        self.floors, self.run, self.names, self._rooms, self.limit = floors, run, names, rooms, limit
        self.ranks = {name: rank if ordered else 0 for rank, name in enumerate(names)}
        self.taken: list[Taken] = []
        self.served = names
        """Those that are not paused, as far as that is known."""

    @property
    def limited(self) -> bool:
        """Whether only some of a queue are wanted."""
        return bool(self._rooms)

    @property
    def left(self) -> int:
        """How many more are wanted."""
        return self.limit - len(self.taken)

    @property
    def open(self) -> list[str]:
        """The queues that there is still room for."""
        return [name for name in self.names if (room := self.room(name)) is None or room > 0]

    @property
    def seen(self) -> list[str]:
        """The queues that were looked at, and of which there is no more, if not all was found that was wanted."""
        return [name for name in self.open if name in self.served]

    def room(self, name: str, *, alone: bool = False) -> int | None:
        """Return how many more of a queue are wanted at most; None: as many as there are, of one beside others."""
        if name not in self._rooms:
            return self.left if alone else None
        return min(self.left, self._rooms[name] - sum(job.queue == name for job in self.taken))


def _lane(names: Sequence[str], run: int) -> int:
    """Return the lock of a claimer; those of other queues have others."""
    return (zlib.crc32("\0".join(names).encode()) + run % LANES) % (1 << 32) - (1 << 31)
