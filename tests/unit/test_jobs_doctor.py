"""The doctor's judgement where the trouble cannot be made here: old versions, network filesystems, full servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobsup.doctor.checks import CHECKS
from jobsup.doctor.facts import Facts, QueueFacts, Run
from jobsup.doctor.findings import Limits
from jobsup.doctor.holders import Holder
from jobsup.doctor.postgresql import Server
from jobsup.doctor.sqlite import File, filesystem

ALIVE = Run("one", "node", 1, lost=False, silent_s=1.0, lease_s=30.0)
SERVER = Server(
    version=150_000, max_connections=100, reserved=3, used=10, role_limit=-1, database_limit=-1, autovacuum=True,
    fsync=True, synchronous_commit="on", read_only=False, tables=(), holders=(), pooler=None,
)  # fmt: skip
FILE = File(
    version=(3, 35, 0), in_memory=False, filesystem="ext4", journal_mode="wal", busy_timeout_ms=20_000, synchronous=2,
    transaction_mode="IMMEDIATE",
)  # fmt: skip
MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
proc /proc proc rw 0 0
server:/export /srv/my\\040files nfs4 rw 0 0
tmpfs /srv/my\\040files/fast tmpfs rw 0 0
"""


def found(**facts: Any) -> dict[str, str]:
    """Return the words of what is found, by code, with a supervisor that is alive."""
    known = Facts(**{"alias": "default", "runs": [ALIVE], **facts})
    return {finding.code: finding.words for check in CHECKS for finding in check(known, Limits())}


def test_nothing_is_said_of_what_is_well() -> None:
    """On either database."""
    assert found(postgresql=SERVER) == found(sqlite=FILE) == {}


@pytest.mark.parametrize(
    ("facts", "code", "words"),
    [
        ({"postgresql": replace(SERVER, version=140_011)}, "old-server", "PostgreSQL 14 is older than 15"),
        ({"postgresql": replace(SERVER, read_only=True)}, "read-only", "takes no writes"),
        ({"sqlite": replace(FILE, version=(3, 34, 1))}, "old-sqlite", "SQLite 3.34.1 is older than 3.35"),
        ({"sqlite": replace(FILE, filesystem="nfs4")}, "sqlite-on-network", "a network filesystem (nfs4)"),
        ({"postgresql": replace(SERVER, used=90)}, "connections", "97 for ordinary users, 90 in use"),
        ({"postgresql": SERVER, "workers": 20, "aliases": 4}, "connections", "1 x (20 workers x (4 + 1) + 1) = 101"),
        ({"postgresql": SERVER, "workers": 30, "runs": [ALIVE] * 2}, "connections", "2 x (30 workers x (1 + 1) + 1)"),
        (
            {"postgresql": replace(SERVER, holders=[Holder("the unused replication slot gone", float("inf"))])},
            "old-transaction", "the unused replication slot gone: keeps dead rows",
        ),
        (
            {"postgresql": replace(SERVER, holders=[Holder("the replica two at 10.0.0.2", None, "x", 5_000_000)])},
            "old-transaction", "the replica two at 10.0.0.2: keeps dead rows from being removed, 5,000,000 transac",
        ),
        (
            {"postgresql": replace(SERVER, holders=[Holder("a session", 400.0, "x", 0, holds=False)])},
            "old-transaction", "a session: has been open since 7 min and may keep dead rows",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_hurts_is_told(facts: dict[str, Any], code: str, words: str) -> None:
    """By itself."""
    told = found(**facts)
    assert set(told) == {code}
    assert words in told[code]


def test_only_some_of_many_transactions_are_named() -> None:
    """The oldest; how many more there are is told once."""
    holders = [Holder(f"session {number}", 1000.0 + number) for number in range(10)]
    known = Facts(alias="default", runs=[ALIVE], postgresql=replace(SERVER, holders=holders))
    told = [finding.words for check in CHECKS for finding in check(known, Limits())]
    assert [words.split(":")[0] for words in told] == ["session 9", "session 8", "session 7"]
    assert [words.endswith("7 more are as old") for words in told] == [True, False, False]


def test_without_a_supervisor_queues_are_not_told_one_by_one() -> None:
    """One sentence says it all."""
    queue = QueueFacts("mail", 5, at_least=False, oldest_s=1e6, named=False, moving=False, paused=False)
    assert set(found(runs=[], queues=[queue])) == {"no-supervisor"}
    assert set(found(queues=[queue])) == {"unserved-queue"}


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/db", "ext4"),
        ("/srv/my files/db", "nfs4"),
        ("/srv/my files/fast/db", "tmpfs"),
        ("/srv/my filesystem", "ext4"),
    ],
)
def test_the_filesystem_of_a_file_is_that_of_the_nearest_mount(file: str, kind: str) -> None:
    """Whatever its path contains."""
    assert filesystem(Path(file), MOUNTS) == kind
