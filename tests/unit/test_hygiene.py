"""What hygiene puts back after a job and what it cannot put back (D9, M18, S4, faults 32, 33, 35).

Each way of spoiling a process is tried in a process of its own, forked from a fresh one that did nothing yet.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from jobsup.hygiene import CLEAN, Hygiene, Leftovers, threads
from jobsup.hygiene.statements import WORDS, marks
from tests.support import ROOT, environment
from tests.testapp import spoilers
from tests.testapp.spoilers import FORGIVEN, RESTORED, SPOILED

Record = dict[str, Any]

REHEARSED = [*RESTORED, *SPOILED, *FORGIVEN, "handlers", "streams reopened", "handler from C"]


# -- in the fresh process ---------------------------------------------------------------------------------------------


def rehearse() -> None:
    """Try every way in a child, and write what became of it to stdout, a line of JSON each."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    for signum in (signal.SIGINT, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_IGN)  # as a worker does
    signal.signal(signal.SIGTERM, on_term)
    result = os.dup(1)
    for way in REHEARSED:
        if pid := os.fork():
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(result, f"{json.dumps({'way': way, 'exit': status})}\n".encode())
        else:
            try:
                record = _rehearsed(way)
            except BaseException as error:  # noqa: BLE001
                record = {"error": repr(error)}
            os.write(result, f"{json.dumps({'way': way, **record})}\n".encode())
            os._exit(0)


def on_term(*_: object) -> None:
    """Be a worker's handler."""


def _rehearsed(way: str) -> Record:
    if way == "handler from C":  # as a library that was loaded before Python looked
        return _with_handler_from_c()
    hygiene = Hygiene(faulthandler.enable)
    before = spoilers.state()
    if way == "ending thread":
        threads.ENDING_S = 30.0  # the machine may be busy
    if way == "streams reopened":
        spoilers.redirect_stdout()
        hygiene.streams_changed()
    else:
        spoilers.WAYS[way]()
    left = hygiene.restore()
    again = hygiene.restore()
    if way in {"abort", "handlers"}:
        os.kill(os.getpid(), signal.SIGUSR2)  # ends the process unless faulthandler has it
    lasting = way in SPOILED or way in {*FORGIVEN, "streams reopened"}
    after = before if lasting else spoilers.state()
    record: Record = {"restored": left.restored, "spoiled": left.spoiled, "again": [again.restored, again.spoiled]}
    if way in FORGIVEN:
        record["is clean"] = left is CLEAN
    return {**record, "changed": {name: after[name] for name in after if after[name] != before[name]}}


def _with_handler_from_c() -> Record:
    from unittest import mock

    from jobsup.hygiene import process

    with mock.patch.object(
        process, "getsignal", lambda signum: None if signum == signal.SIGHUP else signal.getsignal(signum)
    ):
        hygiene = Hygiene(faulthandler.enable)
    left = hygiene.restore()
    return {"restored": left.restored, "spoiled": left.spoiled}


# -- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """What became of every way."""
    code = "import django; django.setup(); from tests.unit import test_hygiene; test_hygiene.rehearse()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Record] = {}
    for line in ended.stdout.splitlines():
        record = json.loads(line)
        found.setdefault(record["way"], {}).update(record)
    return found


@pytest.mark.parametrize("way", RESTORED)
def test_d9_s4_f33_what_can_be_put_back_is(records: dict[str, Record], way: str) -> None:
    """It is named, everything is as before, and the next look finds nothing."""
    record = records[way]
    assert record.get("restored") == RESTORED[way], record
    assert (record["spoiled"], record["changed"], record["again"], record["exit"]) == ([], {}, [[], []], 0)


def test_f33_every_handler_that_a_worker_needs_is_put_back(records: dict[str, Record]) -> None:
    """Also those that faulthandler has beneath those of Python: SIGUSR2 does not end the process afterwards."""
    record = records["handlers"]
    assert sorted(record["restored"]) == sorted(f"a handler of {number.name}" for number in spoilers.HANDLED)
    assert (record["spoiled"], record["changed"], record["again"], record["exit"]) == ([], {}, [[], []], 0)


@pytest.mark.parametrize("way", SPOILED)
def test_f32_f35_what_cannot_be_put_back_asks_for_a_fresh_worker(records: dict[str, Record], way: str) -> None:
    """It is named, now and as long as it lasts."""
    record = records[way]
    assert (record.get("restored"), record.get("spoiled")) == ([], [SPOILED[way]]), record
    assert record["again"] == [[], [SPOILED[way]]]


@pytest.mark.parametrize("way", FORGIVEN)
def test_d9_a_tidy_job_is_not_accused(records: dict[str, Record], way: str) -> None:
    """What it put back itself, and threads that end, wait for work or belong to libraries, are nothing to tell."""
    assert records[way].get("is clean"), records[way]


def test_the_log_may_be_reopened(records: dict[str, Record]) -> None:
    """Once hygiene was told, the new file is the one that must not change."""
    record = records["streams reopened"]
    assert (record.get("restored"), record.get("spoiled")) == ([], []), record


