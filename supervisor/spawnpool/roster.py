"""Which worker processes there are and should be: the numbered slots, who fills them, back-off, reload, renewal.

Pure; part of the machine.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from spawnpool import events as e
from spawnpool.deaths import farewell, found_no_room, is_excused
from spawnpool.errors import LimitError
from spawnpool.ladder import Ladder
from spawnpool.limits import Limits
from spawnpool.member import Member
from spawnpool.places import Places
from spawnpool.pools import Pool, agreed, decode, sizes
from spawnpool.restarts import Intensity
from spawnpool.slots import Reload, Slot
from spawnpool.states import Ended, ExitCode, WorkerState
from spawnpool.wear import old_at, worn

ROOM_S = 60.0
"""For how long the place of a worker stays empty that has found no room, or made some for the supervisor."""


class Roster(Ladder):
    """The workers of all pools.

    Args:
        limits: the numbers that bound the pools.
        fixed: names of limits that a reload must not change.
        do: takes the actions.
        pools: the pools; one of as many workers as the limits say if none are given.
    """

    def __init__(
        self, limits: Limits, fixed: frozenset[str], do: Callable[[e.Action], None], pools: Sequence[Pool] = ()
    ) -> None:
        super().__init__(limits, do)
        self.places = Places(pools or [Pool(workers=limits.workers)])
        self.degraded = ""  # why, while it is
        self.ever_ready = False
        self._intensity = Intensity(limits.restarts_max, limits.restarts_window_s)
        self._fixed = fixed
        self._reload: Reload | None = None
        self._generation = 0
        self._last_wid = 0
        self._announced = False
        self._crowded = False  # there is no room for the supervisor
        self._boot_trouble: dict[int, str] = {}  # why no worker can boot in a slot, by number

    @property
    def slots(self) -> dict[int, Slot]:
        """The places, by number."""
        return self.places.slots

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools."""
        return self.places.pools

    @property
    def wanted(self) -> int:
        """How many workers are wanted in all."""
        return sum(self.places.sizes.values())

    def label(self, pool: str) -> str:
        """Return how a pool is told of: "" while there is only one."""
        return pool if len(self.pools) > 1 else ""

    @property
    def reloading(self) -> bool:
        """Whether workers on new code are taking over."""
        return self._reload is not None

    @property
    def boot_trouble(self) -> str:
        """Why a worker that is wanted cannot boot; "" while that is not so."""
        return next((why for number, why in self._boot_trouble.items() if self.places.is_wanted(number)), "")

    def exit_code(self) -> ExitCode:
        """Return what the end says: a stop that was asked for is well only if the pools were."""
        if self.boot_trouble and not self.ever_ready:
            return ExitCode.BOOT_FAILED
        return ExitCode.DEGRADED if self.degraded else ExitCode.OK

    # ---- what happens to a worker

    def ready(self, member: Member, now: float) -> None:
        """Put a worker on duty that has booted; one on trial takes over from an old one."""
        member.was_ready = self.ever_ready = True
        member.ready_at = now
        self._boot_trouble.pop(member.number, None)
        slot = self.slots.get(member.number)
        if slot is None:  # nobody wants it any more
            member.state = WorkerState.SERVING
            self.retire(member, now)
            return
        slot.backoff.booted()
        if member.state is WorkerState.BOOTING:
            member.state, member.deadline = WorkerState.SERVING, None
        if slot.trial == member.wid:
            old = self.members.get(slot.wid) if slot.wid is not None else None
            slot.wid, slot.trial = member.wid, None
            if self._reloads(member) and self._reload is not None:
                self._reload.taken_over(member.limits, member.pools)
            if old is not None and old.state is WorkerState.BOOTING:
                self.end(old, now)  # it would go on duty beside its successor
            elif old is not None:
                self.retire(old, now)
        if not self.places.is_wanted(member.number):  # fewer are wanted by now
            self.retire(member, now)
        if not self._announced:
            self._announce()

    def _announce(self) -> None:
        serving = Counter(member.pool for member in self.members.values() if member.serving)
        if serving.total() >= self.wanted:
            self._announced = True
            of_each = ", ".join(f"{count} for {pool}" for pool, count in serving.items())
            words = f"ready: {_workers(serving.total())} on duty"
            self._say(logging.INFO, f"{words}: {of_each}" if len(self.pools) > 1 else words)

    def died(self, member: Member, event: e.Died, now: float, *, told: bool) -> None:
        """Strike a dead worker off and decide when its slot is filled again; `told` if its end is logged elsewhere."""
        slot = self.slots.get(member.number)
        if slot is not None and slot.trial == member.wid:
            slot.trial = None
            if member.ended is not Ended.FENCED:  # that says nothing of the new code
                self._trial_died(slot, member, event, now)
        else:
            self._count_death(member, event, now)  # one on trial takes nothing with it
        if slot is not None and slot.wid == member.wid:
            slot.wid, slot.spawn_at = None, max(slot.spawn_at, now)
            crowded = found_no_room(member, event)
            if not ((member.was_ready and not crowded) or self.stopping or member.ended is Ended.FENCED):
                delay_s, words = ROOM_S if crowded else slot.backoff.boot_failed(), farewell(member, event)
                slot.spawn_at = now + delay_s
                self._boot_trouble[slot.number] = f"worker {slot.number} {words}"
                self._say(logging.ERROR, f"{words}; next try in {delay_s:g} s", member.wid)
            else:
                self._tell_death(member, event, told=told)
        self._forget_surplus()

    def _trial_died(self, slot: Slot, member: Member, event: e.Died, now: float) -> None:
        if self._reloads(member):
            self._refuse_reload(f"the new worker {farewell(member, event)}")
        elif not self.stopping:
            slot.renew_at = now + slot.backoff.boot_failed()
            self._say(logging.ERROR, f"{farewell(member, event)}; the old one stays", member.wid)

    def _tell_death(self, member: Member, event: e.Died, *, told: bool) -> None:
        if member.state is WorkerState.LEAVING and event.code == 0:
            self._say(logging.DEBUG, f"left: {event.words}", member.wid)
        elif self.stopping and not member.window:
            self._say(logging.DEBUG, f"{event.words} at the stop", member.wid)
        elif not told:
            why = f": {cause}" if (cause := member.why or event.cause) else ""
            self._say(logging.WARNING, f"{event.words} while {member.doing()}{why}{event.where}", member.wid)

    def _count_death(self, member: Member, event: e.Died, now: float) -> None:
        """Let an unexpected death tell on the pool."""
        if self.stopping or is_excused(member, event) or not self._intensity.died(now):
            return
        limits = self.limits
        self.degraded = (
            f"more than {limits.restarts_max} workers died within {limits.restarts_window_s:g} s, "
            f"the last one {event.words}"
        )
        self._say(
            logging.ERROR,
            f"degraded: {self.degraded}; from now on one is started every {self._intensity.pause_s:g} s",
        )

    def flawed(self, member: Member, what: str, now: float) -> None:
        """Refuse to replace a worker by one on broken code; at a start, the jobs that do not need it can be run."""
        slot = self.slots.get(member.number)
        if slot is not None and slot.trial == member.wid:  # nor does a renewal bring in what a reload would not
            member.ended, member.state, member.farewell = Ended.EXPELLED, WorkerState.ENDING, what
            self._kill(member, now)  # it has said all there is to say
        else:
            self._say(logging.ERROR, f"goes to work, but {what}", member.wid)

    # ---- how many there should be, and on which code

    def resize(self, by: int, now: float) -> None:
        """Want one worker more or fewer; at least one is kept. With several pools nobody could tell of which."""
        if len(self.pools) > 1:
            words = f"the number of workers stays: there are {len(self.pools)} pools ({sizes(self.pools)})"
            self._say(logging.INFO, f"{words}; change it in the settings and reload")
        elif self.places.resize(by):
            self._say(logging.INFO, f"{_workers(self.wanted)} wanted from now on")
            self._retire_surplus(now)

    def reload(self) -> None:
        """Begin to replace every worker by one on the new code."""
        if self._reload is not None:
            self._reload.again = True
            return
        self._generation += 1
        self._reload = Reload(self._generation)
        self._say(logging.INFO, "reload: starting workers on the new code beside the old ones")
        self._do(e.ReloadBegun())

    def source_back(self, now: float) -> None:
        """Cut the waits for the next spawn short: what kept workers from booting may be over.

        Where there was no room for the supervisor, there is none for those either.
        """
        for slot in () if self._crowded else self.slots.values():
            slot.spawn_at = min(slot.spawn_at, now)
        self._crowded = False

    def make_room(self, why: str, now: float) -> None:
        """Have one worker leave, for the supervisor has no room beside all of them; at least one stays.

        None is spawned until there is room, or it would take that.

        Args:
            why: in words.
            now: the time.
        """
        self._crowded = True
        on_its_way = any(member.state is WorkerState.LEAVING and not member.window for member in self.members.values())
        serving = [member for member in self.members.values() if member.serving and member.number in self.slots]
        if self.stopping or on_its_way or len(serving) < 2:
            return
        member = min(serving, key=lambda member: (bool(member.window), -member.number))
        self.slots[member.number].spawn_at = now + ROOM_S
        self._boot_trouble[member.number] = f"worker {member.number} has made room for the supervisor: {why}"
        self._say(logging.WARNING, f"is asked to make room for the supervisor, for {ROOM_S:g} s: {why}", member.wid)
        self.retire(member, now)

    def stop(self) -> None:
        """Spawn nothing any more."""
        self.stopping = True
        if self._reload is not None:
            self._reload = None
            self._do(e.ReloadEnded(ok=False, words="the reload was given up: the supervisor is stopping"))

    def fill(self, now: float) -> None:
        """Spawn what is missing."""
        if self._intensity.recovered(now):
            self.degraded = ""
            self._say(logging.WARNING, "no longer degraded: the workers live long enough again")
        if not self._may_spawn:
            return
        if self._reload is not None:
            self._go_on_reloading(now)
        elif self._may_renew():
            self._renew(now)
        for slot in self._slots():
            if slot.wid is None and slot.trial is None and now >= self._spawn_at(slot):
                slot.wid = self._spawn(slot, now)
                self._intensity.restarted(now)

    def deadlines(self) -> list[float]:
        """Return when something here is due."""
        members = self.members.values()
        times = [member.deadline for member in members if member.deadline is not None]
        silences = (member.silent_at(self.limits.silence_max_s) for member in members)
        times += [at for at in silences if at is not None]
        times += [self._spawn_at(slot) for slot in self._slots() if slot.wid is None and slot.trial is None]
        if self.limits.max_age_s and self._may_renew():
            times += [
                max(old_at(member, self.limits), self.slots[member.number].renew_at)
                for member in members
                if member.serving and member.number in self.slots
            ]
        if (recovery_at := self._intensity.recovery_at()) is not None:
            times.append(recovery_at)
        return times

    def _spawn_at(self, slot: Slot) -> float:
        return max(slot.spawn_at, self._intensity.may_restart_at())

    # ---- workers that have served their time

    @property
    def _may_spawn(self) -> bool:
        return not (self.fenced or self._crowded)

    def _may_renew(self) -> bool:
        return self._may_spawn and not (self.stopping or self.reloading or self.degraded or self._on_trial())

    def _renew(self, now: float) -> None:
        """Have a successor boot beside one worker that is worn out; one at a time, and the old one stays until then."""
        for slot in self._slots():
            member = self.members.get(slot.wid) if slot.wid is not None else None
            if member is None or not member.serving or now < slot.renew_at:
                continue
            if why := worn(member, self.limits, now):
                self._say(logging.INFO, f"is going to be replaced: {why}", member.wid)
                slot.trial = self._spawn(slot, now)
                return

    def _on_trial(self) -> bool:
        return any(slot.trial is not None for slot in self.slots.values())

    # ---- reload

    def _reloads(self, member: Member) -> bool:
        """Tell whether a worker was spawned by the reload that is under way."""
        return self._reload is not None and member.generation == self._reload.generation

    def _go_on_reloading(self, now: float) -> None:
        """Have one new worker at a time boot beside an old one, until every slot is on the new generation."""
        reload = self._reload
        assert reload is not None
        if self._on_trial():
            return
        for slot in self._slots():
            member = self.members.get(slot.wid) if slot.wid is not None else None
            if member is not None and member.generation == reload.generation:
                continue
            if member is None and slot.number in reload.tried and now < self._spawn_at(slot):
                return  # one on the new code died there: not faster than without a reload
            if member is None:
                self._intensity.restarted(now)
            slot.trial = self._spawn(slot, now)
            return
        if any(not self.members[slot.wid].was_ready for slot in self._slots() if slot.wid is not None):
            return
        self._reload = None
        self._use(reload, now)
        words = f"reload done: {_workers(self.wanted)} on the new code"
        self._say(logging.INFO, words)
        self._do(e.ReloadEnded(ok=True, words=words))
        if reload.again:
            self.reload()

    def _refuse_reload(self, why: str) -> None:
        reload, self._reload = self._reload, None
        if reload is not None:
            done = f" after {reload.count} of {_workers(self.wanted)}" if reload.count else ""
            words = f"reload refused{done}, the old workers stay: {why}"
            self._say(logging.ERROR, words)
            self._do(e.ReloadEnded(ok=False, words=words))
            if reload.again:  # asked for since, perhaps with the code repaired
                self.reload()

    def _use(self, reload: Reload, now: float) -> None:
        """Take over the new settings; what was changed by TTIN and TTOU stays changed."""
        try:
            values = {name: value for name, value in reload.limits.items() if name not in self._fixed}
            limits = self.limits.changed(values)
            told = decode(reload.pools) if reload.pools else (Pool(workers=limits.workers),)
            pools = agreed(self.pools, told, self._fixed)
        except LimitError as error:
            self._say(logging.ERROR, f"the new settings are left out: {error}")
            return
        self.limits = limits
        self._intensity.restarts_max, self._intensity.window_s = limits.restarts_max, limits.restarts_window_s
        if pools != self.pools:
            self.places.use(pools)
            self._do(e.Serve(pools))
            if len(pools) > 1:
                self._say(logging.INFO, f"the pools from now on: {sizes(pools)}")
        self._retire_surplus(now)

    def _slots(self) -> list[Slot]:
        """Return the slots that are to be filled, in order."""
        return self.places.wanted() if self._may_spawn and not self.stopping else []

    def _spawn(self, slot: Slot, now: float) -> int:
        if self._reload is not None:
            self._reload.tried.add(slot.number)
        self._last_wid += 1
        wid = self._last_wid
        deadline = now + self.limits.boot_timeout_s
        booting = WorkerState.BOOTING
        self.members[wid] = Member(
            wid, slot.number, self._generation, booting, deadline, heard_at=now, pool=slot.pool
        )  # fmt: skip
        self._do(e.Spawn(wid, slot.number, self.label(slot.pool)))
        return wid

    def _retire_surplus(self, now: float) -> None:
        for slot in self.places.surplus():
            for wid in (slot.wid, slot.trial):
                if wid is not None:
                    self.retire(self.members[wid], now)
        self._forget_surplus()

    def _forget_surplus(self) -> None:
        for number in self.places.forget():
            self._boot_trouble.pop(number, None)


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"
