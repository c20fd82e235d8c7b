"""Supervisors and those who see that they are there: what systemd does with `Restart=always`, without a delay."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jobsup.torture import processes
from jobsup.torture.plan import GRACE_S

STOP_WITHIN_S = GRACE_S + 30.0
HOPELESS = 5
"""So many ends in a row without ever having had a worker: it cannot start here."""


class CannotStartError(Exception):
    """A supervisor ends again and again before it has workers; says its last words."""


class End(NamedTuple):
    """How a supervisor ended.

    Args:
        pid: its process.
        code: its exit code; None if it had to be killed.
        at_s: when, by the monotonic clock.
    """

    pid: int
    code: int | None
    at_s: float


class Post:
    """The place of one supervisor: there is always one, whatever happens to it.

    Args:
        number: 1, 2, ...
        directory: where its log is.
        environment: what is added to that of this process.
    """

    def __init__(self, number: int, directory: Path, environment: Mapping[str, str]) -> None:
        self.name = f"torture-{number}"
        self.log = directory / f"{self.name}.log"
        self.ends: list[End] = []
        self.pids: list[int] = []
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._in_vain = 0
        self._was_up = False
        self._stopped = False

    @property
    def pid(self) -> int:
        """The supervisor's process."""
        return self.pids[-1]

    @property
    def is_there(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_up(self) -> bool:
        """Whether it has a worker that is past its boot, and so has its signals in hand and jobs to lose."""
        up = self.is_there and any(processes.is_up(pid) for pid in processes.workers(self.pid))
        self._was_up |= up
        return up

    def start(self) -> None:
        """Start a supervisor, in a process group of its own: Ctrl-C is not meant for it."""
        program = ["-m", "django", "jobsupervisor", "--name", self.name]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                processes.tied(program, signal.SIGKILL),  # one that is stopped would not heed TERM
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._was_up = False
        self.pids.append(self._process.pid)

    def ensure(self) -> None:
        """Start another one where it has ended.

        Raises:
            CannotStartError: it ended too often without having come up.
        """
        if self._process is None or self._stopped or (code := self._process.poll()) is None:
            return
        self.ends.append(End(self.pid, code, time.monotonic()))
        self._in_vain = 0 if self._was_up or code < 0 else self._in_vain + 1
        if self._in_vain >= HOPELESS:
            raise CannotStartError(f"{self.name} ends with exit code {code} before it has workers: {self.last_words()}")
        self.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """Have it drain for good."""
        self._stopped = True
        if self._process is None:
            return
        self.send(signal.SIGCONT)
        deadline = time.monotonic() + STOP_WITHIN_S
        while self._process.poll() is None and not processes.workers(self.pid) and time.monotonic() < deadline:
            time.sleep(0.02)  # TERM ends one that has not come up like any other program
        self.send(signal.SIGTERM)
        try:
            code: int | None = self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        self.ends.append(End(self.pid, code, time.monotonic()))

    def last_words(self) -> str:
        """Return the last line of its log."""
        return (self.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
