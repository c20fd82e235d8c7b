"""What the doctor says, and from where on it says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is; of notes alone nothing need be done."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(NamedTuple):
    """Something that hurts or will.

    Args:
        code: its name, which stays the same.
        severity: how bad it is.
        words: what was found, one sentence.
        remedy: what to do.
    """

    code: str
    severity: Severity
    words: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From where on something is told.

    Args:
        clock_skew_s: this machine's clock beside the database's.
        dead_rows: so many dead rows in a table are told if they are more than half as many as the living.
        transaction_s: how long a transaction may be open.
        transactions_behind: how far a replica may be behind with what it still has to see; 5 minutes of 1,000 a second.
        oldest_ready_s: how long a ready job may wait.
        lost_s: how long ago a supervisor that was lost is still told of.
        busy_timeout_ms: how long SQLite should let writers wait for each other.
        connections_used: the share of the server's connections that may be in use.
    """

    clock_skew_s: float = 2.0
    dead_rows: int = 50_000
    transaction_s: float = 300.0
    transactions_behind: int = 300_000
    oldest_ready_s: float = 300.0
    lost_s: float = 86_400.0
    busy_timeout_ms: int = 5_000
    connections_used: float = 0.85
