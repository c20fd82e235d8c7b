"""MariaDB 10.11 and later, and MySQL 8: InnoDB, by PyMySQL or mysqlclient.

What both understand, so no UPDATE ... RETURNING and no partial indexes. Generated columns stand for the latter, which
the migration 0006_mariadb makes and Django's models know nothing of: `due_at`, `waiting_key` and `running_key` are NULL
where a condition of a partial index would not hold. Names and keys are compared byte by byte.

The columns of moments have no time zone: they are in the one that Django stores in (UTC, unless the setting says
otherwise). The order of the assignments of an UPDATE matters here, later ones see what earlier ones have assigned: no
statement assigns a column that another of its assignments reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError

from jobsup.errors import JobsupError
from jobsup.models import Status
from jobsup.sql.mariadb.base import marks
from jobsup.sql.mariadb.claims import Claims
from jobsup.sql.mariadb.session import Session
from jobsup.sql.rows import LOADED, Finished, FinishRow, LoadedRow, NewRow
from jobsup.sql.trouble import is_duplicate

__all__ = ["MariaDB"]

INSERT = """
    INSERT INTO jobsup_job (task, queue, backend, priority, arguments, run_after, max_attempts, options, keep_s,
                            unique_key, unique_running, schedule, tick_at, status, attempt, worker, enqueued_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
            CASE WHEN CAST(%s AS DATETIME(6)) > {now} THEN 1 ELSE 0 END, 0, '', {now})
"""

INSERT_MANY = """
    INSERT INTO jobsup_job (task, queue, backend, priority, run_after, max_attempts, options, keep_s, status,
                            enqueued_at, attempt, worker, arguments)
    VALUES {rows}
"""
FIRST_TO_LAST = """
    SELECT count(*), CAST(sum(id = %s AND arguments = %s) AS SIGNED), CAST(sum(id = %s AND arguments = %s) AS SIGNED)
    FROM jobsup_job WHERE id BETWEEN %s AND %s
"""

PROMOTE = """
    SELECT id FROM jobsup_job FORCE INDEX (jobsup_job_due) WHERE due_at <= {now} ORDER BY due_at LIMIT 5000
    FOR UPDATE SKIP LOCKED
"""

NEXT_DUE = "SELECT TIMESTAMPDIFF(MICROSECOND, {now}, min(due_at)) FROM jobsup_job"

# Locks the rows in the order of their keys, so that two who end several jobs wait for each other instead of both for
# ever; says which are ours, since an UPDATE only counts.
OWNED = """
    SELECT id, attempt, last_attempted_at, {now} FROM jobsup_job FORCE INDEX (PRIMARY)
    WHERE id IN ({pks}) AND claimed_by = %s AND status = 2 ORDER BY id FOR UPDATE
"""

# The fence: only where this run and this attempt still own the job. Several ends share one statement, as one JSON
# value. STRAIGHT_JOIN: each of them looks its job up by the key. Long texts have the server make a table on the disk
# for each statement, which takes it a millisecond: {text} is short where that will do.
FINISH = """
    UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
        id BIGINT PATH '$[0]', attempt SMALLINT PATH '$[1]', status SMALLINT PATH '$[2]', result {text} PATH '$[3]',
        worker VARCHAR(160) PATH '$[4]', started_ago_us BIGINT PATH '$[5]', ended_ago_us BIGINT PATH '$[6]',
        delay_us BIGINT PATH '$[7]', left_behind {text} PATH '$[8]', uncounted SMALLINT PATH '$[9]',
        untold SMALLINT PATH '$[10]'
    )) AS done STRAIGHT_JOIN jobsup_job AS job ON job.id = done.id
    SET job.status = CASE WHEN done.status < 2 AND job.cancel_asked_at IS NOT NULL THEN 5 ELSE done.status END,
        job.result = done.result, job.worker = done.worker,
        job.left_behind = COALESCE(done.left_behind, job.left_behind),
        job.started_at = COALESCE(job.started_at, {now} - INTERVAL done.started_ago_us MICROSECOND),
        job.last_attempted_at = COALESCE({now} - INTERVAL done.started_ago_us MICROSECOND, job.last_attempted_at),
        job.finished_at = CASE WHEN done.status > 2 OR job.cancel_asked_at IS NOT NULL
                          THEN {now} - INTERVAL done.ended_ago_us MICROSECOND END,
        job.run_after = CASE WHEN done.status = 1 THEN {now} + INTERVAL done.delay_us MICROSECOND
                        ELSE job.run_after END,
        job.uncounted = job.uncounted + done.uncounted,
        job.ready_at = CASE WHEN done.status > 2 THEN job.ready_at END,
        job.untold = CASE WHEN done.status < 2 AND job.cancel_asked_at IS NOT NULL THEN 1 ELSE done.untold END
    WHERE job.attempt = done.attempt AND job.claimed_by = %s AND job.status = 2
"""

MARK = """
    UPDATE jobsup_job SET worker = %s, started_at = COALESCE(started_at, {now} - INTERVAL %s MICROSECOND),
        last_attempted_at = {now} - INTERVAL %s MICROSECOND
    WHERE id = %s AND claimed_by = %s AND status = 2 AND worker = ''
