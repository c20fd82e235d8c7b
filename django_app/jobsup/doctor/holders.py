"""Who keeps PostgreSQL from removing dead rows of the jobs' tables: the holders of its oldest snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.backends.utils import CursorWrapper


@dataclass(frozen=True, slots=True)
class Holder:
    """What keeps dead rows from being removed.

    Args:
        who: it is, and what it did last.
        age_s: for how long already; infinite where nobody will ever end it, None where the server cannot tell.
        remedy: how to end it.
        behind: over how many transactions that came after it.
        holds: whether it keeps anything at present; else what it does next may.
    """

    who: str
    age_s: float | None
    remedy: str = ""
    behind: int = 0
    holds: bool = True


# A session holds what its snapshot, or its own writing, may still have to see. In READ COMMITTED an idle one that has
# written nothing holds nothing, until its next statement. What a replica's sessions see (hot_standby_feedback) is held
# by its slot, or where it has none by the process that sends to it.
HOLDERS = """
    SELECT format('%%s of %%s (pid %%s%%s, %%s), last statement: %%s',
                  coalesce(nullif(application_name, ''), 'a session'), usename, pid, ' at ' || host(client_addr), state,
                  left(regexp_replace(query, '\\s+', ' ', 'g'), 60)),
           extract(epoch FROM clock_timestamp() - xact_start)::float8,
           CASE WHEN state = 'active' THEN format('let it come to an end, or SELECT pg_cancel_backend(%%s)', pid)
           ELSE format('have its program commit, or SELECT pg_terminate_backend(%%s); ', pid)
                || 'idle_in_transaction_session_timeout ends such sessions by itself' END,
           coalesce(greatest(age(backend_xmin), age(backend_xid)), 0),
           backend_xmin IS NOT NULL OR backend_xid IS NOT NULL
    FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND datname = current_database()
      AND backend_type = 'client backend'
    UNION ALL
    SELECT format('the prepared transaction %%s of %%s', gid, owner),
           extract(epoch FROM clock_timestamp() - prepared)::float8,
           format('COMMIT PREPARED %%L, or ROLLBACK PREPARED %%L', gid, gid), age(transaction), true
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT format(CASE WHEN active THEN 'the replica at replication slot %%s'
                  ELSE 'the unused replication slot %%s' END,
                  slot_name),
           CASE WHEN active THEN NULL ELSE 'infinity'::float8 END,
           CASE WHEN active THEN 'end the long queries there, or set hot_standby_feedback = off on it'
           ELSE format('if its replica is not to come back: SELECT pg_drop_replication_slot(%%L)', slot_name) END,
           age(xmin), true
    FROM pg_replication_slots WHERE xmin IS NOT NULL
    UNION ALL
    SELECT format('the replica %%s%%s', coalesce(nullif(application_name, ''), 'without a name'),
                  ' at ' || host(client_addr)),
           NULL, 'end the long queries there, or set hot_standby_feedback = off on it', age(backend_xmin), true
    FROM pg_stat_replication AS replica
    WHERE backend_xmin IS NOT NULL
      AND NOT EXISTS (SELECT FROM pg_replication_slots AS slot WHERE slot.active_pid = replica.pid AND xmin IS NOT NULL)
"""


def look(cursor: CursorWrapper) -> list[Holder]:
    """Ask a server."""
    cursor.execute(HOLDERS, [])
    return [Holder(*row) for row in cursor.fetchall()]
