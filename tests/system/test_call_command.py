"""Management commands as jobs of a real supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobsup.tasks import call_command
from tests.system.jobs import assert_nobody_owns_anything

if TYPE_CHECKING:
    from tests.databases import Database


def test_g_commands_run_as_jobs(database: Database) -> None:
    """Their output is kept with the job, that of a failure with its error; the next one finds a worker as new."""
    well = call_command.enqueue("speak", "--times", "2")
    bad = call_command.enqueue("speak", end="exit")
    django = call_command.enqueue("check", verbosity=0)
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(60) == 0
    for result in (well, bad, django):
        result.refresh()
    assert well.return_value == "word\nword\nand on stderr\n"
    assert bad.errors[0].traceback.strip().endswith("speak wrote:\nword\nand on stderr")
    assert "no issues" in django.return_value
    assert_nobody_owns_anything()
