"""PostgreSQL 15 and later, by psycopg 2 or 3."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jobsup.sql.postgresql import copying
from jobsup.sql.postgresql.claims import Claims
from jobsup.sql.postgresql.floors import Dues
from jobsup.sql.postgresql.session import Session
from jobsup.sql.postgresql.wakeups import HUSHED, WAKE
from jobsup.sql.rows import LOADED, Finished, FinishRow, LoadedRow, NewRow

__all__ = ["PostgreSQL"]

# One statement, so that a wake-up costs no round trip of its own. It is a hint; the poll is the truth. Columns that are
# left empty are not named: to read all of them costs the server a tenth of the INSERT.
INSERT = """
    INSERT INTO jobsup_job ({columns}, status, attempt, worker, enqueued_at)
    VALUES ({values}, {status}, 0, '', statement_timestamp()) {conflict} RETURNING id, enqueued_at {notify}
"""
STATUS = "CASE WHEN %s::timestamptz > statement_timestamp() THEN 1 ELSE 0 END"

PROMOTE = """
    WITH due AS MATERIALIZED (
        SELECT id FROM jobsup_job WHERE status = 1 AND run_after <= statement_timestamp()
            AND run_after > COALESCE(%s::timestamptz, '-infinity')
        ORDER BY run_after LIMIT 5000 FOR UPDATE SKIP LOCKED
    )
    UPDATE jobsup_job AS job SET status = 0 FROM due WHERE job.id = due.id RETURNING job.id
"""

NEXT_DUE = """
    SELECT extract(epoch FROM min(run_after) - statement_timestamp())::float8,
           least(min(run_after), statement_timestamp()) - interval '1 minute', {and_}
    FROM jobsup_job WHERE status = 1 AND run_after > COALESCE(%s::timestamptz, '-infinity')
"""

# The fence: only where this run and this attempt still own the job. All times are the database's: the worker says
# how long ago things happened. Several ends share one statement and one commit, as one
# JSON value: the server parses that about twice as fast as eight arrays of constants.
# IS NOT DISTINCT FROM, which no index can serve: the rows are to be found by their keys. The index of the run's claims,
# which looks as good, has an entry of every job that the run ever had while an old transaction is open.
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
    WHERE job.id = done.id AND job.attempt = done.attempt
        AND job.claimed_by IS NOT DISTINCT FROM %s AND job.status IS NOT DISTINCT FROM 2
    RETURNING job.id, job.last_attempted_at, statement_timestamp(),
        CASE WHEN job.awaited THEN pg_notify('jobsup_done', job.id::text)::text END
"""

# Of a single one, as most jobs that write have it: without a join, which takes longer to plan than all the rest.
FINISH_ONE = """
    UPDATE jobsup_job SET status = 3, result = %s, worker = %s,
        started_at = COALESCE(started_at, statement_timestamp() - make_interval(secs => %s)),
        last_attempted_at = statement_timestamp() - make_interval(secs => %s),
        finished_at = statement_timestamp() - make_interval(secs => %s), untold = FALSE
    WHERE id = %s AND attempt = %s AND claimed_by IS NOT DISTINCT FROM %s AND status IS NOT DISTINCT FROM 2
    RETURNING id, last_attempted_at, statement_timestamp(),
        CASE WHEN awaited THEN pg_notify('jobsup_done', id::text)::text END
"""

# Between this and the COMMIT the row is locked: should the worker or its network freeze just there, those who take the
# job over must not wait for a session that nobody would end. It holds for this transaction only.
LAST = ", set_config('idle_in_transaction_session_timeout', '5s', true)"

# The ends of a batch that are all successes with nothing to add, which most are: half the cost. Arrays are single
# literals; `ARRAY[...]` of as many constants takes longer to parse than the rest. Each is selected, so that the server
# does not reckon with its length: it would look for some hundred rows by reading the whole table. It is counted here
# how many were accepted: to send each of them back would cost as much again.
FINISH_PLAIN = """
    WITH finished AS (
    UPDATE jobsup_job AS job SET status = 3, result = done.result, worker = %s,
        started_at = COALESCE(job.started_at, statement_timestamp() - make_interval(secs => done.started_ago_s)),
        last_attempted_at = statement_timestamp() - make_interval(secs => done.started_ago_s),
        finished_at = statement_timestamp() - make_interval(secs => done.ended_ago_s), untold = FALSE
    FROM unnest((SELECT %s::bigint[]), (SELECT %s::smallint[]), (SELECT %s::text[]), (SELECT %s::float8[]),
                (SELECT %s::float8[])) AS done(id, attempt, result, started_ago_s, ended_ago_s)
    WHERE job.id = done.id AND job.attempt = done.attempt
        AND job.claimed_by IS NOT DISTINCT FROM %s AND job.status IS NOT DISTINCT FROM 2
    RETURNING job.id, job.awaited
    )
    SELECT count(*), statement_timestamp(),
        count(CASE WHEN awaited THEN pg_notify('jobsup_done', id::text)::text END)
    FROM finished
"""

