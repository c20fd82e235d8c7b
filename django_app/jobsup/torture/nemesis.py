"""Hurts supervisors, workers and the database, as the plan says; it can reach nothing that was not made for it."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from django.db import DatabaseError, InterfaceError

from jobsup.torture import clock, processes, server
from jobsup.torture.plan import FAULTS, Strike
from jobsup.torture.posts import Post

COMMAND_MAX_S = 120.0
ANSWERS_MAX_S = 60.0
DAY_S = 86_400


class Struck(NamedTuple):
    """A fault that has struck.

    Args:
        kind: one of `FAULTS`, or the name of one of somebody's own.
        pid: the process that was hit; None if it was none.
        from_s, until_s: its time, by the monotonic clock.
    """

    kind: str
    pid: int | None
    from_s: float
    until_s: float


class Nemesis:
    """Strikes.

    Args:
        posts: the supervisors.
        commands: commands that hurt the database and have healed it when they end, by the names of their faults.
        clock_file: what sets the clock of one of the supervisors; see `jobsup.torture.clock`.
    """

    def __init__(self, posts: Sequence[Post], commands: Mapping[str, str], clock_file: Path) -> None:
        self._posts, self._commands, self._clock = posts, commands, clock_file
        self._sleepers: list[tuple[float, processes.Held]] = []
        self._stopped: list[tuple[float, Post, int]] = []
        self._lock: server.TableLock | None = None
        self._lock_until_s = 0.0
        self.struck: list[Struck] = []
        self._deeds: dict[str, Callable[[Strike], Struck | None]] = {
            "kill-worker": self._kill_worker,
            "freeze-worker": self._freeze_worker,
            "kill-supervisor": self._kill_supervisor,
            "freeze-supervisor": self._freeze_supervisor,
            "silence-supervisor": self._freeze_supervisor,
            "deploy": self._deploy,
            "reload": self._reload,
            "end-session": self._end_session,
            "lock-table": self._lock_table,
            "clock": self._set_clock,
        }

    def possible(self) -> list[str]:
        """Return the kinds of faults that can be had here, in a fixed order."""
        # Without a server there are no sessions, and the clock of the database is that of whoever asks it.
        impossible = () if server.has_sessions() else ("end-session", "clock")
        return [kind for kind in self._deeds if kind not in impossible] + list(self._commands)

    @property
    def is_locking(self) -> bool:
        """Whether the table of jobs is locked by us."""
        return self._lock is not None

    @property
    def is_holding(self) -> bool:
        """Whether anything is held up by us."""
        return bool(self._sleepers or self._stopped or self._lock)

    def strike(self, strike: Strike) -> bool:
        """Do one thing; tell whether there was somebody whom it could be done to."""
        deed = self._deeds.get(strike.kind, self._command)
        try:
            struck = deed(strike)
        except (DatabaseError, InterfaceError, ProcessLookupError):
            server.reconnect()
            return False
        if struck is not None:
            self.struck.append(struck)
        return struck is not None

    def heal(self, *, everything: bool = False) -> None:
        """Let go on what has been held up for long enough."""
        now_s = time.monotonic()
        for until_s, held in [*self._sleepers]:
            if everything or until_s <= now_s:
                self._sleepers.remove((until_s, held))
                held.send(signal.SIGCONT)
                held.let_go()
        for until_s, post, pid in [*self._stopped]:
            if everything or until_s <= now_s:
                self._stopped.remove((until_s, post, pid))
                if post.is_there and post.pid == pid:
                    post.send(signal.SIGCONT)
        if self._lock is not None and (everything or self._lock_until_s <= now_s):
            self._lock.release()
            self._lock = None

    # -- the deeds: each returns what it has done, None if there was nobody to do it to

    def _kill_worker(self, strike: Strike) -> Struck | None:
        held = self._worker(strike)
        if held is None:
            return None
        now_s = time.monotonic()
        held.send(signal.SIGKILL)
        held.let_go()
        return Struck(strike.kind, held.pid, now_s, now_s)

    def _freeze_worker(self, strike: Strike) -> Struck | None:
        held = self._worker(strike)
        if held is None:
            return None
        now_s = time.monotonic()
        held.send(signal.SIGSTOP)
        self._sleepers.append((now_s + strike.for_s, held))
        return Struck(strike.kind, held.pid, now_s, now_s + strike.for_s)

    def _kill_supervisor(self, strike: Strike) -> Struck | None:
        post = self._post(strike)
        if not post.is_up:
            return None
        now_s, pid = time.monotonic(), post.pid
        post.send(signal.SIGKILL)
        return Struck(strike.kind, pid, now_s, now_s)

    def _freeze_supervisor(self, strike: Strike) -> Struck | None:
        post = self._post(strike)
        if not post.is_up or any(stopped is post for _, stopped, _ in self._stopped):
            return None
        now_s = time.monotonic()
        post.send(signal.SIGSTOP)
        self._stopped.append((now_s + strike.for_s, post, post.pid))
        return Struck(strike.kind, post.pid, now_s, now_s + strike.for_s)

    def _deploy(self, strike: Strike) -> Struck | None:
        return self._signal(strike, signal.SIGTERM)

    def _reload(self, strike: Strike) -> Struck | None:
        return self._signal(strike, signal.SIGHUP)

    def _end_session(self, strike: Strike) -> Struck | None:
        sessions = server.sessions()
        if not sessions:
            return None
        now_s = time.monotonic()
        server.end_session(sessions[int(strike.whom * len(sessions))])
        return Struck(strike.kind, None, now_s, now_s)

    def _lock_table(self, strike: Strike) -> Struck | None:
        if self._lock is not None:
            return None
        now_s = time.monotonic()
        self._lock, self._lock_until_s = server.TableLock(), now_s + strike.for_s
        self._lock.take()
        return Struck(strike.kind, None, now_s, self._lock_until_s)

    def _set_clock(self, strike: Strike) -> Struck:
        clock.set_by(self._clock, strike.by * DAY_S)
        now_s = time.monotonic()
        return Struck(strike.kind, None, now_s, now_s)

    def _command(self, strike: Strike) -> Struck | None:
        """Run a command and wait until the database answers again."""
        from_s = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                ["/bin/sh", "-c", self._commands[strike.kind]],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=COMMAND_MAX_S,
            )
            if done.returncode:
                words = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
                raise CannotStrikeError(f"{shlex.quote(self._commands[strike.kind])} failed: {words}")
        server.reconnect()
        server.wait_for_answer(ANSWERS_MAX_S)
        return Struck(strike.kind, None, from_s, time.monotonic())

    def _signal(self, strike: Strike, number: signal.Signals) -> Struck | None:
        post = self._post(strike)
        if not post.is_up or any(stopped is post for _, stopped, _ in self._stopped):
            return None
        now_s = time.monotonic()
        post.send(number)
        return Struck(strike.kind, post.pid, now_s, now_s)

    def _post(self, strike: Strike) -> Post:
        return self._posts[int(strike.whom * len(self._posts))]

    def _worker(self, strike: Strike) -> processes.Held | None:
        """Return a worker that is past its boot: one that dies in it is waited with before the next try."""
        found = [(pid, post.pid) for post in self._posts if post.is_there for pid in processes.workers(post.pid)]
        frozen = {held.pid for _, held in self._sleepers}
        found = [(pid, parent) for pid, parent in found if pid not in frozen and processes.is_up(pid)]
        if not found:
            return None
        pid, parent = found[int(strike.whom * len(found))]
        return processes.Held(pid, parent)


class CannotStrikeError(Exception):
    """A command that was given for a fault does not work, or no fault can be had."""


def unknown(kinds: Sequence[str], commands: Mapping[str, str]) -> list[str]:
    """Return which of some names are those of no fault."""
    return [kind for kind in kinds if kind not in FAULTS and kind not in commands]
