"""What kind of trouble a database's error tells of, whatever the vendor and the driver."""

from __future__ import annotations

from django.db import Error

NOT_REPEATABLE = "40001"
"""SQLSTATE: at REPEATABLE READ or above, somebody else has changed what this transaction has read."""
TIMED_OUT = ("55P03", "57014", 1205, 1969, 3024)
"""A lock, or the whole statement, took longer than the session allows."""
CHANGED = (NOT_REPEATABLE, 1020)
DUPLICATE = ("23505", 1062)
"""A unique index has such a row already."""
CROWDED = ("53300", 1040, 1203)
CROWDED_WORDS = (
    "too many clients already",
    "remaining connection slots are reserved",
    "too many connections for ",
    "no more connections allowed",
    "max_user_connections",
)
"""No connection is left. What PostgreSQL, and a pooler, say to who wants one has no code."""


def code_of(error: BaseException) -> str | int | None:
    """Return the SQLSTATE of an error of PostgreSQL's, the number of one of MariaDB's or MySQL's."""
    cause = error.__cause__ if isinstance(error, Error) and error.__cause__ is not None else error
    if cause.args and isinstance(cause.args[0], int):
        return cause.args[0]
    state: str | None = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
    return state


def is_time_out(error: BaseException) -> bool:
    """Tell whether somebody else held a lock for too long."""
    return code_of(error) in TIMED_OUT


def is_crowded(error: BaseException) -> bool:
    """Tell whether the server takes no more connections, of this user at least."""
    return code_of(error) in CROWDED or any(words in str(error) for words in CROWDED_WORDS)


def is_changed(error: BaseException) -> bool:
    """Tell whether the transaction saw another state of the rows than it would have to change."""
    return code_of(error) in CHANGED


def is_duplicate(error: BaseException) -> bool:
    """Tell whether a unique index has such a row already."""
    return code_of(error) in DUPLICATE
