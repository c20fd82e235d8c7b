"""One step of removing jobs that ended long ago, per vendor.

A step reads a span of the primary key, so it costs the same wherever it is, and removes at most so many of it; jobs
that somebody else has locked are passed over. Ages are compared in seconds: a moment minus the longest time to keep
could be none that the database knows.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from django.utils import timezone

from jobsup.keep import DAY_S, Keep
from jobsup.sql.base import Statements


class Step(NamedTuple):
    """What a step found.

    Args:
        place: the key after which the next step goes on; None at the end.
        seen: how many jobs it looked at.
        gone: how many it removed, or would have.
        full: whether it removed as many as it might: there may be more in the same span.
    """

    place: int | None
    seen: int
    gone: int
    full: bool


# The end of a job without a worker may still have to be told, unless that has failed for a day.
_OLD = """
    status > 2 AND (NOT untold OR {age} > {day}) AND {age} > COALESCE(
        CASE WHEN %s THEN keep_s END, CASE status WHEN 3 THEN {number} WHEN 4 THEN {number} ELSE {number} END)
"""

_PG_FOUND = f"""
    WITH span AS MATERIALIZED (
        SELECT id, status, untold, keep_s, finished_at FROM jobsup_job WHERE id > %s ORDER BY id LIMIT %s
    ), old AS MATERIALIZED (
        SELECT id FROM span WHERE
        {_OLD.format(age="extract(epoch FROM statement_timestamp() - finished_at)", day=DAY_S, number="%s::float8")}
        ORDER BY id LIMIT %s
    )
"""  # noqa: S608
_PG_COUNTS = "SELECT (SELECT max(id) FROM span), (SELECT count(*) FROM span), (SELECT max(id) FROM old), "

# The arrays have the rows found by their keys, whatever the planner thinks of their number.
_PG_PRUNE = f"""
    {_PG_FOUND}, mine AS MATERIALIZED (
        SELECT job.id FROM jobsup_job AS job JOIN old ON old.id = job.id WHERE job.status > 2
        FOR UPDATE OF job SKIP LOCKED
    ), failures AS (
        DELETE FROM jobsup_failedattempt WHERE job_id = ANY(ARRAY(SELECT id FROM mine))
    ), gone AS (
        DELETE FROM jobsup_job WHERE id = ANY(ARRAY(SELECT id FROM mine)) RETURNING id
    )
    {_PG_COUNTS} (SELECT count(*) FROM old), (SELECT count(*) FROM gone)
"""  # noqa: S608  # constants all of them
_PG_LOOK = f"{_PG_FOUND} {_PG_COUNTS} (SELECT count(*) FROM old), (SELECT count(*) FROM old)"  # noqa: S608

_LITE_SPAN = "SELECT max(id), count(*) FROM (SELECT id FROM jobsup_job WHERE id > %s ORDER BY id LIMIT %s)"
_LITE_OLD = f"""
    SELECT id FROM jobsup_job WHERE id > %s AND id <= %s AND
    {_OLD.format(age="(julianday(%s) - julianday(finished_at)) * 86400.0", day=DAY_S, number="%s")}
    ORDER BY id LIMIT %s
"""  # noqa: S608
_LITE_JOBS = "DELETE FROM jobsup_job WHERE id IN (SELECT value FROM json_each(%s)) AND status > 2 RETURNING id"
_LITE_FAILURES = "DELETE FROM jobsup_failedattempt WHERE job_id IN (SELECT value FROM json_each(%s))"


_MY_SPAN = "SELECT max(id), count(*) FROM (SELECT id FROM jobsup_job WHERE id > %s ORDER BY id LIMIT %s) AS span"
_MY_OLD = f"""
    SELECT id FROM jobsup_job FORCE INDEX (PRIMARY) WHERE id > %s AND id <= %s AND
    {_OLD.format(age="TIMESTAMPDIFF(MICROSECOND, finished_at, {now}) / 1000000", day=DAY_S, number="%s")}
    ORDER BY id LIMIT %s
"""  # noqa: S608
_MY_MINE = "SELECT id FROM jobsup_job WHERE id IN ({pks}) AND status > 2 ORDER BY id FOR UPDATE SKIP LOCKED"
_MY_GONE = (
    "DELETE FROM jobsup_failedattempt WHERE job_id IN ({pks})",
    "DELETE FROM jobsup_job WHERE id IN ({pks})",
)


def prune_step(sql: Statements, place: int, keep: Keep, *, own: bool, look: bool, span: int, most: int) -> Step:
    """Remove jobs of one span of keys that ended long ago.

    Args:
        sql: the statements of the database.
        place: the key after which it begins.
        keep: how long jobs are kept.
        own: whether a job's own `keep_s` goes before that.
        look: whether to remove nothing.
        span: how many jobs to look at at most.
        most: how many to remove at most.
    """
    find = _BY_VENDOR[sql.connection.vendor]
    last, seen, last_old, old, gone = find(sql, place, keep, own=own, look=look, span=span, most=most)
    if old == most:
        return Step(last_old, seen, gone, full=True)
    return Step(last if seen == span else None, seen, gone, full=False)


Found = tuple[int | None, int, int | None, int, int]
"""The last key seen, how many were seen; the last that is old, how many are; how many are gone."""


def _postgresql(sql: Statements, place: int, keep: Keep, *, own: bool, look: bool, span: int, most: int) -> Found:
    [(last, seen, last_old, old, gone)] = sql.rows(_PG_LOOK if look else _PG_PRUNE, (place, span, own, *keep, most))
    return last, seen, last_old, old, gone


def _sqlite(sql: Statements, place: int, keep: Keep, *, own: bool, look: bool, span: int, most: int) -> Found:
    [(last, seen)] = sql.rows(_LITE_SPAN, (place, span))
    if not seen:
        return None, 0, None, 0, 0
    now = sql.connection.ops.adapt_datetimefield_value(timezone.now())
    old = [pk for (pk,) in sql.rows(_LITE_OLD, (place, last, now, now, own, *keep, most))]
    if look or not old:
        return last, seen, max(old, default=None), len(old), len(old)

    def gone() -> int:  # it begins with a write
        mine = [pk for (pk,) in sql.rows(_LITE_JOBS, (json.dumps(old),))]
        sql.run(_LITE_FAILURES, (json.dumps(mine),))
        return len(mine)

    return last, seen, max(old), len(old), sql.together(gone)


def _mariadb(sql: Statements, place: int, keep: Keep, *, own: bool, look: bool, span: int, most: int) -> Found:
    from jobsup.sql.mariadb import MariaDB
    from jobsup.sql.mariadb.base import marks

    assert isinstance(sql, MariaDB)
    [(last, seen)] = sql.rows(_MY_SPAN, (place, span))
    if not seen:
        return None, 0, None, 0, 0
    old = [pk for (pk,) in sql.rows(_MY_OLD.format(now=sql.clock), (place, last, own, *keep, most))]
    if look or not old:
        return last, seen, max(old, default=None), len(old), len(old)

    def gone() -> int:
        mine = [pk for (pk,) in sql.rows(_MY_MINE.format(pks=marks(old)), old)]
        for statement in _MY_GONE if mine else ():
            sql.run(statement.format(pks=marks(mine)), mine)
        return len(mine)

    return last, seen, max(old), len(old), sql.together(gone)


_BY_VENDOR = {"postgresql": _postgresql, "mysql": _mariadb, "sqlite": _sqlite}
