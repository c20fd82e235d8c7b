"""What stands for partial indexes on MariaDB and MySQL; nothing on other databases.

Django makes full indexes there of those that have a condition, and leaves out unique constraints that have one. The
right ones are over generated columns, which are NULL where the condition does not hold, or begin with the status. Names
and keys are compared byte by byte from here on, whatever the collation of the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import migrations
from django.db.utils import NotSupportedError

OLDEST = {True: ("MariaDB", (10, 8)), False: ("MySQL", (8, 0, 17))}
"""By whether it is MariaDB: since when an index can have a descending column, and a collation compares all bytes."""
BYTES = {True: "utf8mb4_nopad_bin", False: "utf8mb4_0900_bin"}
"""Collations that ignore neither case nor blanks at the end."""

JOB = {
    "jobsup_job_ready": "INDEX {name} (status, queue, priority DESC, id)",
    "jobsup_job_due": "INDEX {name} (due_at)",
    "jobsup_job_untold": "INDEX {name} (untold)",
    "jobsup_unique_waiting": "UNIQUE INDEX {name} (waiting_key)",
    "jobsup_unique_running": "UNIQUE INDEX {name} (running_key)",
    "jobsup_tick_once": "UNIQUE INDEX {name} (schedule, tick_at)",
}
COLUMNS = {
    "due_at": "DATETIME(6) GENERATED ALWAYS AS (IF(status = 1, run_after, NULL)) VIRTUAL",
    "waiting_key": "VARCHAR(255) {text} GENERATED ALWAYS AS (IF(status < 2, unique_key, NULL)) VIRTUAL",
    "running_key": "VARCHAR(255) {text} GENERATED ALWAYS AS (IF(status < 3 AND unique_running, unique_key, NULL)) VIRTUAL",
}
MADE_BY_DJANGO = {
    "jobsup_job_ready": "INDEX {name} (queue, priority DESC, id)",
    "jobsup_job_due": "INDEX {name} (run_after)",
    "jobsup_job_claimed": "INDEX {name} (claimed_by)",
    "jobsup_job_untold": "INDEX {name} (claimed_by)",
}
COMPARED_BY_BYTES = ("jobsup_queue", "jobsup_schedule", "jobsup_supervisor")


def forwards(_apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    if connection.vendor != "mysql":
        return
    name, oldest = OLDEST[connection.mysql_is_mariadb]
    if connection.mysql_version < oldest:
        raise NotSupportedError(f"jobsup needs {name} {'.'.join(map(str, oldest))} or newer for its indexes")
    text = f"CHARACTER SET utf8mb4 COLLATE {BYTES[connection.mysql_is_mariadb]}"
    added = [f"ADD COLUMN {column} {kind.format(text=text)}" for column, kind in COLUMNS.items()]
    alter(schema_editor, f"CONVERT TO {text}", added, JOB)
    for table in COMPARED_BY_BYTES:
        schema_editor.execute(f"ALTER TABLE {table} CONVERT TO {text}")
    schema_editor.execute("ALTER TABLE jobsup_failedattempt CONVERT TO CHARACTER SET utf8mb4")


def backwards(_apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "mysql":
        alter(schema_editor, "", [f"DROP COLUMN {column}" for column in COLUMNS], MADE_BY_DJANGO)


def alter(schema_editor: Any, first: str, columns: Sequence[str], indexes: Mapping[str, str]) -> None:
    """Replace the indexes of the table by these, by one statement: all of it is done or nothing."""
    with schema_editor.connection.cursor() as cursor:
        found = schema_editor.connection.introspection.get_constraints(cursor, "jobsup_job")
    gone = [f"DROP INDEX {name}" for name in {**JOB, **MADE_BY_DJANGO} if name in found]
    made = [f"ADD {index.format(name=name)}" for name, index in indexes.items()]
    schema_editor.execute("ALTER TABLE jobsup_job " + ", ".join(filter(None, [first, *gone, *columns, *made])))


class Migration(migrations.Migration):
    atomic = False  # the servers commit with each of these statements
    dependencies = [("jobsup", "0005_table_care")]
    operations = [migrations.RunPython(forwards, backwards, elidable=False)]
