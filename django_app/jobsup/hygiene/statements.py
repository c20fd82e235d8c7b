"""Which statements leave a lasting mark on a database session, told from their text."""

from __future__ import annotations

import re
from functools import lru_cache

from jobsup.locks import LOCKS

_UNSAID = re.compile(r"'(?:[^']|'')*' | \"(?:[^\"]|\"\")*\" | --[^\n]* | /\*.*?\*/", re.VERBOSE | re.DOTALL)

_PASSING_PRAGMAS = (
    "table_info|table_xinfo|table_list|index_info|index_list|index_xinfo|foreign_key_list|foreign_key_check|"
    "integrity_check|quick_check|optimize|wal_checkpoint|incremental_vacuum|user_version|application_id|"
    r"defer_foreign_keys|journal_mode\s*=\s*wal"
)
"""What asks, ends with the transaction or is kept in the file."""

# A statement begins at the start, after a semicolon or in a block of PL/pgSQL. The names of the groups are the keys
# of `WORDS`. What ends with the transaction is no mark: SET LOCAL, SET TRANSACTION, SET CONSTRAINTS, set_config with
# a literal true at its end, ON COMMIT DROP, the advisory locks with `xact` in their name; nor is the lock that an
# enqueue takes and gives back within one statement.
_LASTING = re.compile(
    rf"""
    (?:\A | ; | \bBEGIN\b) \s* (?:
        (?P<settings> SET \s+ (?!LOCAL\b | TRANSACTION\b | CONSTRAINTS\b) | RESET\b | DISCARD\b | LOAD\b)
      | (?P<channel> LISTEN\b)
      | (?P<prepared> PREPARE \s+ (?!TRANSACTION\b))
      | (?P<cursor> DECLARE\b [^;]* \bWITH \s+ HOLD\b)
      | (?P<temporary> CREATE \s+ (?:\w+\s+){{0,2}}? TEMP(?:ORARY)? \s (?![^;]* \bON \s+ COMMIT \s+ DROP\b))
      | (?P<attached> (?:ATTACH | DETACH)\b)
      | (?P<tables> LOCK \s+ TABLES?\b (?! [^;]* \bIN \b))
      | (?P<database> USE \s+ [\w`])
      | (?P<foreign_keys> PRAGMA \s+ foreign_keys \s* [=(])
      | (?P<pragma> PRAGMA \s+ (?:\w+\.)? (?!(?:{_PASSING_PRAGMAS})\b) \w+ \s* [=(])
    )
  | (?P<selected> \bINTO \s+ TEMP(?:ORARY)?\b)
  | (?P<configured> \bset_config \s* \( (?! (?:[^()] | \([^()]*\))* , \s* true \s* \)))
  | (?P<named_lock> \bGET_LOCK \s* \()
  | (?P<lock> \bpg_(?:try_)?advisory_lock(?:_shared)? \s* \( (?! \s* {LOCKS} \s* ,))
    """,
    re.VERBOSE | re.IGNORECASE,
)

_HINTS = ("SET", "LISTEN", "PREPARE", "HOLD", "TEMP", "ATTACH", "DETACH", "PRAGMA", "LOCK", "DISCARD", "LOAD", "USE")
"""One of these is in every text that `_LASTING` matches; most texts have none."""

_REMEMBERED_CHARS_MAX = 10_000

WORDS = {
    "settings": "session settings",
    "configured": "session settings",
    "channel": "a LISTEN",
    "prepared": "a prepared statement",
    "cursor": "a cursor WITH HOLD",
    "temporary": "a temporary table",
    "selected": "a temporary table",
    "attached": "an attached database",
    "foreign_keys": "a PRAGMA",
    "pragma": "a PRAGMA",
    "lock": "an advisory lock",
    "named_lock": "an advisory lock",
    "tables": "a table lock",
    "database": "another database in use",
}

QUESTIONS = {
    "channel": "SELECT 1 FROM pg_listening_channels() LIMIT 1",
    "lock": "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() LIMIT 1",
    "foreign_keys": "SELECT 1 FROM pragma_foreign_keys WHERE foreign_keys = 0",
}
"""What is usually undone by those who do it, `result.wait()` among them: a row says that it was not."""


def marks(sql: str) -> frozenset[str]:
    """Return the kinds of lasting marks that a text of statements leaves, keys of `WORDS`."""
    return _remembered_marks(sql) if len(sql) <= _REMEMBERED_CHARS_MAX else _marks(sql)


def _marks(sql: str) -> frozenset[str]:
    upper = sql.upper()
    if not any(hint in upper for hint in _HINTS):
        return frozenset()
    return frozenset(str(match.lastgroup) for match in _LASTING.finditer(_UNSAID.sub(" ", sql)))


_remembered_marks = lru_cache(maxsize=1024)(_marks)
