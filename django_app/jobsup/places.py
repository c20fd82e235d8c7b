"""Where the files of a supervisor stand."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from django.db import connections

from jobsup import homes
from jobsup.conf import Conf


def run_path(settings: Conf) -> Path:
    """Return where the run file of a supervisor stands: one per user, database that is served and name."""
    database = connections[homes.here()].settings_dict
    place = [str(database.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME")]
    digest = hashlib.sha256("\0".join(place).encode()).hexdigest()[:8]
    folder = settings.run_dir or os.environ.get("RUNTIME_DIRECTORY")
    base = Path(folder) if folder else Path(tempfile.gettempdir()) / f"jobsup-{os.getuid()}"
    return base / f"{settings.name}-{digest}.run"


def begun_path(runfile: Path, run: int | str) -> Path:
    """Return where the file of what has begun stands, of a run with that run file; "*" for all of them."""
    return runfile.with_suffix(f".begun-{run}")
