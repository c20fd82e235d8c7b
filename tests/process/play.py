"""A list pool to play with: starts `program`, feeds it, watches it and ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.process.listpool import entries_of
from tests.support import ROOT, environment, eventually, is_alive, kill, processes_of, title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK = {
    "workers": 2, "grace_s": 10.0, "boot_timeout_s": 20.0, "check_interval_s": 0.5, "poll_interval_s": 0.2,
    "beat_interval_s": 1.0, "abort_grace_s": 0.5,
}  # fmt: skip


def children_of(pid: int) -> list[int]:
    """Return the children of a process: from the kernel's own list where it keeps one, which is much faster."""
    try:
        listed = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text()
    except OSError:
        return processes_of(pid)
    return [child for child in map(int, listed.split()) if is_alive(child)]


class Pool:
    """One run of the program; `close` ends whatever is left of it.

    Args:
        directory: where its files are.
        keys: what is in the list at first.
        boot: what `boot.json` says.
        twists: what `program.main` does before it runs the supervisor.
        program: another command than the program itself.
        in_thread: run the supervisor in a helper thread.
        down: begin without the source.
        bounds: what every key may use.
        pools: the pools, as arguments of `spawnpool.pools.Pool`.
        limits: other limits than `QUICK`.
    """

    def __init__(
        self,
        directory: Path,
        keys: Sequence[int] = (),
        *,
        boot: dict[str, Any] | None = None,
        twists: dict[str, Any] | None = None,
        program: Sequence[str] = ("-m", "tests.process.program"),
        in_thread: bool = False,
        down: bool = False,
        bounds: dict[str, float] | None = None,
        pools: Sequence[dict[str, Any]] = (),
        **limits: float,
    ) -> None:
        self.directory = directory
        directory.mkdir()
        os.mkfifo(directory / "inbox")
        config = {
            "keys": list(keys),
            "limits": QUICK | limits,
            "twists": twists or {},
            "in_thread": in_thread,
            "pools": list(pools),
        }
        (directory / "config.json").write_text(json.dumps(config))
        if boot is not None:
            self.code(**boot)
        if down:
            self.take_source_away()
        if bounds is not None:
            (directory / "bounds.json").write_text(json.dumps(bounds))
        self._log = (directory / "log").open("wb")
        self._inbox = os.open(directory / "inbox", os.O_RDWR | os.O_NONBLOCK)
        self.process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env=environment({"LISTPOOL_DIR": str(directory)}),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            process_group=0,
        )
        self.pid = self.process.pid

    # ---- doing things to it

    def add(self, *keys: int) -> None:
        """Put keys into the list."""
        os.write(self._inbox, b"".join(b"%d\n" % pk for pk in keys))

    def code(self, **boot: Any) -> None:
        """Deploy other code: what workers boot with from now on."""
        new = self.directory / "boot.json.new"
        new.write_text(json.dumps(boot))
        new.rename(self.directory / "boot.json")

    def cancel(self, *keys: int) -> None:
        """Cancel keys."""
        new = self.directory / "cancelled.new"
        new.write_text("\n".join(map(str, keys)))
        new.rename(self.directory / "cancelled")

    def pause(self, *feeds: str) -> None:
        """Pause feeds, and wake the supervisor; none: let all go on."""
        new = self.directory / "paused.new"
        new.write_text(" ".join(feeds))
        new.rename(self.directory / "paused")
        os.write(self._inbox, b"\n")

    def take_source_away(self) -> None:
        """Make the source unavailable."""
        (self.directory / "down").touch()

    def bring_source_back(self) -> None:
        """Make the source available."""
        (self.directory / "down").unlink()

    def signal(self, *numbers: signal.Signals) -> None:
        """Send signals to the supervisor alone."""
        for number in numbers:
            self.process.send_signal(number)

    def stop(self, expect: int = 0, timeout_s: float = 20) -> None:
        """Ask it to stop and check how it ended."""
        self.signal(signal.SIGTERM)
        assert self.wait(timeout_s) == expect, self.picture()

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s} s\n{self.picture()}") from None

    def close(self) -> None:
        """End what is left, the supervisor first."""
        if self.process.poll() is None:
            family = processes_of(self.pid)
            self.process.kill()
            self.process.wait()
            kill(family)
        self._log.close()
        os.close(self._inbox)

    # ---- looking at it

    def workers(self) -> list[int]:
        """Return the pids of the workers, the oldest first."""
        return [pid for pid in sorted(children_of(self.pid)) if title_of(pid).startswith("listpool: worker")]

    def idle(self) -> list[int]:
        """Return the pids of the workers that wait for work."""
        return [pid for pid in self.workers() if title_of(pid).endswith("idle")]

    def events(self, what: str) -> list[list[Any]]:
        """Return the details of every line of the journal that tells of one thing."""
        return [entry[3:] for entry in self.journal() if entry[0] == what]

    def journal(self) -> list[list[Any]]:
        """Return the whole journal: what, pid, time, details."""
        return entries_of(self.directory / "journal")

    def events_with_pid(self, what: str) -> list[list[Any]]:
        """Return the lines of the journal that tell of one thing, whole."""
        return [entry for entry in self.journal() if entry[0] == what]

    def done(self) -> list[int]:
        """Return the keys whose outcome was recorded, as often as it was."""
        return [pk for (pk,) in self.events("done")]

    def starts(self, pk: int) -> int:
        """Return how often a key was begun."""
        return self.events("start").count([pk])

    def fates(self, pk: int) -> list[str]:
        """Return what became of a key each time its worker ended."""
        return [loss[-1] for loss in self.events("lost") if loss[0] == pk]

    def account(self, pk: int) -> str:
        """Wait until a key's worker has ended and return the account of that."""
        accounts = lambda: [words for lost, words in self.events("account") if lost == pk]  # noqa: E731
        return str(eventually(accounts, 60, f"the account of {pk}", self.picture)[0])

    def log(self) -> str:
        """Return all that it and its workers have written."""
        return (self.directory / "log").read_text(errors="replace")

    def picture(self) -> str:
        """Return its processes, journal and log, for a failing test."""
        family = [f"{pid} {title_of(pid)}" for pid in (self.pid, *processes_of(self.pid))]
        journal = [str(entry) for entry in self.journal()][-60:]
        parts = [
            f"-- exit code: {self.process.poll()}; processes:",
            *family,
            "-- journal:",
            *journal,
            "-- log:",
            self.log(),
        ]
        return "\n".join(parts)

    # ---- waiting for facts

    def ready(self, workers: int = 2) -> Self:
        """Wait until so many workers wait for work."""
        eventually(lambda: len(self.idle()) == workers, 20, f"{workers} idle workers", self.picture)
        return self

    def ready_to_work(self) -> Self:
        """Wait until every worker is on duty, busy or not."""
        return self.wait_log("on duty")

    def wait_started(self, *pks: int) -> Self:
        """Wait until keys were begun."""
        eventually(lambda: all(map(self.starts, pks)), 20, f"the start of {pks}", self.picture)
        return self

    def wait_done(self, *pks: int, timeout_s: float = 20) -> Self:
        """Wait until the outcome of keys is recorded."""
        eventually(lambda: {*pks} <= {*self.done()}, timeout_s, f"the end of {pks}", self.picture)
        return self

    def wait_log(self, text: str, timeout_s: float = 20, *, count: int = 1) -> Self:
        """Wait until a text stands in the log so many times."""
        eventually(lambda: self.log().count(text) >= count, timeout_s, f"{text!r} in the log", self.picture)
        return self

    def wait_replaced(self, *old: int, workers: int = 2, timeout_s: float = 20) -> Self:
        """Wait until none of the old workers is there and so many others wait for work."""
        fresh = lambda: not {*old} & {*self.workers()} and len(self.idle()) == workers  # noqa: E731
        eventually(fresh, timeout_s, f"{workers} workers in place of {old}", self.picture)
        return self
