r"""The decisions of a supervisor: `step(event, now) -> actions`.

No clock, process, descriptor or database in here; `now` is any monotonic time in seconds. The shell in
`supervisor.py` performs the actions in order and brings their answers back as events.

    STARTING --first worker READY--> RUNNING <--HUP / all new or refused--> RELOADING
        \______________________________|______________________________________/
                                       | TERM, INT, or nothing left
                                    DRAINING --grace over, QUIT, second INT--> KILLING
                                       \____________ no worker left ___________/--> STOPPED

Every key that comes in by `Claimed` goes out exactly once: settled by a worker, by `Release` or by `Lose`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from spawnpool import events as e
from spawnpool.errors import BrokenReport, LimitError
from spawnpool.limits import RELOADABLE, Limits
from spawnpool.member import Member
from spawnpool.reports import Kind, Report
from spawnpool.restarts import Backoff
from spawnpool.slots import Reload, Slot
from spawnpool.source import Loss, Running
from spawnpool.states import Ended, StopReason, SupervisorState, WorkerState
from spawnpool.window import Pace, deal, demand


class Machine:
    """The state of one supervisor.

    Args:
        limits: the numbers that bound the pool.
        now: the time at which it begins.
        fixed: names of limits that a reload must not change, since the command line gave them.
    """

    def __init__(self, limits: Limits, now: float, fixed: frozenset[str] = frozenset()) -> None:
        self.limits = limits
        self.state = SupervisorState.STARTING
        self.reason = StopReason.NONE
        self.quiet = False
        self.wanted = limits.workers
        self.members: dict[int, Member] = {}
        self.slots: dict[int, Slot] = {}
        self.spare: deque[int] = deque()  # claimed, on no lane
        self._fixed = fixed
        self._pace = Pace(limits)
        self._reload: Reload | None = None
        self._generation = 0
        self._last_wid = 0
        self._stop_by: float | None = None
        self._claiming = False
        self._claim_at = now  # when to ask for work, if any worker has room
        self._check_at = now + limits.check_interval_s
        self._beat_at = now
        self._announced = False
        self._actions: list[e.Action] = []
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            e.Tick: lambda event, now: None,
            e.Reported: self._reported,
            e.SpawnFailed: self._spawn_failed,
            e.Died: self._died,
            e.Babbled: self._babbled,
            e.StopAsked: self._stop_asked,
            e.QuietAsked: self._quiet_asked,
            e.ReloadAsked: self._reload_asked,
            e.ResizeAsked: self._resize_asked,
            e.Woken: self._woken,
            e.Claimed: self._claimed,
            e.ClaimFailed: self._claim_failed,
            e.TakenBack: self._taken_back,
            e.FoundEmpty: self._found_empty,
        }

    def step(self, event: e.Event, now: float) -> list[e.Action]:
        """Take in one event and return what to do, in order."""
        self._actions = []
        if self.state is not SupervisorState.STOPPED:
            self._handlers[type(event)](event, now)
            self._advance(now)
        return self._actions

    def next_deadline(self) -> float | None:
        """Return the time at which a `Tick` is needed, None if nothing is awaited."""
        if self.state is SupervisorState.STOPPED:
            return None
        times = [self._check_at, self._beat_at]
        times += [member.deadline for member in self.members.values() if member.deadline is not None]
        times += [slot.spawn_at for slot in self._open_slots()]
        times += [at for at in (self._stop_by,) if at is not None]
        if self._takes_work() and not self._claiming and demand(self._all(), self._pace.window()):
            times.append(self._claim_at)
        free = any(member.free for member in self.members.values())
        for member in self.members.values():
            if member.running() is not None and not member.marked:
                times.append(member.started_at + self.limits.mark_after_s)
            if free and member.unstarted and member.serving and not member.recalled:
                times.append(member.progress_at + self.limits.recall_after_s)
        return min(times)

    def unhurried(self) -> bool:
        """Tell whether every serving worker has so much before it that its reports can wait a moment."""
        return all(member.unstarted > 8 for member in self.members.values() if member.serving)

    # ---- events

    def _reported(self, event: e.Reported, now: float) -> None:
        member = self.members.get(event.wid)
        if member is None or member.state is WorkerState.ENDING:
            return  # its fate is decided; the source knows what it still finished
        try:
            for report in event.reports:
                self._take_report(member, report, now)
        except (BrokenReport, IndexError) as error:
            self._expel(member, str(error), now)

    def _take_report(self, member: Member, report: Report, now: float) -> None:
        kind, key, amount, text = report
        match kind:
            case Kind.STARTED:
                member.begin(key, now)
            case Kind.SETTLED:
                self._pace.settled(member.settle(key, now), amount / 1e6)
                if self.limits.exit_when_empty and self._at_rest():
                    self._claim_at = now  # that may have been the last one
            case Kind.RETURNED:
                member.returned = True
            case Kind.READY:
                self._ready(member, now)
            case Kind.LIMIT:
                member.limits[RELOADABLE[amount]] = key / 1000
            case Kind.EMPTIED:
                member.recalled, member.epoch = False, amount
            case Kind.FAILED:
                member.farewell = text
            case Kind.BYE:
                member.state, member.deadline = WorkerState.LEAVING, now + self.limits.abort_grace_s

    def _ready(self, member: Member, now: float) -> None:
        self.slots[member.number].backoff.booted()
        member.was_ready = True
        if member.state is WorkerState.BOOTING:
            member.state, member.deadline = WorkerState.SERVING, None
        if self.state is SupervisorState.STARTING:
            self.state = SupervisorState.RUNNING
        slot = self.slots[member.number]
        if slot.trial == member.wid:
            old = self.members.get(slot.wid) if slot.wid is not None else None
            slot.wid, slot.trial = member.wid, None
            if self._reload is not None:
                self._reload.taken_over(member.limits)
            if old is not None:
                self._retire(old, now)
        if member.number > self.wanted:  # fewer are wanted by now
            self._retire(member, now)
        serving = sum(member.serving for member in self.members.values())
        if not self._announced and serving >= self.wanted:
            self._announced = True
            self._say(logging.INFO, f"ready: {serving} worker{'s' * (serving != 1)} on duty")

    def _spawn_failed(self, event: e.SpawnFailed, now: float) -> None:
        self._died(e.Died(event.wid, 0, None, f"could not be spawned: {event.words}"), now)

    def _died(self, event: e.Died, now: float) -> None:
        member = self.members.pop(event.wid, None)
        if member is None:
            return
        ran_s = now - member.started_at
        begun, unbegun = member.split_at_death(event.unstarted)
        self.spare.extendleft(reversed(unbegun))
        if begun:
            running = None if member.returned else begun[-1]
            losses = [
                Loss(pk, member.number, 0, event.words, ran_s if pk == running else None, member.ended) for pk in begun
            ]
            self._do(e.Lose(member.wid, losses))
        slot = self.slots.get(member.number)
        if slot is None:
            return
        if slot.trial == member.wid:
            slot.trial = None
            self._refuse_reload(f"the new worker {self._farewell(member, event)}", now)
        elif slot.wid == member.wid:
            slot.wid = None
            self._respawn(slot, member, event, now, told=bool(begun))
        if slot.wid is None and slot.trial is None and slot.number > self.wanted:
            del self.slots[slot.number]

    def _respawn(self, slot: Slot, member: Member, event: e.Died, now: float, *, told: bool) -> None:
        """Decide when the slot of a dead worker is filled again, and say why it is empty."""
        asked = member.state is WorkerState.LEAVING and event.code == 0
        if not member.was_ready and self.reason is StopReason.NONE:
            delay_s = slot.backoff.boot_failed()
            slot.spawn_at = now + delay_s
            self._say(logging.ERROR, f"{self._farewell(member, event)}; next try in {delay_s:g} s", member.wid)
            return
        slot.spawn_at = now
        if asked:
            self._say(logging.DEBUG, f"left: {event.words}", member.wid)
        elif not told:
            doing = "while idle" if member.was_ready else "while booting"
            self._say(logging.WARNING, f"{event.words} {doing}", member.wid)

    def _farewell(self, member: Member, event: e.Died) -> str:
        if member.farewell:
            return f"could not boot: {member.farewell}"
        return event.words if event.code is None else f"{event.words} before it was ready"

    def _babbled(self, event: e.Babbled, now: float) -> None:
        if member := self.members.get(event.wid):
            self._expel(member, event.words, now)

    def _stop_asked(self, event: e.StopAsked, now: float) -> None:
        if event.reason <= self.reason:
            return
        self.reason = event.reason
        if event.reason is StopReason.NOW:
            self._kill_all(now)
            return
        self.state = SupervisorState.DRAINING
        self._stop_by = now + self.limits.grace_s
        self._reload = None
        for member in self._all():
            if member.state is WorkerState.BOOTING:
                member.ended = Ended.STOPPED
                self._end(member, now)
            else:
                self._retire(member, now)

    def _kill_all(self, now: float) -> None:
        self.state, self._stop_by, self._reload = SupervisorState.KILLING, None, None
        for member in self._all():
            if member.state is not WorkerState.ENDING:
                member.ended = Ended.STOPPED
                self._end(member, now)

    def _quiet_asked(self, event: e.QuietAsked, now: float) -> None:
        if self.quiet != event.quiet and self.reason is StopReason.NONE:
            self.quiet = event.quiet
            self._claim_at = now
            self._say(logging.INFO, "quiet: takes no new work" if self.quiet else "takes work again")
            for member in self._all():
                if self.quiet and member.serving and member.unstarted:
                    self._do(e.TakeBack(member.wid, member.unstarted))

    def _reload_asked(self, event: e.ReloadAsked, now: float) -> None:
        if self.reason is not StopReason.NONE:
            self._say(logging.INFO, "a reload was asked for and left out: the supervisor is stopping")
        elif self._reload is not None:
            self._reload.again = True
        else:
            self._generation += 1
            self._reload = Reload(self._generation)
            self.state = SupervisorState.RELOADING
            self._say(logging.INFO, "reload: starting workers on the new code beside the old ones")

    def _resize_asked(self, event: e.ResizeAsked, now: float) -> None:
        wanted = max(1, self.wanted + event.by)
        if wanted == self.wanted or self.reason is not StopReason.NONE:
            return
        self.wanted = wanted
        self._say(logging.INFO, f"{wanted} worker{'s' * (wanted != 1)} wanted from now on")
        self._trim(now)

    def _woken(self, event: e.Woken, now: float) -> None:
        self._claim_at = now

    def _claimed(self, event: e.Claimed, now: float) -> None:
        self._claiming = False
        self.spare.extend(event.pks)
        if event.pks:
            self._claim_at = now
        else:
            wait_s = self.limits.poll_interval_s
            if event.due_in_s is not None:
                wait_s = min(wait_s, max(0.0, event.due_in_s))
            self._claim_at = now + wait_s
        if self.limits.exit_when_empty and not event.pks and self._at_rest() and self._takes_work():
            self._do(e.AskEmpty())

    def _claim_failed(self, event: e.ClaimFailed, now: float) -> None:
        self._claiming = False
        self._claim_at = now + event.retry_in_s

    def _taken_back(self, event: e.TakenBack, now: float) -> None:
        if member := self.members.get(event.wid):
            self.spare.extendleft(reversed(member.take_back(event.count)))

    def _found_empty(self, event: e.FoundEmpty, now: float) -> None:
        if event.empty and self._at_rest():
            self._say(logging.INFO, "nothing is left to do")
            self._stop_asked(e.StopAsked(StopReason.DRAIN), now)

    # ---- the one place where time and state turn into actions

    def _advance(self, now: float) -> None:
        self._keep_intervals(now)
        self._keep_deadlines(now)
        if self._reload is not None:
            self._go_on_reloading(now)
        if self.reason is StopReason.NONE:
            self._fill_slots(now)
        self._mark_running(now)
        if self._takes_work():
            self._recall(now)
            self._deal_and_claim(now)
        elif self.spare:
            self._do(e.Release(list(self.spare)))
            self.spare.clear()
        if self.reason is not StopReason.NONE and not self.members:
            self.state = SupervisorState.STOPPED
            self._do(e.Finish(0))

    def _keep_intervals(self, now: float) -> None:
        if now >= self._check_at:
            self._check_at = now + self.limits.check_interval_s
            self._claim_at = min(self._claim_at, now)  # makes good for a wake-up lost while nothing was connected
            self._do(e.Check())
        if now >= self._beat_at:
            self._beat_at = now + self.limits.beat_interval_s
            self._do(e.Beat())

    def _keep_deadlines(self, now: float) -> None:
        if self._stop_by is not None and now >= self._stop_by:
            self._say(logging.WARNING, f"the grace of {self.limits.grace_s:g} s is over")
            self._kill_all(now)
        for member in self._all():
            if member.deadline is None or now < member.deadline:
                continue
            if member.state is WorkerState.BOOTING:
                self._expel(member, f"was not ready after {self.limits.boot_timeout_s:g} s", now)
            elif member.state is WorkerState.LEAVING:
                self._expel(member, "did not leave when it was asked to", now)
            else:
                member.deadline = None
                self._do(e.Kill(member.wid))

    def _go_on_reloading(self, now: float) -> None:
        """Have one new worker at a time boot beside an old one, until every slot is on the new generation."""
        reload = self._reload
        assert reload is not None
        if any(slot.trial is not None for slot in self.slots.values()):
            return
        for slot in self._open_slots(all_of_them=True):
            member = self.members.get(slot.wid) if slot.wid is not None else None
            if member is None or member.generation < reload.generation:
                slot.trial = self._spawn(slot, now)
                return
        self._reload = None
        self.state = SupervisorState.RUNNING
        self._apply(reload.limits, now)
        self._say(logging.INFO, f"reload done: {self.wanted} worker{'s' * (self.wanted != 1)} run the new code")
        if reload.again:
            self._reload_asked(e.ReloadAsked(), now)

    def _refuse_reload(self, why: str, now: float) -> None:
        reload, self._reload = self._reload, None
        if reload is None:
            return
        self.state = SupervisorState.RUNNING
        done = f" after {reload.count} of {self.wanted} workers" if reload.count else ""
        self._say(logging.ERROR, f"reload refused{done}, the old workers stay: {why}")

    def _apply(self, limits: dict[str, float], now: float) -> None:
        """Take over the limits of the new settings; what was changed by TTIN and TTOU stays changed."""
        try:
            new = self.limits.changed({name: value for name, value in limits.items() if name not in self._fixed})
        except LimitError as error:
            self._say(logging.ERROR, f"the new settings are left out: {error}")
            return
        self.wanted = max(1, self.wanted + new.workers - self.limits.workers)
        self.limits = self._pace.limits = new
        self._trim(now)

    def _fill_slots(self, now: float) -> None:
        for slot in self._open_slots():
            if now >= slot.spawn_at:
                slot.wid = self._spawn(slot, now)

    def _open_slots(self, *, all_of_them: bool = False) -> list[Slot]:
        """Return the slots up to the wanted number: those that nobody fills or will fill, or all of them."""
        for number in range(1, self.wanted + 1):
            if number not in self.slots:
                self.slots[number] = Slot(number, Backoff())
        if self.reason is not StopReason.NONE:
            return []
        slots = [slot for number, slot in sorted(self.slots.items()) if number <= self.wanted]
        return slots if all_of_them else [slot for slot in slots if slot.wid is None and slot.trial is None]

    def _spawn(self, slot: Slot, now: float) -> int:
        self._last_wid += 1
        wid = self._last_wid
        deadline = now + self.limits.boot_timeout_s
        self.members[wid] = Member(wid, slot.number, self._generation, WorkerState.BOOTING, deadline)
        self._do(e.Spawn(wid, slot.number))
        return wid

    def _mark_running(self, now: float) -> None:
        marks = []
        for member in self._all():
            pk = member.running()
            if pk is not None and not member.marked and now - member.started_at >= self.limits.mark_after_s:
                member.marked = True
                marks.append(Running(pk, member.number, now - member.started_at))
        if marks:
            self._do(e.Mark(marks))

    def _recall(self, now: float) -> None:
        """Take keys back that wait behind something slow while another worker is free."""
        if self.spare or not any(member.free for member in self._all()):
            return
        for member in self._all():
            slow = now - member.progress_at >= self.limits.recall_after_s
            if member.serving and member.unstarted and not member.recalled and slow:
                self._do(e.TakeBack(member.wid, member.unstarted))

    def _deal_and_claim(self, now: float) -> None:
        window = self._pace.window()
        for member, pks in deal(self.spare, self._all(), window):
            member.sent(pks, now)
            self._do(e.Send(member.wid, member.epoch, pks))
        if not self._claiming and now >= self._claim_at and not self.spare and (limit := demand(self._all(), window)):
            self._claiming = True
            self._do(e.Claim(limit))

    # ---- ends of workers

    def _retire(self, member: Member, now: float) -> None:
        """Let a worker finish what it started, give its other keys to somebody else, and leave."""
        if member.unstarted:
            self._do(e.TakeBack(member.wid, member.unstarted))
        if member.state is WorkerState.SERVING:
            member.state = WorkerState.LEAVING
            if member.running() is None:
                member.deadline = now + self.limits.grace_s
            self._do(e.Stop(member.wid))

    def _expel(self, member: Member, why: str, now: float) -> None:
        """End a worker for what it did or did not do."""
        if member.state is not WorkerState.ENDING:
            if member.ended is Ended.DIED:
                member.ended = Ended.STOPPED if self.reason is not StopReason.NONE else Ended.EXPELLED
            member.farewell = member.farewell or (why if not member.was_ready else "")
            self._say(logging.WARNING, f"is ended: {why}", member.wid)
            self._end(member, now)

    def _end(self, member: Member, now: float) -> None:
        """Step on the ladder: SIGABRT, so that it says where it hangs, then SIGKILL; a booting one says nothing."""
        was_ready = member.state is not WorkerState.BOOTING
        member.state = WorkerState.ENDING
        member.deadline = now + self.limits.abort_grace_s if was_ready else None
        self._do(e.Abort(member.wid) if was_ready else e.Kill(member.wid))

    def _trim(self, now: float) -> None:
        for number, slot in sorted(self.slots.items()):
            if number > self.wanted:
                for wid in (slot.wid, slot.trial):
                    if wid is not None and self.members[wid].serving:
                        self._retire(self.members[wid], now)
                if slot.wid is None and slot.trial is None:
                    del self.slots[number]

    # ---- small things

    def _at_rest(self) -> bool:
        return not self.spare and not any(member.window for member in self._all())

    def _takes_work(self) -> bool:
        return self.reason is StopReason.NONE and not self.quiet

    def _all(self) -> list[Member]:
        return list(self.members.values())

    def _do(self, action: e.Action) -> None:
        self._actions.append(action)

    def _say(self, level: int, text: str, wid: int | None = None) -> None:
        self._do(e.Say(level, text, wid))
