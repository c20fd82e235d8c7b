"""A child process of the demo: started apart from the terminal, read without blocking, ended without remains."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

PR_SET_PDEATHSIG = 1
LAST_LINES = 15
MANAGE = Path(__file__).resolve().parent.parent / "manage.py"


def die_with_parent() -> None:
    """Have the kernel send TERM to this process when the demo itself is killed (Linux; elsewhere it does nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One `manage.py` command in a session of its own, so that Ctrl-C in the terminal does not reach it."""

    def __init__(self, name: str, *arguments: str, log: Path | None = None) -> None:
        """Start it; what it says goes to `log`, or else waits for `lines`."""
        self.name = name
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._log = log
        self._rest = b""
        command = [sys.executable, str(MANAGE), *arguments]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(log.open("wb")) if log else subprocess.PIPE
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - the demo has no threads
            )
        if self.process.stdout:
            os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def ended(self) -> bool:
        """Return whether it is no longer there."""
        return self.process.poll() is not None

    def lines(self, wait_s: float = 0.0) -> list[str]:
        """Return the whole lines that have come, after waiting for the first one up to `wait_s`."""
        out = self.process.stdout
        if out is None or not select.select([out], [], [], wait_s)[0]:
            return []
        got = out.read()
        if not got:
            time.sleep(wait_s)
            return []
        *whole, self._rest = (self._rest + got).split(b"\n")
        lines = [line.decode(errors="replace").rstrip() for line in whole]
        self.last.extend(lines)
        return lines

    def last_words(self) -> str:
        """Return the last lines it said."""
        if self._log:
            self.last.extend(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        return "\n".join(self.last)

    def in_words(self) -> str:
        """Return how it ended."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def left_behind(self) -> list[int]:
        """Return the processes of its session that are still there (Linux; elsewhere none are seen)."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(stat.parent.name))
        return sorted(found)

    def clear(self) -> None:
        """Kill what is left of its session."""
        for pid in self.left_behind():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
