"""What is registered of SQLAlchemy: made once, disposed of, never shared with a forked child; wrong use in words."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool

from jobsup import sqlalchemy
from jobsup.hygiene.leftovers import Findings
from jobsup.sqlalchemy import Pools, register, release
from spawnpool.hooks import before_check
from tests.support import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlalchemy.Known]:
    """Nothing is registered yet."""
    fresh = sqlalchemy.Known()
    monkeypatch.setattr(sqlalchemy, "_known", fresh)
    yield fresh
    for engine in fresh.engines:
        engine.dispose()


@pytest.fixture
def engine(known: sqlalchemy.Known, tmp_path: Path) -> Engine:
    """An engine on a file, registered."""
    return register(make(tmp_path))


def make(place: Path) -> Engine:
    """Return an engine with a pool."""
    return create_engine(f"sqlite:///{place}/parts", poolclass=QueuePool)


def idle(engine: Engine) -> int:
    """Return how many connections wait in the pool."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedin()


def test_l_release_closes_what_nobody_uses_and_removes_sessions(known: sqlalchemy.Known, tmp_path: Path) -> None:
    """It is what the supervisor calls before it looks at its children."""
    engine = make(tmp_path)
    parts = scoped_session(sessionmaker(engine))
    assert register(engine, parts) is engine
    assert register(engine, parts) is engine, "again, to no effect"
    assert (known.engines, known.sessions) == ([engine], [parts])
    before = parts()
    parts.execute(text("SELECT 1"))
    engine.connect().close()
    assert idle(engine) == 1
    before_check.run()
    assert (idle(engine), parts.registry.has()) == (0, False)
    assert not before.in_transaction()
    release()


def test_l_a_callable_makes_one_engine_when_it_is_wanted(known: sqlalchemy.Known, tmp_path: Path) -> None:
    """Once in each process; until then there is nothing to dispose of."""
    made = []

    def engine() -> Engine:
        made.append(make(tmp_path))
        return made[-1]

    registered = register(engine)
    release()
    assert (made, known.engines) == ([], [])
    assert registered() is registered() is known.engines[0]
    assert len(made) == 1


def test_l_wrong_use_is_told_in_a_sentence(known: sqlalchemy.Known, tmp_path: Path) -> None:
    """A URL, nothing, an engine that is asynchronous; a callable that makes something else."""
    wrong: Any
    for wrong, told in (("sqlite://", "'sqlite://'"), (None, "None"), (object(), "an object")):
        with pytest.raises(TypeError, match=rf"^register\(\) was given {told}: expected an Engine"):
            register(wrong)
    with pytest.raises(TypeError, match=r"returned an? .*: expected an Engine\.$"):
        register(lambda: wrong)()
    assert known.engines == []


def test_l_d1_an_open_connection_is_taken_back_and_told(engine: Engine) -> None:
    """Of a session that nobody registered, of an engine, of a pool; the pool has all of its places again."""
    pools = Pools()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE part (name text)"))
    session, connection = Session(engine), engine.connect()
    raw = engine.raw_connection()
    for each in (session, connection):
        each.execute(text("SELECT 1"))
    findings = Findings()
    pools.restore(findings)
    assert (findings.restored, findings.spoiled) == (["an open connection of SQLAlchemy"], [])
    assert connection.closed
    assert not session.in_transaction()
    assert not raw.is_valid
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    pools.restore(findings)
    assert len(findings.restored) == 1


def test_l_d9_a_marked_connection_is_dropped_and_others_are_kept(engine: Engine) -> None:
    """As those of Django are; a connection that was put right, or that only asked, may stay."""
    pools, findings = Pools(), Findings()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    pools.restore(findings)
    assert (idle(engine), findings.restored) == (1, [])
    with engine.connect() as connection:
        connection.execute(text("PRAGMA cache_size = 7"))
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA cache_size")).scalar() == 7, "the job itself keeps it"
    pools.restore(findings)
    assert findings.restored == ["a PRAGMA on a connection of SQLAlchemy"]
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA cache_size")).scalar() != 7


FORKING = """
import os, sys
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool
from jobsup.sqlalchemy import register

engine = register(create_engine("sqlite:///" + sys.argv[1], poolclass=QueuePool))
engine.connect().close()
if (pid := os.fork()) == 0:
    os._exit(engine.pool.checkedin())
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), engine.pool.checkedin())
"""


def test_l_a_forked_child_has_none_of_its_parent_s_connections(tmp_path: Path) -> None:
    """And leaves them open for it."""
    ended = run(FORKING, str(tmp_path / "parts"))
    assert (ended.stdout, ended.stderr) == ("0 1\n", "")


def test_l_sqlalchemy_is_not_needed() -> None:
    """Nothing of jobsup imports it, until something is registered."""
    ended = run("import sys, django; django.setup(); import jobsup.runner, jobsup.service; print(*sys.modules)")
    assert "jobsup.sqlalchemy" in ended.stdout.split(), ended.stderr
    assert "sqlalchemy" not in ended.stdout.split()


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
