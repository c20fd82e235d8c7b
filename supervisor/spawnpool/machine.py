r"""The decisions of a supervisor: `step(event, now) -> actions`.

No clock, process, descriptor or database in here; `now` is any monotonic time in seconds. The shell in
`supervisor.py` performs the actions in order and brings their answers back as events.

    STARTING --first worker READY--> RUNNING <--HUP / all new or refused--> RELOADING
        \______________________________|______________________________________/
                                       | TERM, INT, or nothing left
                                    DRAINING --grace over, QUIT, second INT--> KILLING
                                       \____________ no worker left ___________/--> STOPPED

Every key that comes in by `Claimed` goes out exactly once: settled by a worker, by `Release` or by `Lose`.
`Roster` decides about workers, `Distribution` about keys that wait, `Oversight` about keys that run; here they meet,
with the intervals and the stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from spawnpool import events as e
from spawnpool.bounds import Bounds
from spawnpool.deaths import loss_of
from spawnpool.distribution import Distribution
from spawnpool.drain import DrainReport
from spawnpool.errors import BrokenReport
from spawnpool.fence import Fence, Standing
from spawnpool.limits import RELOADABLE, Limits
from spawnpool.member import Member
from spawnpool.oversight import Oversight
from spawnpool.pools import Pool
from spawnpool.reports import Kind, Report
from spawnpool.roster import Roster
from spawnpool.states import Ended, ExitCode, StopReason, SupervisorState, WorkerState


class Machine:
    """The state of one supervisor.

    Args:
        limits: the numbers that bound the pools.
        now: the time at which it begins.
        fixed: names of limits that a reload must not change, since the command line gave them; also "feeds", for
            those of the only pool.
        pools: the pools; one of as many workers as the limits say if none are given.
        source: what the source is called in sentences.
    """

    def __init__(
        self,
        limits: Limits,
        now: float,
        fixed: frozenset[str] = frozenset(),
        pools: Sequence[Pool] = (),
        source: str = "the source",
    ) -> None:
        self.state = SupervisorState.STARTING
        self.reason = StopReason.NONE
        self.quiet = False
        self.settled = 0  # keys, in all
        self._report = DrainReport()
        self._actions: list[e.Action] = []
        self._roster = Roster(limits, fixed, self._do, pools)
        self._work = Distribution(self._roster.pools, limits, now, self._do)
        self._oversight = Oversight(limits, self._do, self._roster.expel)
        self._fence = Fence(limits.lease_s, self._roster, self._do, source)
        self._stop_by: float | None = None
        self._check_at = now + limits.check_interval_s
        self._beat_at = now
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            e.Tick: lambda event, now: None,
            e.Reported: self._reported,
            e.SpawnFailed: lambda event, now: self._died(e.Died(event.wid, 0, None, event.words), now),
            e.Died: self._died,
            e.Babbled: self._babbled,
            e.StopAsked: self._stop_asked,
            e.QuietAsked: self._quiet_asked,
            e.ReloadAsked: self._reload_asked,
            e.ResizeAsked: self._resize_asked,
            e.Woken: lambda event, now: self._work.look_again(now),
            e.Claimed: self._claimed,
            e.SourceBack: lambda event, now: self._roster.source_back(now),
            e.Crowded: lambda event, now: self._roster.make_room(event.why, now),
            e.ClaimFailed: lambda event, now: self._work.claim_failed(now + event.retry_in_s),
            e.TakenBack: self._taken_back,
            e.FoundEmpty: self._found_empty,
            e.Measured: self._measured,
            e.Heard: self._heard,
            e.CancelAsked: self._cancel_asked,
            e.PauseAsked: self._pause_asked,
            e.RunLost: self._run_lost,
            **self._fence.handlers(),
        }

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._roster.limits

    @property
    def pools(self) -> Sequence[Pool]:
        """The pools in force."""
        return self._roster.pools

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many workers are wanted in each pool."""
        return self._roster.places.sizes

    @property
    def wanted(self) -> int:
        """How many workers are wanted in all."""
        return self._roster.wanted

    def is_wanted(self, number: int) -> bool:
        """Tell whether a worker of that number is wanted."""
        return self._roster.places.is_wanted(number)

    @property
    def degraded(self) -> str:
        """Why there are not as many workers as are wanted, or not for long; "" while all is well."""
        return "; ".join(filter(None, (self._fence.trouble, self._roster.degraded or self._roster.boot_trouble)))

    @property
    def reloading(self) -> bool:
        """Whether workers on new code are taking over."""
        return self._roster.reloading

    @property
    def manned(self) -> bool:
        """Whether as many workers as are wanted are on duty."""
        return sum(member.serving for member in self.members.values()) >= self.wanted

    @property
    def members(self) -> dict[int, Member]:
        """The worker processes that are not known to be dead, by wid."""
        return self._roster.members

    @property
    def spare(self) -> list[int]:
        """The keys that are claimed and on no lane."""
        return self._work.spare

    def step(self, event: e.Event, now: float) -> list[e.Action]:
        """Take in one event and return what to do, in order."""
        self._actions.clear()
        if self.state is not SupervisorState.STOPPED:
            self._handlers[type(event)](event, now)
            self._advance(now)
        return list(self._actions)

    def next_deadline(self) -> float | None:
        """Return the time at which a `Tick` is needed, None if nothing is awaited."""
        if self.state is SupervisorState.STOPPED:
            return None
        times = [self._check_at, self._beat_at, *self._roster.deadlines(), *self._fence.deadlines(self.reason)]
        times += self._oversight.deadlines(self._roster.all())
        if self._takes_work:
            times += self._work.deadlines(self._roster.all())
        if self._stop_by is not None:
            times.append(self._stop_by)
        return min(times)

    def holding(self) -> set[int]:
        """Return every key that is in our possession."""
        return set(self.spare).union(*(member.window for member in self.members.values()))

    def unhurried(self, seconds: float) -> bool:
        """Tell whether every serving worker has so much before it, or nothing to do, that reports can wait so long."""
        members = self._roster.all()
        return any(member.window for member in members) and self._work.can_wait(members, seconds)

    # ---- events

    def _reported(self, event: e.Reported, now: float) -> None:
        member = self.members.get(event.wid)
        if member is None:
            return
        try:
            for report in event.reports:
                # Its fate may be decided, but what became of its keys is still worth knowing.
                if member.state is not WorkerState.ENDING or report.kind in (Kind.STARTED, Kind.RETURNED, Kind.SETTLED):
                    self._take_report(member, report, now)
        except (BrokenReport, IndexError, ValueError) as error:
            self._roster.expel(member, Ended.EXPELLED, str(error), now)

    def _take_report(self, member: Member, report: Report, now: float) -> None:
        kind, key, amount, text = report
        member.heard_at = now
        match kind:
            case Kind.STARTED:
                member.begin(key, now, amount / 1e6)
                self._oversight.began(member, key, now)
            case Kind.RETURNED:
                member.returned = True
            case Kind.SETTLED:
                self._settled(member, member.settle(key, now), amount / 1e6, now)
            case Kind.EMPTIED:
                member.recalled, member.epoch = False, amount
            case Kind.ALIVE if amount:
                member.idles(key)
            case Kind.BOUNDS:
                member.bounds = Bounds.decode(text)
            case Kind.LIMIT:
                member.limits[RELOADABLE[amount]] = key / 1000
            case Kind.POOLS:
                member.pools += text
            case _:
                self._take_turn(member, kind, text, now)

    def _take_turn(self, member: Member, kind: int, text: str, now: float) -> None:
        """Take in a report with which a worker's state changes."""
        match kind:
            case Kind.READY:
                self._roster.ready(member, now)
                if self.state is SupervisorState.STARTING:
                    self.state = SupervisorState.RUNNING
            case Kind.FAILED:
                member.farewell = text
            case Kind.FLAW:
                self._roster.flawed(member, text, now)
            case Kind.SPOILED:
                self._roster.spoiled(member, text, now)
            case Kind.BYE:
                member.state, member.deadline = WorkerState.LEAVING, now + self.limits.abort_grace_s

    def _settled(self, member: Member, pks: list[int], busy_s: float, now: float) -> None:
        self.settled += len(pks)
        self._oversight.gone(pks)
        if self.reason is not StopReason.NONE:
            self._report.finished += pks
        self._work.settled(member, pks, busy_s, self._roster.all(), now)

    def _died(self, event: e.Died, now: float) -> None:
        member = self.members.pop(event.wid, None)
        if member is None:
            return
        begun, unbegun = member.split_at_death(event.unstarted)
        self._work.put_back(member, unbegun)
        if begun:
            running = None if member.returned else begun[-1]
            ran_s = now - member.started_at if len(begun) == member.started else 0.0  # else its start was not told
            pool = self._roster.label(member.pool)
            losses = [loss_of(member, event, pk, ran_s if pk == running else None, pool) for pk in begun]
            self._do(e.Lose(member.wid, losses))
            self._oversight.gone(begun)
            self._work.gone(begun, now)
            if self.reason is not StopReason.NONE:
                self._report.cut_short += [(loss.pk, loss.ran_s) for loss in losses]
        self._roster.died(member, event, now, told=bool(begun))

    def _run_lost(self, event: e.RunLost, now: float) -> None:
        """Let go of everything: it is somebody else's."""
        self._fence.lost(now)
        gone = self.holding()
        self._work.drop(gone, now)
        self._oversight.gone(gone)
        for member in self._roster.all():
            member.forget(gone)

    def _babbled(self, event: e.Babbled, now: float) -> None:
        if member := self.members.get(event.wid):
            self._roster.expel(member, Ended.EXPELLED, event.words, now)

    def _measured(self, event: e.Measured, now: float) -> None:
        if member := self.members.get(event.wid):
            self._oversight.measured(member, event.rss_bytes, now)

    def _heard(self, event: e.Heard, now: float) -> None:
        if member := self.members.get(event.wid):
            member.heard_out = member.listening

    def _cancel_asked(self, event: e.CancelAsked, now: float) -> None:
        members = self._roster.all()
        news = self._oversight.cancel(event.pks, members, self.holding(), now)
        for member in members:
            if member.serving and not news.isdisjoint(islice(member.window, member.started, None)):
                self._roster.take_back(member, now)  # who gets them next loads them anew, and so learns of it

    def _pause_asked(self, event: e.PauseAsked, now: float) -> None:
        pks, members = set(event.pks), self._roster.all()
        self._work.refuse(pks, members)
        for member in members:
            if member.serving and not pks.isdisjoint(islice(member.window, member.started, None)):
                self._roster.take_back(member, now)

    def _claimed(self, event: e.Claimed, now: float) -> None:
        for member in self.members.values():
            if member.state is WorkerState.ENDING and member.window:
                member.forget(set(event.pks))  # that they could be claimed proves that it had recorded their end
                self._work.gone(event.pks, now)
        self._work.claimed(event, self._roster.all(), now)

    def _taken_back(self, event: e.TakenBack, now: float) -> None:
        if member := self.members.get(event.wid):
            self._work.put_back(member, member.take_back(event.count))

    def _found_empty(self, event: e.FoundEmpty, now: float) -> None:
        if event.empty and self._work.at_rest(self._roster.all()):
            self._say("nothing is left to do")
            self._stop_asked(e.StopAsked(StopReason.DRAIN), now)

    def _quiet_asked(self, event: e.QuietAsked, now: float) -> None:
        if self.quiet == event.quiet or self.reason is not StopReason.NONE:
            return
        self.quiet = event.quiet
        self._work.look_again(now)
        self._say("quiet: takes no new work" if self.quiet else "takes work again")
        for member in self._roster.all() if self.quiet else ():
            if member.serving and member.unstarted and not member.recalled:
                self._do(e.TakeBack(member.wid, member.ask_back(now)))

    def _reload_asked(self, event: e.ReloadAsked, now: float) -> None:
        if self.reason is StopReason.NONE:
            self._roster.reload()
        else:
            self._say("a reload was asked for and left out: the supervisor is stopping")

    def _resize_asked(self, event: e.ResizeAsked, now: float) -> None:
        if self.reason is StopReason.NONE:
            self._roster.resize(event.by, now)

    # ---- the stop

    def _stop_asked(self, event: e.StopAsked, now: float) -> None:
        if event.reason <= self.reason:
            return
        self.reason = event.reason
        self._roster.stop()
        if event.reason is StopReason.NOW:
            self._end_all(now)
            return
        self.state, self._stop_by = SupervisorState.DRAINING, now + self.limits.grace_s
        for member in self._roster.all():
            if member.state is WorkerState.BOOTING:
                self._end(member, now)
            else:
                self._roster.retire(member, now)

    def _end_all(self, now: float) -> None:
        self.state, self._stop_by = SupervisorState.KILLING, None
        for member in self._roster.all():
            self._end(member, now)

    def _end(self, member: Member, now: float) -> None:
        if member.state is not WorkerState.ENDING:
            member.ended = Ended.STOPPED
            self._roster.end(member, now)

    # ---- the one place where time and state turn into actions

    def _advance(self, now: float) -> None:
        self._keep_intervals(now)
        self._fence.keep(now, self.reason)
        if self._stop_by is not None and now >= self._stop_by:
            self._say(f"the grace of {self.limits.grace_s:g} s is over", logging.WARNING)
            self._end_all(now)
        self._roster.keep_deadlines(now)
        self._roster.fill(now)
        members = self._roster.all()
        self._work.use(self.pools, self.limits, now)
        self._oversight.limits = self.limits
        self._oversight.keep(members, now)
        if self._takes_work:
            self._work.work(members, now)
        elif self._fence.shut or self._fence.open:  # else there is a doubt, and only for an instant
            given_back = self._work.release(now)
            if self.reason is not StopReason.NONE:
                self._report.given_back += given_back
        if self.reason is not StopReason.NONE and not members:
            self.state = SupervisorState.STOPPED
            over = self._fence.standing is Standing.OVER
            self._do(e.Finish(ExitCode.RUN_OVER if over else self._roster.exit_code(), self._report))
        elif self.state in (SupervisorState.RUNNING, SupervisorState.RELOADING):
            self.state = SupervisorState.RELOADING if self._roster.reloading else SupervisorState.RUNNING

    def _keep_intervals(self, now: float) -> None:
        if now >= self._check_at:
            self._check_at = now + self.limits.check_interval_s
            self._do(e.Check())
        if now >= self._beat_at:
            self._beat_at = now + self.limits.beat_interval_s
            if self._fence.standing is not Standing.OVER:
                self._do(e.Beat())

    @property
    def _takes_work(self) -> bool:
        return self.reason is StopReason.NONE and not self.quiet and self._fence.open

    def _do(self, action: e.Action) -> None:
        self._actions.append(action)

    def _say(self, text: str, level: int = logging.INFO) -> None:
        self._do(e.Say(level, text))
