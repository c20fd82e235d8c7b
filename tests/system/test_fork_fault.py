"""The fault that started it all, and the proof that jobsup does not have it.

A database connection is a socket and the state of a conversation. `fork` copies both into the child: now two
processes talk over one socket, each believing that it is alone. Whoever reads first takes the answer, be it the
other's. What is seen is rarely an error: it is silent WRONG ANSWERS (my query, your row), or a process that waits for
ever for an answer which another has read; with SSL it is "decryption failed or bad record mac", with large answers
"lost synchronization with server". A lock around the ORM does not reach across processes, and closing the connection
in the child tells the server to end the session of the parent.

The cure is that a child inherits nothing. jobsup's workers are spawned: a new Python with no socket of its parent,
which opens connections of its own and receives its work as primary keys.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import ROOT, environment, eventually
from tests.system import fork_fault_program as program

if TYPE_CHECKING:
    from tests.databases import Database

ON_POSTGRESQL = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
RUNS_MAX = 5
JOBS = 12


def run_forked(env: dict[str, str]) -> tuple[list[dict[str, Any]], int]:
    """Run the program once; return what its processes reported and how many were ended by their alarm."""
    done = subprocess.run(
        [sys.executable, program.__file__],
        env=environment(env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert "Traceback" not in done.stderr, done.stderr
    return reports, program.CHILDREN + 1 - len(reports)


@ON_POSTGRESQL
def test_forked_children_get_the_answers_of_others(database: Database) -> None:
    """Forked children on their parent's connection: wrong answers, errors or a hang, nearly every time."""
    for _ in range(RUNS_MAX):
        reports, hung = run_forked(database.env)
        if hung or any(report["wrong"] or report["errors"] for report in reports):
            sessions = {session for report in reports for session in report["sessions"]}
            assert len(sessions) <= 1, f"they shared one session of the server, and yet there are {sessions}"
            return
    pytest.fail(f"{RUNS_MAX} runs with a shared connection went well by luck")


@ON_POSTGRESQL
def test_spawned_workers_get_their_own_answers(database: Database) -> None:
    """The same questions asked by jobs in workers of a real supervisor: every answer is right."""
    from tests.testapp.tasks import query

    with database.supervisor("--workers", str(program.CHILDREN)) as supervisor:
        supervisor.wait_ready()
        jobs = [query.enqueue(program.QUESTIONS) for _ in range(JOBS)]

        def all_finished() -> bool:
            for job in jobs:
                job.refresh()
            return all(job.is_finished for job in jobs)

        eventually(all_finished, 30, "the end of all jobs", supervisor.picture)
        answers = [job.return_value for job in jobs]
        supervisor.stop()
    assert [answer["wrong"] for answer in answers] == [0] * JOBS
    assert 1 <= len({answer["session"] for answer in answers}) <= program.CHILDREN
