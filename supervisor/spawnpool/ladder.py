"""How workers leave: asked to, by themselves, or by the ladder of signals. Pure; part of the machine."""

from __future__ import annotations

import logging
from collections.abc import Callable

from spawnpool import events as e
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.states import Ended, WorkerState

UNKILLABLE_S = 5.0
"""How long after SIGKILL it is told that a process does not die: it is in uninterruptible sleep (state D of ps)."""


class Ladder:
    """The workers, as far as their ends go.

    Args:
        limits: the numbers that bound the pools.
        do: takes the actions.
    """

    def __init__(self, limits: Limits, do: Callable[[e.Action], None]) -> None:
        self.limits = limits
        self.members: dict[int, Member] = {}
        self.stopping = False
        self.fenced = False
        """Nothing may be begun, here or anywhere in this supervisor's name."""
        self._do = do

    def all(self) -> list[Member]:
        """Return every worker process that is not known to be dead."""
        return list(self.members.values())

    def retire(self, member: Member, now: float) -> None:
        """Let a worker finish what it started, give its other keys to somebody else, and leave."""
        self.take_back(member, now)
        if member.serving:
            member.state = WorkerState.LEAVING
            if member.running() is None:
                member.deadline = now + self.limits.leave_s
            self._do(e.Stop(member.wid))

    def spoiled(self, member: Member, why: str, now: float) -> None:
        """Note that a worker leaves by itself: what a job left behind in it must not reach the next one."""
        self._say(logging.WARNING, f"is replaced: {why}", member.wid)
        self.take_back(member, now)
        if member.serving:
            member.state = WorkerState.LEAVING
            member.deadline = now + self.limits.leave_s

    def take_back(self, member: Member, now: float) -> None:
        """Ask back what a worker has not begun."""
        if member.unstarted and not member.recalled:
            self._do(e.TakeBack(member.wid, member.ask_back(now)))

    def expel(self, member: Member, ended: Ended, why: str, now: float) -> None:
        """End a worker for what it, or its job, did or did not do."""
        if member.state is not WorkerState.ENDING:
            member.ended = Ended.STOPPED if self.stopping and not ended.by_a_limit else ended
            member.why, member.ended_for = why, member.running()
            if not member.was_ready:
                member.farewell = member.farewell or why
            self._say(logging.WARNING, f"is ended: {why}", member.wid)
            self.end(member, now)

    def end(self, member: Member, now: float) -> None:
        """Step on the ladder: SIGABRT, so that it says where it is, then SIGKILL; nobody asks that of one in vain."""
        silent = member.state is WorkerState.BOOTING and self.stopping
        member.state = WorkerState.ENDING
        if silent:
            self._kill(member, now)
        else:
            member.deadline = now + self.limits.abort_grace_s
            self._do(e.Abort(member.wid))

    def shut(self, why: str, now: float, patience_s: float) -> None:
        """End every worker and spawn none as long as it is `fenced`.

        Args:
            why: in words.
            now: the time.
            patience_s: how long they have between SIGABRT and SIGKILL at most.
        """
        self.fenced = True
        for member in self.all():
            if member.killed:
                continue
            booting, going = member.state is WorkerState.BOOTING, member.state is WorkerState.ENDING
            if not going:
                member.ended, member.why, member.ended_for = Ended.FENCED, why, member.running()
                member.state = WorkerState.ENDING
            if booting or patience_s <= 0:
                self._kill(member, now)
                continue
            kill_at = now + min(self.limits.abort_grace_s, patience_s)
            member.deadline = kill_at if member.deadline is None or not going else min(member.deadline, kill_at)
            if not going:
                self._do(e.Abort(member.wid))

    def _kill(self, member: Member, now: float) -> None:
        member.killed, member.deadline = True, now + UNKILLABLE_S
        self._do(e.Kill(member.wid))

    def keep_deadlines(self, now: float) -> None:
        """End workers that have been in one state for too long."""
        for member in self.all():
            if member.state is WorkerState.LEAVING and member.deadline is None and member.running() is None:
                member.deadline = now + self.limits.leave_s  # its last job is over: nothing keeps it any more
            if (silent_at := member.silent_at(self.limits.silence_max_s)) is not None and now >= silent_at:
                if member.doubted:
                    silence = f"it said nothing for {now - member.heard_at:.0f} s, and it runs no job"
                    self.expel(member, Ended.EXPELLED, silence, now)
                member.doubted_at = now
            if member.deadline is None or now < member.deadline:
                continue
            if member.state is WorkerState.BOOTING:
                self.expel(member, Ended.EXPELLED, f"not ready after {self.limits.boot_timeout_s:g} s", now)
            elif member.state is WorkerState.LEAVING:
                self.expel(member, Ended.EXPELLED, "it did not leave when it was asked to", now)
            elif member.killed:
                member.deadline = now + UNKILLABLE_S
                stuck = "was sent SIGKILL and is not dead: it waits for a disk or a network"
                self._say(logging.ERROR, stuck, member.wid)
            else:
                self._kill(member, now)

    def _say(self, level: int, text: str, wid: int | None = None) -> None:
        self._do(e.Say(level, text, wid))
