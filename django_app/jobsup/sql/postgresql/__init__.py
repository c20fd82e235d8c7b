"""PostgreSQL 15 and later, by psycopg 2 or 3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from jobsup.sql.base import LOADED, Finished, FinishRow, LoadedRow, NewRow
from jobsup.sql.postgresql import copying
from jobsup.sql.postgresql.claims import Claims
from jobsup.sql.postgresql.session import Session
from jobsup.sql.postgresql.wakeups import CHANNEL

__all__ = ["PostgreSQL"]

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


class PostgreSQL(Claims, Session):
    """Claims with SKIP LOCKED, wakes with NOTIFY."""

    # Keeps claimers away, but neither others that look nor the end of a job that runs.
    hold = "FOR KEY SHARE"

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        sql = INSERT.format(
            conflict="" if row.unique_key is None else "ON CONFLICT DO NOTHING",
            notify=f", pg_notify('{CHANNEL}', '')::text" if notify else "",
        )
        found = self.rows(sql, (*row, row.run_after))
        return (found[0][0], found[0][1]) if found else None

    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        return copying.insert_many(self, head, arguments)

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
