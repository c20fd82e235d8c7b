"""A worker that leaves does what was registered for its end, and loses nothing that is buffered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.jobs import assert_once
from tests.testapp import leaving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database


def test_what_was_registered_for_the_end_of_the_process_is_done(database: Database, tmp_path: Path) -> None:
    """Also when a part of it fails; the process ends with code 0 and the drain is clean."""
    job = leaving.at_exit.enqueue(str(tmp_path))
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(60) == 0
        log = supervisor.log()
    assert_once(job)
    assert (tmp_path / "done").exists()
    assert "kept until the end" in (tmp_path / "log").read_text()
    assert "ZeroDivisionError" in log, "what fails there is told"
    assert "half a line" in log
    assert "was killed" not in log
