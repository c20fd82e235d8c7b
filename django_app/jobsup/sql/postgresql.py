"""PostgreSQL 15 and later, by psycopg 2 or 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from jobsup.sql import copying
from jobsup.sql.base import LOADED, Finished, FinishRow, LoadedRow, NewRow, Statements
from jobsup.sql.notifications import Ear

# One statement, so that a wake-up costs no round trip of its own. NOTIFY without payload: the server sends equal ones
# of a transaction once. It is a hint; the poll is the truth.
INSERT = """
    WITH job AS (
        INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, max_attempts, options, keep_s,
                                unique_key, unique_running, schedule, tick_at, status, attempt, worker, enqueued_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
                CASE WHEN %s::timestamptz > statement_timestamp() THEN 1 ELSE 0 END, 0, '', statement_timestamp())
        {conflict} RETURNING id, enqueued_at
    )
    SELECT id, enqueued_at {notify} FROM job
"""

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

PROMOTE = """
    WITH due AS MATERIALIZED (
        SELECT id FROM jobsup_job WHERE status = 1 AND run_after <= statement_timestamp()
        ORDER BY run_after LIMIT 5000 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobsup_job AS job SET status = 0 FROM due WHERE job.id = due.id
"""

NEXT_DUE = """
    SELECT extract(epoch FROM min(run_after) - statement_timestamp())::float8 FROM jobsup_job WHERE status = 1
"""

# The fence: only where this run and this attempt still own the job. All times are the database's: the worker says
# how long ago things happened. Several ends share one statement and one commit, as one
# JSON value: the server parses that about twice as fast as eight arrays of constants.
FINISH = """
    UPDATE jobsup_job AS job SET
        status = CASE WHEN done.status < 2 AND job.cancel_asked_at IS NOT NULL THEN 5 ELSE done.status END,
        result = done.result, worker = done.worker,
        left_behind = COALESCE(done.left_behind, job.left_behind),
        started_at = COALESCE(job.started_at, statement_timestamp() - make_interval(secs => done.started_ago_s)),
        last_attempted_at = COALESCE(statement_timestamp() - make_interval(secs => done.started_ago_s),
                                     job.last_attempted_at),
        finished_at = CASE WHEN done.status > 2 OR job.cancel_asked_at IS NOT NULL
                      THEN statement_timestamp() - make_interval(secs => done.ended_ago_s) END,
        run_after = CASE WHEN done.status = 1
                    THEN statement_timestamp() + make_interval(secs => done.delay_s) ELSE job.run_after END,
        uncounted = job.uncounted + COALESCE(done.uncounted, 0),
        ready_at = CASE WHEN done.status > 2 THEN job.ready_at END,
        untold = COALESCE(done.untold, FALSE) OR (done.status < 2 AND job.cancel_asked_at IS NOT NULL)
    FROM json_to_recordset(%s::json) AS done(
        id bigint, attempt smallint, status smallint, result text, worker text, started_ago_s float8,
        ended_ago_s float8, delay_s float8, left_behind text, uncounted smallint, untold boolean)
    WHERE job.id = done.id AND job.attempt = done.attempt AND job.claimed_by = %s AND job.status = 2
    RETURNING job.id, job.last_attempted_at, statement_timestamp(),
        CASE WHEN job.awaited THEN pg_notify('jobsup_done', job.id::text)::text END
"""

DONE = ("id", "attempt", "status", "result", "worker", "started_ago_s", "ended_ago_s", "delay_s")
SELDOM = ("left_behind", "uncounted", "untold")

MARK = """
    UPDATE jobsup_job SET worker = %s,
        started_at = COALESCE(started_at, statement_timestamp() - make_interval(secs => %s)),
        last_attempted_at = statement_timestamp() - make_interval(secs => %s)
    WHERE id = %s AND claimed_by = %s AND status = 2
    RETURNING CASE WHEN awaited THEN pg_notify('jobsup_done', id::text)::text END
"""

BEAT = """
    UPDATE jobsup_supervisor SET state = %s, beat_at = statement_timestamp()
    WHERE id = %s AND state NOT IN ('stopped', 'lost')
"""

EXPIRE = """
    UPDATE jobsup_supervisor SET state = 'lost'
    WHERE state NOT IN ('stopped', 'lost') AND id <> %s
      AND (runfile = %s OR beat_at < statement_timestamp() - make_interval(secs => lease_s))
"""

CHANNEL = "jobsup"
DONE_CHANNEL = "jobsup_done"
CANCEL = "cancel"

RIVALS = 64
"""How many rows of other claimers a claim over several queues can step over."""

WAIT_MAX_S = 5
"""How long the supervisor lets any statement, lock or silent server keep it from its other duties."""


class PostgreSQL(Statements):
    """Claims with SKIP LOCKED, wakes with NOTIFY."""

    # LISTEN wakes the supervisor at once; the poll only covers a notification that was lost.
    poll_interval_s = 5.0
    # Keeps claimers away, but neither others that look nor the end of a job that runs.
    hold = "FOR KEY SHARE"

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._attended: Any = None  # the driver's connection that was prepared
        self._ear: Ear | None = None
        self._cancel_heard = False
        self._words: set[str] = set()  # told, and not asked for yet

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        sql = INSERT.format(
            conflict="" if row.unique_key is None else "ON CONFLICT DO NOTHING",
            notify=f", pg_notify('{CHANNEL}', '')::text" if notify else "",
        )
        found = self.rows(sql, (*row, row.run_after))
        return (found[0][0], found[0][1]) if found else None

    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        return copying.insert_many(self, head, arguments)

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

    def promote(self) -> int:
        return self.run(PROMOTE)

    def next_due_s(self) -> float | None:
        due_s: float | None = self.rows(NEXT_DUE)[0][0]
        return due_s

    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        rows = self.rows(f"SELECT {LOADED} FROM jobsup_job WHERE id = ANY(%s::bigint[])", (list(pks),))  # noqa: S608
        return [LoadedRow._make(row) for row in rows]

    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        data = json.dumps(  # without what is seldom there
            [dict(zip(DONE + SELDOM if any(row[len(DONE) :]) else DONE, row, strict=False)) for row in rows]
        )
        return [Finished._make(row[:3]) for row in self.rows(FINISH, (data, run))]

    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        self.run(MARK, (worker, for_s, for_s, pk, run))

    def now(self) -> datetime:
        moment: datetime = self.rows("SELECT statement_timestamp()")[0][0]
        return moment

    def beat(self, run: int, state: str) -> bool:
        return self.run(BEAT, (state, run)) == 1

    def expire(self, run: int, runfile: str) -> int:
        return self.run(EXPIRE, (run, runfile))

    def notify(self, word: str = "") -> None:
        self.rows("SELECT pg_notify(%s, %s)", (CHANNEL, word))

    def tell_waiters(self, pks: Sequence[int]) -> None:
        self.rows(
            "SELECT pg_notify(%s, id::text) FROM jobsup_job WHERE id = ANY(%s::bigint[]) AND awaited",
            (DONE_CHANNEL, list(pks)),
        )

    @contextmanager
    def hearing_of(self, pk: int, *, listen: bool) -> Iterator[Callable[[float], bool]]:
        if not listen:
            with super().hearing_of(pk, listen=False) as due:
                yield due
            return
        self.run(f"LISTEN {DONE_CHANNEL}")
        driver: Any = self.connection.connection
        ear = Ear(driver, DONE_CHANNEL)

        def heard(most_s: float) -> bool:
            with self.connection.wrap_database_errors:
                return ear.wait(str(pk), most_s)

        try:
            yield heard
        finally:
            ear.close()
            if self.connection.connection is driver and not driver.closed:
                self.run(f"UNLISTEN {DONE_CHANNEL}")

    def heard(self, word: str) -> bool:
        found = word in self._words
        self._words.discard(word)
        return found

    def cancel_heard(self) -> bool:
        heard, self._cancel_heard = self._cancel_heard, False
        return heard

    def bound_waits(self) -> None:
        options = self.connection.settings_dict["OPTIONS"]
        options.setdefault("connect_timeout", WAIT_MAX_S)
        options.setdefault("tcp_user_timeout", WAIT_MAX_S * 1000)
        options.setdefault("keepalives_idle", WAIT_MAX_S)

    def attend(self, *, listen: bool) -> int | None:
        self.connection.ensure_connection()
        driver = self.connection.connection
        assert driver is not None
        if self._attended is not driver:
            wait_ms = WAIT_MAX_S * 1000
            self.run(
                f"SET statement_timeout = {wait_ms}; SET lock_timeout = {wait_ms}"
                + (f"; LISTEN {CHANNEL}" if listen else "")
            )
            self._attended = driver
            self._cancel_heard = True  # while nobody listened it may have been told
            self._ear = Ear(driver, CHANNEL)
        fd: int = driver.fileno()
        return fd if listen else None

    def changed(self) -> bool:
        driver = self.connection.connection
        if driver is None or driver is not self._attended:
            return False
        heard = self._ear.heard() if self._ear is not None else []
        self._cancel_heard |= CANCEL in heard
        self._words.update(word for word in heard if word)
        return bool(heard)


def _best_first(rows: list[tuple[Any, ...]], limit: int) -> list[tuple[Any, ...]]:
    """Return what a claim took (id, priority, rank, queue) in the order in which it is to be worked off."""
    assert len(rows) <= limit, "the claim took more than its limit"
    return sorted(rows, key=lambda row: (row[2], -row[1], row[0]))
