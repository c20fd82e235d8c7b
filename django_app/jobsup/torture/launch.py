"""Starts the torture as a process of its own on settings of its own, and waits for what comes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import CommandError

from jobsup.torture.arena import VERDICT
from jobsup.torture.given import Given
from jobsup.torture.plan import Plan
from jobsup.torture.processes import tied
from jobsup.torture.scratch import Scratch


def torture(plan: Plan, scratch: Scratch, directory: Path, commands: Mapping[str, str], *, quiet: bool) -> Any:
    """Do it; return what came of it, see `jobsup.torture.arena`.

    Args:
        plan: what is to happen.
        scratch: the database.
        directory: for run files, logs and the witness.
        commands: of faults that were given.
        quiet: whether nothing is said of how far it has come.

    Raises:
        CommandError: nothing came of it.
    """
    given = Given(
        settings=os.environ["DJANGO_SETTINGS_MODULE"],
        alias=scratch.alias,
        database=scratch.name,
        directory=str(directory),
        workers=plan.workers,
    )
    wanted = json.dumps({"plan": asdict(plan), "commands": dict(commands)})
    with _asked_to_end() as children:
        child = subprocess.Popen(
            tied(["-m", "jobsup.torture.arena", wanted], signal.SIGTERM),
            env={**os.environ, **given.environment(), "PYTHONPATH": os.pathsep.join(filter(None, _path()))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if quiet else None,
        )
        children.append(child)
        code = _wait(child)
    file = directory / VERDICT
    result = json.loads(file.read_text()) if file.exists() else {}
    if "impossible" in result:
        raise CommandError(result["impossible"])
    if not result:
        raise CommandError(f"the torture ended with exit code {code} before there was a verdict")
    return result


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the end; Ctrl-C goes to the child as well, which then says what it has seen so far."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


@contextmanager
def _asked_to_end() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Pass TERM on to a child, as Ctrl-C is by the terminal."""
    children: list[subprocess.Popen[bytes]] = []

    def passed_on(_number: int, _frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, passed_on)
    try:
        yield children
    finally:
        signal.signal(signal.SIGTERM, before)


def _path() -> list[str]:
    """Return where this process finds modules: `manage.py` has put its own folder there."""
    return [str(Path(entry).resolve()) for entry in sys.path] + [os.environ.get("PYTHONPATH", "")]
