"""SQLite 3.35 and later (UPDATE ... RETURNING), in WAL mode.

One writer at a time, so there is nothing to lock or skip. Every statement that writes begins with the write: a
transaction that reads first and writes later fails at once with "database is locked", whatever the time-out. The
database's clock is this machine's clock.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from jobsup.models import Status
from jobsup.sql.files import State, identity, state
from jobsup.sql.local import LocalWakeups
from jobsup.sql.rows import LOADED, Finished, FinishRow, LoadedRow, NewRow
from jobsup.sql.wallclock import WallClock

INSERT = """
    INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, max_attempts, options, keep_s,
                            unique_key, unique_running, schedule, tick_at, status, attempt, worker, enqueued_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, '', %s) {conflict} RETURNING id
"""

INSERT_MANY = """
    INSERT INTO jobsup_job (id, task, queue, backend, priority, arguments, run_after, max_attempts, options, keep_s,
                            status, enqueued_at, attempt, worker)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, '')
"""
DRAW = "UPDATE sqlite_sequence SET seq = seq + %s WHERE name = 'jobsup_job' RETURNING seq"
DRAW_FIRST = "INSERT INTO sqlite_sequence (name, seq) VALUES ('jobsup_job', %s) RETURNING seq"

# The first rows of each queue by its own walk on the index, then the best of those.
PICK = """
    SELECT * FROM (
        SELECT %s AS rank, id, priority FROM jobsup_job WHERE status = 0 AND queue = %s
            AND NOT EXISTS (SELECT 1 FROM jobsup_queue WHERE name = %s AND paused_at IS NOT NULL)
        ORDER BY priority DESC, id LIMIT %s
    )
"""
CLAIM = """
    UPDATE jobsup_job SET status = 2, claimed_by = %s, attempt = min(attempt + 1, 32767), worker = ''
    WHERE id IN (SELECT id FROM ({picks}) ORDER BY rank, priority DESC, id LIMIT %s)
    RETURNING id, CAST(priority AS INTEGER), queue
"""

# The fence: only where this run and this attempt still own the job. With + no index serves a term: the rows are to be
# found by their keys, not each among all that the run has claimed.
FINISH = """
    UPDATE jobsup_job SET
        status = CASE WHEN done.status < 2 AND cancel_asked_at IS NOT NULL THEN 5 ELSE done.status END,
        result = done.result, worker = done.worker,
        left_behind = COALESCE(done.left_behind, jobsup_job.left_behind),
        started_at = COALESCE(jobsup_job.started_at, done.started_at),
        last_attempted_at = COALESCE(done.started_at, jobsup_job.last_attempted_at),
        finished_at = CASE WHEN done.status > 2 OR cancel_asked_at IS NOT NULL THEN done.ended_at END,
        run_after = CASE WHEN done.status = 1 THEN done.due_at ELSE jobsup_job.run_after END,
        uncounted = jobsup_job.uncounted + done.uncounted,
        ready_at = CASE WHEN done.status > 2 THEN jobsup_job.ready_at END,
        untold = done.untold OR (done.status < 2 AND cancel_asked_at IS NOT NULL)
    FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS attempt,
                 json_extract(value, '$[2]') AS status, json_extract(value, '$[3]') AS result,
                 json_extract(value, '$[4]') AS worker, json_extract(value, '$[5]') AS started_at,
                 json_extract(value, '$[6]') AS ended_at, json_extract(value, '$[7]') AS due_at,
                 json_extract(value, '$[8]') AS left_behind, json_extract(value, '$[9]') AS uncounted,
                 json_extract(value, '$[10]') AS untold
          FROM json_each(%s)) AS done
    WHERE jobsup_job.id = done.id AND jobsup_job.attempt = done.attempt AND +claimed_by = %s AND +jobsup_job.status = 2
    RETURNING jobsup_job.id
"""

GLANCE = """
    SELECT EXISTS (SELECT 1 FROM jobsup_job WHERE status = 0{which}),
           (SELECT min(run_after) FROM jobsup_job WHERE status = 1)