"""

BEAT = "UPDATE jobsup_supervisor SET state = %s, beat_at = {now} WHERE id = %s AND state NOT IN ('stopped', 'lost')"

EXPIRE = """
    UPDATE jobsup_supervisor SET state = 'lost'
    WHERE state NOT IN ('stopped', 'lost') AND id <> %s
      AND (runfile = %s OR TIMESTAMPDIFF(MICROSECOND, beat_at, {now}) > lease_s * 1000000)
"""

HOLDERS = (
    "SELECT id, status FROM jobsup_job WHERE waiting_key = %s",
    "SELECT id, status FROM jobsup_job WHERE running_key = %s AND status = 2",
)
"""Who may have a unique key, as in `jobsup.sql.base`."""
BY_ID = ("jobsup_job", "jobsup_job FORCE INDEX (PRIMARY)")

SHORT_CHARS = 255
"""How long the texts of an end may be for the server to keep a statement's table of them in memory."""
STATEMENT_CHARS_MAX = 4 << 20
"""How much of the ends of jobs one statement takes, well below the usual `max_allowed_packet` of 16 MB."""


class MariaDB(Claims, Session):
    """Claims with SKIP LOCKED, and looks for work now and then."""

    def insert(self, row: NewRow, *, notify: bool) -> tuple[int, datetime] | None:
        # An INSERT that fails on a unique index keeps a lock there until the end of the transaction, in the way of
        # those who would claim that job: in one of the caller's, look before.
        held = row.unique_key is not None and not self.connection.get_autocommit()
        if held and self.holder(row, hold=False) is not None:
            return None
        run_after = self.stored(row.run_after)
        values = (*row._replace(run_after=run_after, tick_at=self.stored(row.tick_at)), run_after)
        try:
            pk, enqueued_at = self.insisting(lambda: self._insert(INSERT.format(now=self.clock), values))
        except IntegrityError as error:
            if row.unique_key is None or not is_duplicate(error):
                raise
            return None
        if notify:
            self.notify()
        return pk, self.moment(enqueued_at)

    def _insert(self, sql: str, values: Sequence[Any]) -> tuple[int, Any]:
        if self._returns:
            [(pk, enqueued_at)] = self.rows(f"{sql} RETURNING id, enqueued_at", values)
            return pk, enqueued_at
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            pk = cursor.lastrowid
        return pk, self.rows("SELECT enqueued_at FROM jobsup_job WHERE id = %s", (pk,))[0][0]

    @property
    def _returns(self) -> bool:
        """Tell whether INSERT has RETURNING, as MariaDB's has and MySQL's has not."""
        return bool(self.connection.features.can_return_rows_from_bulk_insert)

    def insert_many(self, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
        now = self.now()
        run_after, enqueued_at = self.stored(head.run_after), self.stored(now)
        status = 1 if head.run_after is not None and head.run_after > now else 0
        # All but the arguments is the same: quoted once.
        values = (*head[:4], run_after, *head[6:9], status, enqueued_at)
        row = f"({self._quoted(marks(values), values)}, 0, '', %s)"
        sql = INSERT_MANY.format(rows=", ".join([row] * len(arguments)))
        if self._returns:
            return [pk for (pk,) in self.rows(f"{sql} RETURNING id", arguments)], now
        return self.together(lambda: self._insert_many(sql, arguments)), now

    def _insert_many(self, sql: str, arguments: Sequence[str]) -> list[int]:
        """Insert where the server tells the first id only: the others follow it, which is made sure of."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, arguments)
            first: int = cursor.lastrowid
        [(step,)] = self.rows("SELECT @@SESSION.auto_increment_increment")
        pks = list(range(first, first + step * len(arguments), step))
        ends = (pks[0], arguments[0], pks[-1], arguments[-1])
        if self.rows(FIRST_TO_LAST, (*ends, pks[0], pks[-1])) != [(len(pks), 1, 1)]:
            raise JobsupError("the server gave jobs that were inserted together ids that do not follow each other")
        return pks

    def _quoted(self, sql: str, values: Sequence[Any]) -> str:
        """Return a part of a statement with its values in it, where the rest has parameters."""
        with self.connection.cursor() as cursor:
            text: str | bytes = cursor.mogrify(sql, values)
        return (text if isinstance(text, str) else text.decode()).replace("%", "%%")

    def holder(self, row: NewRow, *, hold: bool) -> tuple[int, int] | None:
        # Found without a lock and then locked by its id, as claims lock: whoever locked the entry of the unique index
        # first would wait for a claimer that waits for that entry.
        for sql in HOLDERS[: 1 + row.unique_running]:
            found = self.rows(sql, (row.unique_key,))
            if found and hold:
                found = self.rows(f"{sql} AND id = %s FOR UPDATE".replace(*BY_ID), (row.unique_key, found[0][0]))
            elif hold:  # at REPEATABLE READ only what locks sees what is there by now
                found = self.rows(f"{sql} FOR UPDATE", (row.unique_key,))
            if found:
                return found[0][0], found[0][1]
        return None

    def promote(self) -> int:
        return self.together(self._promote)

    def _promote(self) -> int:
        pks = [pk for (pk,) in self.rows(PROMOTE.format(now=self.clock))]
        return self.run(f"UPDATE jobsup_job SET status = 0 WHERE id IN ({marks(pks)})", pks) if pks else 0  # noqa: S608

    def next_due_s(self) -> float | None:
        due_us: int | None = self.rows(NEXT_DUE.format(now=self.clock))[0][0]
        return None if due_us is None else due_us / 1_000_000

    def glance(self, queues: Sequence[str] | None) -> tuple[bool, float | None]:
        names = [] if queues is None else list(queues)
        which = "" if queues is None else f" AND queue IN ({marks(names)})"
        ready = f"SELECT 1 FROM jobsup_job FORCE INDEX (jobsup_job_ready) WHERE status = 0{which}"  # noqa: S608
        due = NEXT_DUE.format(now=self.clock)
        [(found, due_us)] = self.rows(f"SELECT EXISTS ({ready}), ({due})", names)
        return bool(found), None if due_us is None else due_us / 1_000_000

    def load(self, pks: Sequence[int]) -> list[LoadedRow]:
        if not pks:
            return []
        rows = self.rows(f"SELECT {LOADED} FROM jobsup_job WHERE id IN ({marks(pks)})", [*pks])  # noqa: S608
        return [self.loaded(LoadedRow._make(row)) for row in rows]

    def finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        if all(row.status == Status.SUCCESSFUL for row in rows):
            return self._succeed(run, rows) if rows else []
        if len(rows) == 1 and rows[0].started_ago_s is not None:  # nothing to read before
            now = self.stored_now()
            return [self._finished(rows[0], now, None)] if self._end(run, rows, _literal(now)) else []
        return self.together(lambda: self._finish(run, rows))

    def _succeed(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        """Write down successes by a statement alone: none of their times is asked for, and it counts what it changed.

        It locks the rows in the order of their keys as well.
        """
        in_order = sorted(rows)
        ended = self.insisting(lambda: self._end(run, in_order, self.clock))
        return [Finished(row.pk, None, None) for row in rows] if ended == len(rows) else []

    def finish_last(self, run: int, row: FinishRow) -> bool:
        return self._end(run, [row], self.clock) > 0

    def _finish(self, run: int, rows: Sequence[FinishRow]) -> list[Finished]:
        sql = OWNED.format(now=self.clock, pks=marks(rows))
        owned = {(pk, attempt): rest for pk, attempt, *rest in self.rows(sql, [*(row.pk for row in rows), run])}
        mine = [row for row in rows if (row.pk, row.attempt) in owned]
        if not mine:
            return []
        now = owned[mine[0].pk, mine[0].attempt][1]
        ended = self._end(run, mine, _literal(now))
        assert ended == len(mine), "rows that were locked have changed"
        return [self._finished(row, now, owned[row.pk, row.attempt][0]) for row in mine]

    def _finished(self, row: FinishRow, now: datetime, last_attempted_at: datetime | None) -> Finished:
        ago_s = row.started_ago_s
        began_at = last_attempted_at if ago_s is None else now - timedelta(seconds=ago_s)
        return Finished(row.pk, None if began_at is None else self.moment(began_at), self.moment(now))

    def _end(self, run: int, rows: Sequence[FinishRow], now: str) -> int:
        """Write the ends of attempts; return how many of them the run owned.

        Args:
            run: whose they must be.
            rows: the ends.
            now: the database's clock, as a part of the statement.
        """
        texts = [
            json.dumps(
                [*row[:5], *map(_us, (row.started_ago_s, row.ended_ago_s, row.delay_s)), *row[8:10], +row.untold]
            )
            for row in rows
        ]
        short = all(len(text) <= SHORT_CHARS for row in rows for text in (row.result, row.left_behind) if text)
        sql = FINISH.format(now=now, text=f"VARCHAR({SHORT_CHARS})" if short else "LONGTEXT")
        return sum(self.run(sql, (f"[{','.join(part)}]", run)) for part in _parts(texts))

    def mark(self, run: int, pk: int, worker: str, for_s: float) -> None:
        self.run(MARK.format(now=self.clock), (worker, _us(for_s), _us(for_s), pk, run))

    def beat(self, run: int, state: str) -> bool:
        return self.run(BEAT.format(now=self.clock), (state, run)) == 1

    def expire(self, run: int, runfile: str) -> int:
        return self.run(EXPIRE.format(now=self.clock), (run, runfile))


def _literal(moment: datetime) -> str:
    """Return a moment that the server told as a part of a statement."""
    return f"CAST('{moment.isoformat(sep=' ')}' AS DATETIME(6))"


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in lists that are not too long for one statement."""
    part: list[str] = []
    chars = 0
    for text in texts:
        if part and chars + len(text) > STATEMENT_CHARS_MAX:
            yield part
            part, chars = [], 0
        part.append(text)
        chars += len(text)
    if part:
        yield part
