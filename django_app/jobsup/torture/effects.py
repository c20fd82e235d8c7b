"""What atomic jobs do: a table of their own in the database that is tortured, a row for each time one took effect."""

from __future__ import annotations

from django.db import connection

TABLE = "jobsup_torture_effect"


def make_table() -> None:
    """Make it."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {TABLE} (job bigint NOT NULL, attempt integer NOT NULL)")


def drop_table() -> None:
    """Drop it."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {TABLE}")


def leave(job: int, attempt: int) -> None:
    """Write a row, in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} (job, attempt) VALUES (%s, %s)", [job, attempt])  # noqa: S608


def counted() -> dict[int, int]:
    """Return how many rows each job has left."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT job, count(*) FROM {TABLE} GROUP BY job")  # noqa: S608
        return dict(cursor.fetchall())
