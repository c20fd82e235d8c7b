"""Many rows by COPY, by psycopg 2 or 3."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jobsup.sql.base import Statements
from jobsup.sql.rows import NewRow

# The ids are drawn before, since COPY returns nothing. MATERIALIZED: else the name is looked up for each of them.
DRAW = """
    WITH sequence AS MATERIALIZED (SELECT pg_get_serial_sequence('jobsup_job', 'id')::regclass AS name)
    SELECT statement_timestamp(), COALESCE(%s::timestamptz > statement_timestamp(), false),
           ARRAY(SELECT nextval(sequence.name) FROM generate_series(1, %s))
    FROM sequence
"""
COPY = """
    COPY jobsup_job (id, arguments, task, queue, backend, priority, run_after, max_attempts, options, keep_s, status,
                     attempt, worker, enqueued_at) FROM STDIN
"""
CHUNK_BYTES = 1 << 16
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def insert_many(sql: Statements, head: NewRow, arguments: Sequence[str]) -> tuple[list[int], datetime]:
    """Insert jobs that differ in their arguments only; return their ids in order and when they were enqueued.

    Args:
        sql: the statements of the database.
        head: what they have in common.
        arguments: JSON of each one's, as `jobsup.text.dump` makes it: no control characters.
    """
    enqueued_at, later, pks = sql.rows(DRAW, (head.run_after, len(arguments)))[0]
    values = [
        *(head.task, head.queue, head.backend, head.priority, head.run_after, head.max_attempts, head.options),
        *(head.keep_s, int(later), 0, "", enqueued_at),
    ]
    end = "\t".join(map(_field, values)) + "\n"
    escaped = [text.replace("\\", "\\\\") for text in arguments]
    lines = [f"{pk}\t{text}\t{end}" for pk, text in zip(pks, escaped, strict=True)]
    _copy(sql, "".join(lines))
    return pks, enqueued_at


def _field(value: Any) -> str:
    return "\\N" if value is None else str(value).translate(_ESCAPES)


def _copy(sql: Statements, text: str) -> None:
    with sql.connection.cursor() as cursor, sql.connection.wrap_database_errors:
        driver: Any = cursor
        if hasattr(driver, "copy_expert"):  # psycopg 2
            driver.copy_expert(COPY, io.StringIO(text), CHUNK_BYTES)
        else:
            with driver.copy(COPY) as copy:
                copy.write(text)
