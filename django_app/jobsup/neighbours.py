"""The supervisors of this host, as they tell of themselves over their control sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jobsup import control
from jobsup.conf import Conf
from jobsup.places import run_path
from spawnpool import client

ASK_S = 1.0
"""How long one may take to answer: its loop can be held up by its database."""


def status_of(settings: Conf, name: str) -> Mapping[str, Any] | None:
    """Return the state of a supervisor, as `jobsupervisor status --json` has it; None if it cannot be asked.

    Args:
        settings: the setting JOBSUP.
        name: of the supervisor.
    """
    own = run_path(replace(settings, name=name))
    places = [own, *([] if settings.run_dir else sorted(control.SERVICES.glob(f"jobsup*/{own.name}")))]
    for path in places:
        try:
            answer = client.ask(path, "status", wait=False, timeout_s=ASK_S)
        except client.AskingFailed:
            continue
        status: Mapping[str, Any] | None = answer.get("status")
        return status
    return None
