"""PostgreSQL 15 and later, by psycopg 2 or 3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobsup.sql.base import LOADED, Finished, FinishRow, LoadedRow, NewRow, Statements

# One statement, so that a wake-up costs no round trip of its own. NOTIFY without payload: the server sends equal ones
# of a transaction once. It is a hint; the poll is the truth.
INSERT = """
    WITH job AS (
        INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, max_attempts, limits, status,
                                attempt, worker, enqueued_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, CASE WHEN %s::timestamptz > statement_timestamp() THEN 1 ELSE 0 END, 0,
                '', statement_timestamp())
        RETURNING id, enqueued_at
    )
    SELECT id, enqueued_at {notify} FROM job
"""

# MATERIALIZED: the planner may otherwise run the subquery again for every row that it joins and lock more than the
# limit (the same surprise is described in Oban's basic engine). SKIP LOCKED: claimers do not wait for each other.
# The statement commits by itself: nothing stays locked while a job runs.
CLAIM = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM jobsup_job WHERE status = 0 AND queue = %s
        ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED
    )
    UPDATE jobsup_job AS job SET status = 2, claimed_by = %s, attempt = job.attempt + 1, worker = ''
    FROM picked WHERE job.id = picked.id
    RETURNING job.id, job.priority
"""

# Over several queues: the first rows of each by its own walk on the index, then the best of those. `queue IN (...)`
# with one ORDER BY would sort every ready row. Only what is taken is locked, and some more candidates are looked at
# than are wanted, so that simultaneous claimers find others than those that somebody has just locked.
CLAIM_SEVERAL = """
    WITH seen AS MATERIALIZED (
        SELECT job.id, job.priority FROM unnest(%s::text[]) AS queues(name) CROSS JOIN LATERAL (
            SELECT id, priority FROM jobsup_job WHERE status = 0 AND queue = queues.name
            ORDER BY priority DESC, id LIMIT %s
        ) AS job
    ), picked AS MATERIALIZED (
        SELECT job.id FROM seen JOIN jobsup_job AS job ON job.id = seen.id AND job.status = 0
        ORDER BY seen.priority DESC, seen.id LIMIT %s FOR UPDATE OF job SKIP LOCKED
    )
    UPDATE jobsup_job AS job SET status = 2, claimed_by = %s, attempt = job.attempt + 1, worker = ''
    FROM picked WHERE job.id = picked.id
    RETURNING job.id, job.priority
"""

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
                    THEN statement_timestamp() + make_interval(secs => done.delay_s) ELSE job.run_after END
    FROM json_to_recordset(%s::json) AS done(
        id bigint, attempt smallint, status smallint, result text, worker text, started_ago_s float8,
        ended_ago_s float8, delay_s float8, left_behind text)
    WHERE job.id = done.id AND job.attempt = done.attempt AND job.claimed_by = %s AND job.status = 2
    RETURNING job.id, job.last_attempted_at, statement_timestamp()
"""

DONE = ("id", "attempt", "status", "result", "worker", "started_ago_s", "ended_ago_s", "delay_s", "left_behind")

MARK = """
    UPDATE jobsup_job SET worker = %s,
        started_at = COALESCE(started_at, statement_timestamp() - make_interval(secs => %s)),
        last_attempted_at = statement_timestamp() - make_interval(secs => %s)
    WHERE id = %s AND claimed_by = %s AND status = 2
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
CANCEL = "cancel"

RIVALS = 64
"""How many rows of other claimers a claim over several queues can step over."""

WAIT_MAX_S = 5
"""How long the supervisor lets any statement, lock or silent server keep it from its other duties."""


class PostgreSQL(Statements):
    """Claims with SKIP LOCKED, wakes with NOTIFY."""

    # LISTEN wakes the supervisor at once; the poll only covers a notification that was lost.
    poll_interval_s = 5.0

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._attended: Any = None  # the driver's connection that was prepared
        self._heard = self._cancel_heard = False

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime]:
        sql = INSERT.format(notify=f", pg_notify('{CHANNEL}', '')::text" if notify else "")
        found = self.rows(sql, (*row, row.run_after))[0]
        return found[0], found[1]

    def claim(self, run: int, queues: Sequence[str] | None, limit: int) -> list[int]:
        names = self.queues(queues)
        if len(names) == 1:
            rows = self.rows(CLAIM, (names[0], limit, run))
        else:
            rows = self.rows(CLAIM_SEVERAL, (names, limit + RIVALS, limit, run)) if names else []
        assert len(rows) <= limit, "the claim took more than its limit"
        return [pk for pk, _ in sorted(rows, key=lambda row: (-row[1], row[0]))]

    def promote(self) -> int:
        return self.run(PROMOTE)

    def next_due_s(self) -> float | None:
        due_s: float | None = self.rows(NEXT_DUE)[0][0]
        return due_s

    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        rows = self.rows(f"SELECT {LOADED} FROM jobsup_job WHERE id = ANY(%s::bigint[])", (list(pks),))  # noqa: S608
        return [LoadedRow._make(row) for row in rows]

    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        # Nearly nobody leaves anything behind: the last column is mostly left out.
        data = json.dumps([dict(zip(DONE if row.left_behind else DONE[:-1], row, strict=False)) for row in rows])
        return [Finished._make(row) for row in self.rows(FINISH, (data, run))]

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
            self._attended, self._heard = driver, False
            self._cancel_heard = True  # while nobody listened it may have been told
            if hasattr(driver, "add_notify_handler"):  # psycopg 3 hands them out while it executes statements
                driver.add_notify_handler(self._hear)
        fd: int = driver.fileno()
        return fd if listen else None

    def _hear(self, notification: Any) -> None:
        self._heard = True
        self._cancel_heard |= notification.payload == CANCEL

    def changed(self) -> bool:
        driver = self.connection.connection
        if driver is None or driver is not self._attended:
            return False
        if hasattr(driver, "notifies") and isinstance(driver.notifies, list):  # psycopg 2
            driver.poll()
            found = bool(driver.notifies)
            self._cancel_heard |= any(notification.payload == CANCEL for notification in driver.notifies)
            driver.notifies.clear()
            return found
        driver.pgconn.consume_input()  # psycopg 3
        found, self._heard = self._heard, False
        while (notification := driver.pgconn.notifies()) is not None:
            found = True
            self._cancel_heard |= notification.extra == CANCEL.encode()
        return found
