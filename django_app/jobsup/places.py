"""Where the files of a supervisor stand."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from django.db import connections, router

from jobsup.conf import Conf
from jobsup.models import Job


def run_path(settings: Conf) -> Path:
    """Return where the run file of a supervisor stands: one per user, project database and name."""
    database = connections[router.db_for_write(Job)].settings_dict
    place = [str(database.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME")]
    digest = hashlib.sha256("\0".join(place).encode()).hexdigest()[:8]
    folder = settings.run_dir or os.environ.get("RUNTIME_DIRECTORY")
    base = Path(folder) if folder else Path(tempfile.gettempdir()) / f"jobsup-{os.getuid()}"
    return base / f"{settings.name}-{digest}.run"