def test_a_handler_that_python_cannot_put_back_asks_for_a_fresh_worker(records: dict[str, Record]) -> None:
    """It was there before Python, which does not know it."""
    assert records["handler from C"].get("spoiled") == ["a handler of SIGHUP, in the place of one from C"]


def test_leftovers_in_words() -> None:
    """One line; nothing for nothing; of very many things only the first."""
    assert (bool(CLEAN), CLEAN.words()) == (False, "")
    left = Leftovers(("the umask", "a handler of SIGTERM"), ("a thread that goes on (Thread-3)",))
    assert left
    assert left.words() == (
        "left behind: the umask, a handler of SIGTERM (restored); "
        "a thread that goes on (Thread-3) (the worker is replaced)"
    )
    assert Leftovers((), ("a thread",)).words() == "left behind: a thread (the worker is replaced)"
    many = Leftovers((), tuple(f"thread {number}" for number in range(1000))).words()
    assert many.endswith("thread 9, 990 more (the worker is replaced)")


LASTING = {
    "SET search_path TO elsewhere": "settings",
    "  set\n statement_timeout = 1": "settings",
    "SET SESSION x = 1": "settings",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY": "settings",
    "SET ROLE other": "settings",
    "SET TIME ZONE 'UTC'": "settings",
    "RESET ALL": "settings",
    "SELECT 1; SET a.b = 'c'": "settings",
    "/* who asks */ -- and why\n SET a.b = 1": "settings",
    "DO $$ BEGIN SET a.b = 'c'; END $$": "settings",
    "SELECT set_config('search_path', %s, false)": "configured",
    "SELECT set_config(%s, %s, %s)": "configured",
    "SELECT set_config('a.b', current_setting('c.d', true), false)": "configured",
    "SELECT pg_advisory_lock(1)": "lock",
    "SELECT pg_try_advisory_lock_shared(1, 2)": "lock",
    "LISTEN channel": "channel",
    "PREPARE plan AS SELECT 1": "prepared",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1": "cursor",
    "CREATE TEMP TABLE t (id int)": "temporary",
    "create local temporary table t as select 1": "temporary",
    "CREATE OR REPLACE TEMP VIEW v AS SELECT 1": "temporary",
    "SELECT 1 AS x INTO TEMP t": "selected",
    "ATTACH DATABASE 'x' AS y": "attached",
    "PRAGMA cache_size = 5": "pragma",
    "PRAGMA main.synchronous(0)": "pragma",
    "PRAGMA foreign_keys = OFF": "foreign_keys",
    "SELECT GET_LOCK('name', 1)": "named_lock",
    "LOCK TABLES job WRITE": "tables",
    "USE elsewhere": "database",
}
PASSING = [
    "LOCK TABLE job IN EXCLUSIVE MODE",
    "SELECT 1",
    "UPDATE t SET a = 1 WHERE b = 2",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1",
    "ALTER TABLE t ALTER COLUMN c SET NOT NULL",
    "ALTER ROLE r SET search_path TO x",
    "SELECT ' ; SET a = 1; LISTEN x'",
    "SELECT 1 -- ; SET a = 1",
    'SELECT "; SET" FROM t',
    "SELECT setting, settle FROM t OFFSET 5",
    "SELECT * FROM template WHERE temp = 1",
    "SET LOCAL statement_timeout = 1",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED",
    "SELECT set_config('a.b', %s, true)",
    "SELECT set_config('a.b', current_setting('c.d'), true)",
    "SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2), pg_advisory_unlock(3)",
    "PREPARE TRANSACTION 'x'",
    "DECLARE c CURSOR FOR SELECT 1",
    "CREATE TEMP TABLE t (id int) ON COMMIT DROP",
    "NOTIFY channel",
    "SAVEPOINT s1; RELEASE SAVEPOINT s1",
    "PRAGMA table_info(t)",
    "PRAGMA foreign_key_check",
    "PRAGMA data_version",
    "PRAGMA journal_mode = WAL",
    "CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = 1; END",
]


@pytest.mark.parametrize("sql", LASTING)
def test_f34_a_statement_that_marks_its_session_is_known(sql: str) -> None:
    """In whatever case, behind comments and other statements; a text too long to be remembered as well."""
    assert marks(sql) == {LASTING[sql]}
    assert marks(sql + " " * 20_000) == {LASTING[sql]}
    assert set(LASTING.values()) == set(WORDS)


@pytest.mark.parametrize("sql", PASSING)
def test_f34_a_statement_that_leaves_no_mark_is_not_accused(sql: str) -> None:
    """Its words may look like one that does."""
    assert marks(sql) == set()


def test_f34_the_statements_of_jobsup_itself_leave_no_mark() -> None:
    """A worker's own statements pass the same watch."""
    from jobsup.sql import base, postgresql, sqlite
    from jobsup.sql.postgresql import claims, wakeups

    texts = [
        value
        for module in (base, postgresql, claims, wakeups, sqlite)
        for value in vars(module).values()
        if isinstance(value, str) and ("SELECT" in value or "UPDATE" in value)
    ]
    assert len(texts) > 10
    assert set().union(*map(marks, texts)) == set()
