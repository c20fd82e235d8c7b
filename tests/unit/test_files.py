"""Whether an SQLite database was written since the last look, by what the file system tells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from jobsup.sql.files import RECENT_NS, identity, state

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file and its log, written long ago."""
    file = tmp_path / "db.sqlite3"
    for path in (file, tmp_path / "db.sqlite3-wal"):
        path.write_bytes(b"written")
        _written(path, 1000)
    return file


def _written(path: Path, at_s: int) -> None:
    os.utime(path, (at_s, at_s))


def test_it_stays_the_same_until_somebody_writes(file: Path) -> None:
    """To the file or to its log, also where neither gets longer; reading is no change."""
    before = state(file)
    assert before is not None
    file.read_bytes()
    assert state(file) == before
    log = file.with_name("db.sqlite3-wal")
    _written(log, 1001)
    assert state(file) not in (None, before)
    before = state(file)
    _written(file, 1001)
    assert state(file) not in (None, before)


def test_right_after_a_write_it_is_not_known(file: Path) -> None:
    """A second one within the same tick of the clock would leave the same time; unless nobody can have made it."""
    log = file.with_name("db.sqlite3-wal")
    log.write_bytes(b"news")
    assert state(file) is None
    assert state(file, settled=True) is not None
    now_ns = log.stat().st_mtime_ns
    os.utime(log, ns=(now_ns, now_ns - 2 * RECENT_NS))
    assert state(file) is not None


def test_a_log_that_is_empty_is_none(file: Path) -> None:
    """Whoever opens the database makes it, and the last one takes it away."""
    log = file.with_name("db.sqlite3-wal")
    log.unlink()
    before = state(file)
    log.touch()
    assert state(file) == before


@pytest.mark.parametrize("name", ["nowhere.sqlite3", "file:db.sqlite3?mode=rwc", "a\0b"])
def test_what_cannot_be_looked_at_is_not_known(tmp_path: Path, name: str) -> None:
    """Then each look asks the database."""
    assert state(tmp_path / name) is None
    assert identity(tmp_path / name) is None


def test_a_file_is_known_by_any_name(file: Path) -> None:
    """Whoever rings may call it otherwise."""
    link = file.with_name("link")
    link.symlink_to(file)
    assert identity(link) == identity(file) is not None