"""

MARK = """
    UPDATE jobsup_job SET worker = %s, started_at = COALESCE(started_at, %s), last_attempted_at = %s
    WHERE id = %s AND claimed_by = %s AND status = 2
"""

BEAT = """
    UPDATE jobsup_supervisor SET state = %s, beat_at = %s WHERE id = %s AND state NOT IN ('stopped', 'lost')
"""

EXPIRE = """
    UPDATE jobsup_supervisor SET state = 'lost'
    WHERE state NOT IN ('stopped', 'lost') AND id <> %s
      AND (runfile = %s OR %s >= lease_s AND abs(julianday(beat_at) - julianday(%s)) * 86400.0 > lease_s)
"""


_TIMES = (
    "run_after", "enqueued_at", "started_at", "last_attempted_at", "finished_at", "cancel_asked_at", "ready_at"
)  # fmt: skip
QUEUES_MAX = 400
"""How many queues one claim looks at; SQLite takes up to 500 terms in a compound SELECT."""


class SQLite(LocalWakeups):
    """Claims by one UPDATE, notices changes by the state of the database's files."""

    # Producers on this machine ring. For those in other containers, and for rows written by hand: as long as nothing
    # has changed, each look only asks the file system (about 5 us). Not every second, or one would follow upon each
    # beat, which is a change, and too close upon it to be sure that it was the only one.
    poll_interval_s = 0.9
    poll_shortest_s = 0.02
    several_may_write = False
    keeps_types = False
    tells_every_change = True

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._seen: State | None = None
        self._wall = WallClock()

    def prepare(self) -> None:
        """Switch to write-ahead logging: readers and the one writer do not wait for each other."""
        self.rows("PRAGMA journal_mode = WAL")

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        now = timezone.now()
        values = row._replace(run_after=self._stored(row.run_after), tick_at=self._stored(row.tick_at))
        status = 1 if row.run_after is not None and self._stored(row.run_after) > self._stored(now) else 0
        sql = INSERT.format(conflict="" if row.unique_key is None else "ON CONFLICT DO NOTHING")
        found = self.rows(sql, (*values, status, self._stored(now)))
        if found and notify:
            self.notify()
        return (found[0][0], now) if found else None

    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        # The ids are drawn by a write, so that nobody else draws the same; executemany returns none.
        drawn = self.rows(DRAW, (len(arguments),)) or self.rows(DRAW_FIRST, (len(arguments),))
        last, now = drawn[0][0], timezone.now()
        pks = list(range(last - len(arguments) + 1, last + 1))
        run_after, enqueued_at = self._stored(head.run_after), self._stored(now)
        status = 1 if run_after is not None and run_after > enqueued_at else 0
        before, after = head[:4], (run_after, *head[6:9], status, enqueued_at)
        with self.connection.cursor() as cursor:
            rows = zip(pks, arguments, strict=True)
            cursor.executemany(INSERT_MANY, [(pk, *before, text, *after) for pk, text in rows])
        return pks, now

    def claim(self, run: int, queues: Sequence[str] | None, limit: int, *, ordered: bool = False) -> list[int]:
        return [pk for pk, _ in self.claim_within(run, queues, {}, limit, ordered=ordered)]

    def claim_within(
        self, run: int, queues: Sequence[str] | None, rooms: Mapping[str, int], limit: int, *, ordered: bool = False
    ) -> list[tuple[int, str]]:
        names = [name for name in self.queues(queues) if rooms.get(name, 1) > 0]
        if not names:
            return []
        if len(names) > QUEUES_MAX:  # by chance, so that each gets its turn
            names = names[:QUEUES_MAX] if ordered else random.sample(names, QUEUES_MAX)
        ranks = {name: rank if ordered else 0 for rank, name in enumerate(names)}
        picks = " UNION ALL ".join([PICK] * len(names))
        params = [
            value for name in names for value in (ranks[name], name, name, min(limit, rooms.get(name, limit)))
        ]  # fmt: skip
        rows = self.rows(CLAIM.format(picks=picks), (run, *params, limit))
        best_first = sorted(rows, key=lambda row: (ranks[row[2]], -row[1], row[0]))
        return [(pk, queue) for pk, _, queue in best_first]

    def promote(self) -> int:
        return self.run(
            "UPDATE jobsup_job SET status = 0 WHERE status = 1 AND run_after <= %s", (self._stored(timezone.now()),)
        )

    def next_due_s(self) -> float | None:
        due_at = self.rows("SELECT min(run_after) FROM jobsup_job WHERE status = 1")[0][0]
        return self._due_in_s(due_at)

    def glance(self, queues: Sequence[str] | None) -> tuple[bool, float | None]:
        which = "" if queues is None else " AND queue IN (SELECT value FROM json_each(%s))"
        params = [] if queues is None else [json.dumps(list(queues))]
        [(found, due_at)] = self.rows(GLANCE.format(which=which), params)
        return bool(found), self._due_in_s(due_at)

    def _due_in_s(self, due_at: Any) -> float | None:
        return None if due_at is None else (self.moment(due_at) - timezone.now()).total_seconds()

    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        rows = self.rows(
            f"SELECT {LOADED} FROM jobsup_job WHERE id IN (SELECT value FROM json_each(%s))",  # noqa: S608
            (json.dumps(list(pks)),),
        )
        return [self._loaded(LoadedRow._make(row)) for row in rows]

    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        now = timezone.now()
        begun: dict[int, datetime | None] = {}
        data = []
        for row in rows:
            started_at = None if row.started_ago_s is None else now - timedelta(seconds=row.started_ago_s)
            ended_at = now - timedelta(seconds=row.ended_ago_s)
            due_at = now + timedelta(seconds=row.delay_s) if row.status == Status.SCHEDULED else None
            begun[row.pk] = started_at
            times = (self._stored(started_at), self._stored(ended_at), self._stored(due_at))
            data.append((*row[:5], *times, *row[8:]))
        accepted = self.rows(FINISH, (json.dumps(data), run))
        return [Finished(pk, begun[pk], now) for (pk,) in accepted]

    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        started_at = self._stored(timezone.now() - timedelta(seconds=for_s))
        self.run(MARK, (worker, started_at, started_at, pk, run))

    def now(self) -> datetime:
        return timezone.now()

    def beat(self, run: int, state: str) -> bool:
        return self.run(BEAT, (state, self._stored(timezone.now()), run)) == 1

    def expire(self, run: int, runfile: str) -> int:
        # The clock is this machine's. When it was set, all others get a lease to beat by the new time; only then a beat
        # that lies far from now, in the past or in the future, is one of a run that is over.
        return self.run(EXPIRE, (run, runfile, self._wall.steady_s(), self._stored(timezone.now())))

    def attend(self, *, listen: bool) -> int | None:
        self.connection.ensure_connection()
        return self.bell(listen=listen)

    def identity(self) -> str | None:
        connection: Any = self.connection
        return None if connection.is_in_memory_db() else identity(connection.settings_dict["NAME"])

    def changed(self) -> bool:
        before, self._seen = self._seen, state(self.connection.settings_dict["NAME"])
        return self._seen is None or self._seen != before

    @contextmanager
    def closing(self) -> Iterator[None]:
        # The last one that closes it brings the log into the file. Should somebody else write in this very moment,
        # that is found with the next beat, which is a change.
        name = self.connection.settings_dict["NAME"]
        at_rest = self._seen is not None and self._seen == state(name)
        yield
        if at_rest:
            self._seen = state(name, settled=True)

    def _stored(self, moment: datetime | None) -> Any:
        """Return a moment in the form in which Django stores it, whatever USE_TZ and TIME_ZONE say."""
        return None if moment is None else self.connection.ops.adapt_datetimefield_value(moment)

    def moment(self, stored: Any) -> datetime:
        moment = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
        return moment.replace(tzinfo=self.connection.timezone) if self.connection.timezone is not None else moment

    def _loaded(self, row: LoadedRow) -> LoadedRow:
        read: Any = {name: self.moment(value) for name in _TIMES if (value := getattr(row, name)) is not None}
        return row._replace(awaited=bool(row.awaited), untold=bool(row.untold), **read)
