"""A world for the machine to live in: workers, lanes, permits, a source and a shell, all pure and made of data.

`World` performs the machine's actions as the real shell does; what must always hold is checked after every step, the
accounts of keys here and the rest in `laws.py`. Every choice is an integer that comes from outside, so that a list of
integers is a whole schedule.
"""

from __future__ import annotations

from collections import Counter, deque
from functools import partial
from itertools import count as count_from
from typing import TYPE_CHECKING, Any

from spawnpool import events as e
from spawnpool.machine import Machine
from spawnpool.reports import Kind
from spawnpool.states import Ended, StopReason
from tests.unit.laws import Laws
from tests.unit.puppet import PLAIN, Job, Puppet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spawnpool.drain import DrainReport
    from spawnpool.limits import Limits
    from spawnpool.pools import Pool

MAX_ATTEMPTS = 3
ENDLESS = 1000


class World:
    """The shell around one machine, with an invariant checked wherever it can break.

    Args:
        limits: of the machine.
        keys: how many keys wait in the source at first.
        fixed: names of limits that a reload must not change.
        pools: of the machine, and of the settings.
    """

    def __init__(
        self, limits: Limits, keys: int = 0, fixed: frozenset[str] = frozenset(), pools: Sequence[Pool] = ()
    ) -> None:
        self.now = 1000.0
        self.machine = Machine(limits, self.now, fixed, pools)
        self.laws = Laws(self.machine)
        self.puppets: dict[int, Puppet] = {}
        self.jobs: dict[int, Job] = {}
        self.kinds: Sequence[Job] = (PLAIN,)
        """What keys do that are not in `jobs`, in turn."""
        self.settings: dict[str, float] = {}
        """What a worker that boots from now on reads, and of pools:"""
        self.pools: Sequence[Pool] = pools
        self.served = {pool.name: pool for pool in self.machine.pools}
        """The pools as the source was told of them."""
        self.feeds: Sequence[str] = ("a", "b", "c")
        """The feeds of the keys, in turn."""
        self.owners: dict[int, tuple[str, str | None]] = {}
        """Of claimed keys: the pool, and the feed if that had a limit there."""
        self.paused: set[str] = set()
        self.unwanted: set[int] = set()
        """Keys of which the machine heard that their feed is paused."""
        self.waiting: deque[int] = deque(range(1, keys + 1))
        self.last_key = keys
        self.claimed: dict[int, int | None] = {}  # key -> the worker that began it
        self.attempts: dict[int, int] = {}
        self.finished: set[int] = set()
        self.late_claim: e.Claimed | e.ClaimFailed | None = None
        self.carries: Callable[[], bool] = lambda: True
        """Whether the next report of any worker arrives."""
        # The last: whether workers go on while a claim is made.
        self.source_down = self.spawn_fails = self.answers_late = self.works_meanwhile = False
        self.run_lost = False
        """Whether somebody has declared this run lost, and what it had was given to others."""
        self.lease_until = self.now + limits.lease_s
        """Until when nobody does that, as the source has it."""
        self.taken_away: set[int] = set()
        """What the machine may still think it has."""
        self.code: int | None = None
        self.report: DrainReport | None = None
        self.orders: list[e.Order] = []
        self.lost: list[e.Lose] = []
        self.reloads: list[e.ReloadEnded] = []
        self.cancel_wanted: set[int] = set()
        """What the source says when it is asked who is cancelled."""
        self.pause_wanted = False
        """Whether it then tells of paused feeds, too."""
        self.spawns: list[tuple[float, int]] = []
        self.said: list[str] = []
        self.answers: deque[e.Event | Callable[[], e.Event]] = deque()
        self.lost_in_step: set[int] = set()
        self.performers: dict[type, Callable[[Any], None]] = {
            e.Spawn: self._spawn,
            e.Send: self._send,
            e.TakeBack: self._take_back,
            e.Stop: lambda action: self.puppets[action.wid].lane.append(None),
            e.Abort: lambda action: self._signal(action.wid, -6),
            e.Kill: lambda action: self._signal(action.wid, -9),
            e.Claim: self._claim,
            e.AskEmpty: lambda action: self.answers.append(e.FoundEmpty(not self.waiting and not self.claimed)),
            e.Release: self._release,
            e.Lose: self._lose,
            e.Finish: self._finish,
            e.Order: self._order,
            e.Measure: lambda action: self._measure(action.wid),
            e.Listen: lambda action: self._hear_out(action.wid),
            e.Check: lambda action: self._check(),
            e.Beat: lambda action: self._beat(),
            e.Renew: lambda action: self._renew(),
            e.LookForOrders: self._look_for_orders,
            e.Serve: self._serve,
            e.ReloadEnded: self.reloads.append,
            e.Say: lambda action: self.said.append(action.text),
        }
        if limits.lease_s:
            self.feed(e.Renewed(self.now))

    # ---- the shell

    def feed(self, event: e.Event) -> None:
        """Bring one fact in, perform what is decided, bring the answers in, and check the invariants."""
        self.answers.append(event)
        self._go_on()

    def _go_on(self) -> None:
        for count in count_from(1):
            if not self.answers:
                break
            answer = self.answers.popleft()
            event = answer() if callable(answer) else answer
            assert count < ENDLESS, f"the machine and its shell talk to each other for ever, at last of {event}"
            self.laws.before(event, self.now)
            self.lost_in_step = set()
            if isinstance(event, e.PauseAsked):
                self.unwanted.update(event.pks)
            for action in self.machine.step(event, self.now):
                self.laws.action(action, self.now)
                if performer := self.performers.get(type(action)):
                    performer(action)
            self.laws.after(event, self.now)
            self._check_accounts(event)

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        self.now += seconds
        self.feed(e.Tick())

    def tick_to_deadline(self) -> None:
        """Let time pass up to the moment that the machine waits for."""
        if (at := self.machine.next_deadline()) is not None:
            self.now = max(self.now, at)
            self.feed(e.Tick())

    def deliver(self, puppet: Puppet, most: int = 1000) -> None:
        """Bring a worker's oldest reports in."""
        reports, puppet.pipe = puppet.pipe[:most], puppet.pipe[most:]
        if reports:
            self.feed(e.Reported(puppet.wid, reports))

    def deliver_all(self) -> None:
        """Read every lane empty, as the loop does before it waits."""
        self.answers += [partial(self._read, wid) for wid, puppet in self.puppets.items() if puppet.pipe]
        self._go_on()

    def reap(self) -> None:
        """Collect the dead: the rest of their reports, then their death."""
        self.answer_late_claim()  # in the shell an answer may come late, but never after the end
        for wid, puppet in list(self.puppets.items()):
            if puppet.code is not None:
                self.deliver(puppet)
                self.feed(e.Died(wid, puppet.permits, puppet.code, f"ended with {puppet.code}"))
                del self.puppets[wid]

    def stop(self, reason: StopReason) -> None:
        """Ask for a stop."""
        if not self.puppets:
            self.answer_late_claim()
        self.feed(e.StopAsked(reason))

    def answer_late_claim(self) -> None:
        """Bring the answer to an open claim in."""
        if self.late_claim is not None:
            answer, self.late_claim = self.late_claim, None
            self.feed(answer)

    # ---- actions

    def _spawn(self, action: e.Spawn) -> None:
        assert self.machine.reason is StopReason.NONE, "a stopping supervisor spawns"
        self.spawns.append((self.now, action.number))
        if self.spawn_fails:
            self.answers.append(e.SpawnFailed(action.wid, "no descriptors"))
        else:
            self.puppets[action.wid] = Puppet(
                action.wid, action.number, self.job_of, self._begin, dict(self.settings), self.pools
            )
            self.puppets[action.wid].carries = self.carries

    def _begin(self, wid: int, pk: int) -> None:
        if pk not in self.taken_away:
            assert self.claimed.get(pk, -1) is None, f"{pk} is started twice or without a claim"
            self.claimed[pk] = wid

    def _send(self, action: e.Send) -> None:
        assert self.machine.reason is StopReason.NONE, "a stopping supervisor sends"
        puppet = self.puppets[action.wid]
        puppet.permits += len(action.pks)
        puppet.lane.append((action.epoch, list(action.pks)))
        assert all(self.claimed[pk] is None for pk in action.pks), "a key that was begun is sent again"
        pool = self.machine.members[action.wid].pool
        assert {self.owners[pk][0] for pk in action.pks} == {pool}, f"keys of another pool are sent to one of {pool}"
        assert self.unwanted.isdisjoint(action.pks), "a key of a paused feed is sent"

    def _take_back(self, action: e.TakeBack) -> None:
        puppet = self.puppets[action.wid]
        count = min(action.most, puppet.permits)
        puppet.permits -= count
        self.answers.appendleft(e.TakenBack(action.wid, count))

    def _signal(self, wid: int, code: int) -> None:
        puppet = self.puppets[wid]
        if code == -6 and self.machine.members[wid].ended in (Ended.TIMED_OUT, Ended.CANCELLED):
            assert all(report.kind is not Kind.RETURNED for report in puppet.pipe), f"worker {wid} was not heard out"
        if puppet.code is None and (code == -9 or not puppet.stubborn):
            puppet.code = code

    def _claim(self, action: e.Claim) -> None:
        assert self.machine.reason is StopReason.NONE, "a stopping supervisor claims"
        assert self.late_claim is None, "two claims at once"
        for puppet in self.puppets.values() if self.works_meanwhile else ():
            for _ in range(3):
                puppet.act(1)
        answer = self._ask_for_keys(action)
        if self.answers_late:
            self.late_claim = answer
        else:
            self.answers.append(answer)

    def _ask_for_keys(self, action: e.Claim) -> e.Claimed | e.ClaimFailed:
        if self.source_down:
            return e.ClaimFailed(1.0)
        pool, rooms = self.served[action.pool], dict(action.rooms)
        assert rooms.keys() == pool.at_once.keys(), f"{rooms} are not the limits of {pool}"
        pks: list[int] = []
        for pk in self._best_first(pool):
            if len(pks) < action.limit and rooms.get(self.feed_of(pk), 1):
                pks.append(pk)
                if self.feed_of(pk) in rooms:
                    rooms[self.feed_of(pk)] -= 1
        self._take(pool, pks)
        return e.Claimed(pks, action.limit, None, pool.name, {pk: feed for pk in pks if (feed := self.owners[pk][1])})

    def _best_first(self, pool: Pool) -> list[int]:
        """Return what waits for a pool."""
        fit = [pk for pk in self.waiting if self.may_take(pool, pk)]
        return sorted(fit, key=lambda pk: (pool.feeds or ()).index(self.feed_of(pk))) if pool.ordered else fit

    def _take(self, pool: Pool, pks: list[int]) -> None:
        """Let keys be claimed; no feed has more than its limit, counted from the claims under that limit."""
        self.waiting = deque(pk for pk in self.waiting if pk not in set(pks))
        self.claimed |= dict.fromkeys(pks)
        self.unwanted.difference_update(pks)
        self.owners |= {pk: (pool.name, feed if (feed := self.feed_of(pk)) in pool.at_once else None) for pk in pks}
        taken = {self.feed_of(pk) for pk in pks}
        held = self.held()
        for feed in taken & pool.at_once.keys():
            assert held[pool.name, feed] <= pool.at_once[feed], f"{held} for {pool}"

    def _serve(self, action: e.Serve) -> None:
        self.served = {pool.name: pool for pool in action.pools}

    def _release(self, action: e.Release) -> None:
        for pk in action.pks:
            if pk in self.taken_away:
                continue
            assert self.claimed.pop(pk) is None, f"{pk} was started and is released"
            self.lost_in_step.add(pk)
            self.waiting.append(pk)

    def _order(self, action: e.Order) -> None:
        self.orders.append(action)
        puppet = self.puppets[action.wid]
        puppet.card = action.pk, action.why
        puppet.must_look |= action.loudly

    def _listen(self, wid: int) -> None:
        self.answers.append(partial(self._read, wid))

    def _read(self, wid: int) -> e.Event:
        puppet = self.puppets[wid]
        reports, puppet.pipe = puppet.pipe, []
        return e.Reported(wid, reports) if reports else e.Tick()

    def _hear_out(self, wid: int) -> None:
        self._listen(wid)
        self.answers.append(e.Heard(wid))

    def _measure(self, wid: int) -> None:
        puppet = self.puppets[wid]
        if puppet.code is None:
            self._listen(wid)
            self.answers.append(e.Measured(wid, puppet.rss_bytes))

    def _check(self) -> None:
        for wid in self.puppets:
            self._measure(wid)

    def _beat(self) -> None:
        if self.source_down:
            self.answers.append(e.BeatFailed())
        elif self.run_lost:
            self.answers.append(e.RunLost())
        else:
            self.lease_until = self.now + self.machine.limits.lease_s
            self.answers.append(e.Beaten(self.now))

    def declare_lost(self) -> None:
        """Let somebody else declare this run lost, if its lease is over: what it has goes back to the source.

        In the shell the answer to a claim is in before a beat is refused.
        """
        if not self.machine.limits.lease_s or self.now < self.lease_until or self.run_lost:
            return
        self.answer_late_claim()
        self.run_lost = True
        done: set[int] = set().union(*(puppet.settled for puppet in self.puppets.values()))
        for pk in self.claimed:
            self.lost_in_step.add(pk)
            (self.finished.add if pk in done else self.waiting.append)(pk)
        self.taken_away.update(self.claimed)
        self.claimed.clear()

    def _renew(self) -> None:
        assert not self.machine.members, "a new run begins beside workers of the old one"
        assert self.run_lost, "a run is given up that is not lost"
        if self.source_down:
            self.answers.append(e.RenewFailed(1.0))
        else:
            self.run_lost = False
            self.taken_away.clear()
            self.lease_until = self.now + self.machine.limits.lease_s
            self.answers.append(e.Renewed(self.now))

    def _look_for_orders(self, _action: e.LookForOrders) -> None:
        if self.cancel_wanted and not self.source_down:
            self.answers.append(e.CancelAsked(sorted(self.cancel_wanted)))
            self.cancel_wanted.clear()
        if self.pause_wanted and not self.source_down:
            self.pause_wanted = False
            self.answers.append(self._pause_asked())

    def _pause_asked(self) -> e.PauseAsked:
        """Return what the source says of paused feeds; no key of those is sent again once that has arrived.

        In the shell it is asked when the answers to earlier claims are in.
        """
        coming = self.late_claim.pks if isinstance(self.late_claim, e.Claimed) else ()
        return e.PauseAsked([pk for pk in self.claimed if self.feed_of(pk) in self.paused and pk not in coming])

    def _lose(self, action: e.Lose) -> None:
        self.lost.append(action)
        for loss in action.losses:
            if loss.pk in self.taken_away:
                continue
            wid = self.claimed.pop(loss.pk)
            assert wid == action.wid, f"{loss.pk} was not started by {action.wid} and is lost"
            assert loss.ran_s is None or 0 <= loss.ran_s <= self.now - 1000, f"{loss.pk} ran for {loss.ran_s} s"
            self.lost_in_step.add(loss.pk)
            self.attempts[loss.pk] = self.attempts.get(loss.pk, 0) + 1
            recorded = loss.pk in self.puppets[action.wid].settled
            if recorded or self.attempts[loss.pk] >= MAX_ATTEMPTS:
                self.finished.add(loss.pk)
            else:
                self.waiting.append(loss.pk)

    def _finish(self, action: e.Finish) -> None:
        assert all(puppet.code is not None for puppet in self.puppets.values()), "it ends before its workers do"
        self.code, self.report = action.code, action.report

    # ---- from outside

    def act(self, puppet: Puppet, choice: int) -> None:
        """Let a worker take its next small step."""
        puppet.act(choice)

    def job_of(self, pk: int) -> Job:
        """Return what a key does."""
        return self.jobs.get(pk) or self.kinds[pk % len(self.kinds)]

    def feed_of(self, pk: int) -> str:
        """Return the feed of a key."""
        return self.feeds[pk % len(self.feeds)]

    def held(self) -> Counter[tuple[str, str | None]]:
        """Count the claimed keys that are not recorded, by pool and feed with a limit there."""
        done: set[int] = set().union(*(puppet.settled for puppet in self.puppets.values()))
        return Counter(self.owners[pk] for pk in self.claimed if pk not in done)

    def may_take(self, pool: Pool, pk: int) -> bool:
        """Tell whether a key that waits is one for a pool."""
        feed = self.feed_of(pk)
        return feed not in self.paused and (pool.feeds is None or feed in pool.feeds)

    def pause(self, *feeds: str) -> None:
        """Pause feeds, and let the source say so unasked."""
        self.paused.update(feeds)
        self.feed(self._pause_asked())

    def cancel(self, *pks: int) -> None:
        """Let the source say, unasked, that keys are cancelled."""
        self.feed(e.CancelAsked(pks))

    def add_keys(self, count: int) -> None:
        """Put new keys into the source."""
        self.waiting.extend(range(self.last_key + 1, self.last_key + count + 1))
        self.last_key += count

    # ---- invariants

    def _check_accounts(self, event: e.Event) -> None:
        held = list(self.machine.spare)
        for member in self.machine.members.values():
            held += member.window
        assert len(held) == len(set(held)), "one key is held twice"
        answers = [*self.answers, self.late_claim]
        coming = {pk for answer in answers if isinstance(answer, e.Claimed) for pk in answer.pks}
        gone = set(self.claimed) - set(held) - coming
        strange = set(held) - set(self.claimed) - self.taken_away
        assert not strange, f"{strange} went out and are still held"
        if gone:
            assert isinstance(event, e.Reported), f"{gone} were forgotten at {event}"
            assert gone <= self.puppets[event.wid].settled, f"{gone} were dropped and not settled"
            for pk in gone:
                del self.claimed[pk]
            self.finished |= gone
