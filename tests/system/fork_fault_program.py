"""A program with the classical fault: forked children that use the Django connection of their parent.

The parent opens its connection, forks CHILDREN children, and then all of them ask the database questions at the same
time. Each process writes one line of JSON when it is through: what was wrong. A process that waits for an answer which
another one has read is ended by its alarm and writes nothing. test_fork_fault.py tells the story.
"""

from __future__ import annotations

import json
import os
import signal
import sys

CHILDREN = 3
QUESTIONS = 150
LIMIT_S = 3


def ask() -> dict[str, object]:
    """Ask questions whose answers are known; return how many answers were another process's, and the errors."""
    from django.db import connection

    wrong, errors, sessions = 0, set(), set()
    for number in range(QUESTIONS):
        question = os.getpid() * 1000 + number
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s, pg_backend_pid(), repeat('x', 2000)", [question])
                answer, session, _ = cursor.fetchone() or (None, None, None)
        except Exception as error:  # noqa: BLE001 - any error is the fault showing itself
            errors.add(f"{type(error).__name__}: {error}".partition("\n")[0])
        else:
            wrong += answer != question
            sessions.add(session)
    return {"wrong": wrong, "errors": sorted(errors), "sessions": sorted(sessions, key=str)}


def report_and_leave() -> None:
    """Work under the alarm, whose default is to end the process: no handler can run while libpq waits."""
    signal.alarm(LIMIT_S)
    answer = ask()
    os.write(sys.stdout.fileno(), (json.dumps(answer) + "\n").encode())
    os._exit(0)


def main() -> None:
    """Open the connection, fork, let all start at once, wait for the children."""
    import django
    from django.db import connection

    django.setup()
    connection.ensure_connection()  # the fault: it is open when the children are made
    gate, opener = os.pipe()
    for _ in range(CHILDREN):
        if os.fork() == 0:
            os.close(opener)
            os.read(gate, 1)  # end of file when the parent opens the gate
            report_and_leave()
    os.close(opener)
    report_and_leave()


if __name__ == "__main__":
    main()