DONE = ("id", "attempt", "status", "result", "worker", "started_ago_s", "ended_ago_s", "delay_s")
SELDOM = ("left_behind", "uncounted", "untold")

MARK = """
    UPDATE jobsup_job SET worker = %s,
        started_at = COALESCE(started_at, statement_timestamp() - make_interval(secs => %s)),
        last_attempted_at = statement_timestamp() - make_interval(secs => %s)
    WHERE id = %s AND claimed_by = %s AND status = 2 AND worker = ''
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

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._dues = Dues()

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        asks = notify and self.may_wake
        columns = zip(NewRow._fields, row, strict=True)
        given = {name: value for name, value in columns if value is not None and value is not False}
        values = [*given.values()] if row.run_after is None else [*given.values(), row.run_after]
        found = self.rows(_insert(tuple(given), notify=asks), values)
        if asks and found and found[0][2] is None:
            self.learn_of_hush()
        return (found[0][0], found[0][1]) if found else None

    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        return copying.insert_many(self, head, arguments)

    def promote(self) -> int:
        pks = [pk for (pk,) in self.rows(PROMOTE, [self._dues.after(time.monotonic())])]
        self.put_back(pks)
        return len(pks)

    def next_due_s(self) -> float | None:
        due_s: float | None
        due_s, self.hushed_by_others = self._next_due(HUSHED)
        return due_s

    def glance(self, queues: Sequence[str] | None) -> tuple[bool, float | None]:
        ready, which = ("status = 0", ()) if queues is None else ("status = 0 AND queue = ANY(%s)", (list(queues),))
        also = f"{HUSHED}, EXISTS (SELECT FROM jobsup_job WHERE {ready})"
        due_s, self.hushed_by_others, found = self._next_due(also, which)
        return found, due_s

    def _next_due(self, also: str, params: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Return in how many seconds the next scheduled job is due, and what else is asked for."""
        begun = time.monotonic()
        after = self._dues.after(begun)
        due_s, floor, *others = self.rows(NEXT_DUE.format(and_=also), (*params, after))[0]
        self._dues.looked(floor, everything=after is None, begun=begun, now=time.monotonic())
        return due_s, *others

    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        rows = self.rows(f"SELECT {LOADED} FROM jobsup_job WHERE id = ANY(%s::bigint[])", (list(pks),))  # noqa: S608
        return [LoadedRow._make(row) for row in rows]

    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        if all(_is_plain(row) for row in rows):
            return self._finish_plain(run, rows) if len(rows) > 1 else self._finish_one(run, rows[0])
        data = json.dumps(  # without what is seldom there
            [dict(zip(DONE + SELDOM if any(row[len(DONE) :]) else DONE, row, strict=False)) for row in rows]
        )
        return [Finished._make(row[:3]) for row in self.rows(FINISH, (data, run))]

    def _finish_plain(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        pks, attempts, _, results, _, started, ended, *_ = zip(*rows, strict=True)
        columns = (map(str, pks), map(str, attempts), map(_quoted, results), map(repr, started), map(repr, ended))
        arrays = ["{" + ",".join(column) + "}" for column in columns]
        accepted, now, _ = self.rows(FINISH_PLAIN, (rows[0].worker, *arrays, run))[0]
        # Where some were refused, whoever asks finds out which: seldom is there anything to find out.
        return [Finished(pk, None, now) for pk in pks] if accepted == len(rows) else []

    def _finish_one(self, run: int, row: FinishRow, also: str = "") -> list[Finished]:
        times = (row.started_ago_s, row.started_ago_s, row.ended_ago_s)
        found = self.rows(FINISH_ONE + also, (row.result, row.worker, *times, row.pk, row.attempt, run))
        return [Finished._make(each[:3]) for each in found]

    def finish_last(self, run: int, row: FinishRow) -> bool:
        assert _is_plain(row)
        return bool(self._finish_one(run, row, LAST))

    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        self.run(MARK, (worker, for_s, for_s, pk, run))

    def now(self) -> datetime:
        moment: datetime = self.rows("SELECT statement_timestamp()")[0][0]
        return moment

    def beat(self, run: int, state: str) -> bool:
        return self.run(BEAT, (state, run)) == 1

    def expire(self, run: int, runfile: str) -> int:
        return self.run(EXPIRE, (run, runfile))


def _is_plain(row: FinishRow) -> bool:
    """Tell whether an attempt was successful with nothing to add, as most are."""
    return row.status == 3 and row.result is not None and not any(row[len(DONE) - 1 :])


@lru_cache(maxsize=256)
def _insert(columns: tuple[str, ...], *, notify: bool) -> str:
    """Return the statement that inserts a job of which these columns are given."""
    return INSERT.format(
        columns=", ".join(columns),
        values=", ".join(["%s"] * len(columns)),
        status=STATUS if "run_after" in columns else "0",
        conflict="ON CONFLICT DO NOTHING" if "unique_key" in columns else "",
        notify=f", {WAKE}" if notify else "",
    )


def _quoted(text: str) -> str:
    """Return a text as an element of an array's literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
