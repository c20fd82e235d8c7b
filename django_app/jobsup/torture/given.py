"""What the command gives to the processes that it starts, in one variable of their environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

VARIABLE = "JOBSUP_TORTURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Where everything is.

    Args:
        settings: the project's settings module.
        alias: which of its databases is taken after.
        database: the name of the database that is used instead, or its file.
        directory: for run files, logs and the witness.
        workers: of each supervisor.
    """

    settings: str
    alias: str
    database: str
    directory: str
    workers: int

    @property
    def witness(self) -> Path:
        """The file in which the jobs write down that they run."""
        return Path(self.directory) / "witness"

    def environment(self) -> dict[str, str]:
        """Return what is added to the environment of a child."""
        return {VARIABLE: json.dumps(asdict(self)), "DJANGO_SETTINGS_MODULE": "jobsup.torture.settings"}

    @classmethod
    def load(cls) -> Self:
        """Return what was given to this process.

        Raises:
            RuntimeError: it was not started by the command.
        """
        if VARIABLE not in os.environ:
            raise RuntimeError("these settings are for the processes of `manage.py jobs torture` alone")
        fields: dict[str, Any] = json.loads(os.environ[VARIABLE])
        return cls(**fields)
