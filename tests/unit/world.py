"""A world for the machine to live in: workers, lanes, permits, a source and a shell, all pure and made of data.

`World` performs the machine's actions as the real shell does; what must always hold is checked after every step, the
accounts of keys here and the rest in `laws.py`. Every choice is an integer that comes from outside, so that a list of
integers is a whole schedule.
"""

from __future__ import annotations

from collections import deque
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

MAX_ATTEMPTS = 3
ENDLESS = 1000


class World:
    """The shell around one machine, with an invariant checked wherever it can break.

    Args:
        limits: of the machine.
        keys: how many keys wait in the source at first.
        fixed: names of limits that a reload must not change.
    """

    def __init__(self, limits: Limits, keys: int = 0, fixed: frozenset[str] = frozenset()) -> None:
        self.now = 1000.0
        self.machine = Machine(limits, self.now, fixed)
        self.laws = Laws(self.machine)
        self.puppets: dict[int, Puppet] = {}
        self.jobs: dict[int, Job] = {}
        self.kinds: Sequence[Job] = (PLAIN,)
        """What keys do that are not in `jobs`, in turn."""
        self.settings: dict[str, float] = {}
        """What a worker that boots from now on reads."""
        self.waiting: deque[int] = deque(range(1, keys + 1))
        self.last_key = keys
        self.claimed: dict[int, int | None] = {}  # key -> the worker that began it
        self.attempts: dict[int, int] = {}
        self.finished: set[int] = set()
        self.late_claim: e.Claimed | e.ClaimFailed | None = None
        self.source_down = self.spawn_fails = self.answers_late = False
        self.code: int | None = None
        self.report: DrainReport | None = None
        self.orders: list[e.Order] = []
        self.lost: list[e.Lose] = []
        self.reloads: list[e.ReloadEnded] = []
        self.cancel_wanted: set[int] = set()
        """What the source says when it is asked who is cancelled."""
        self.spawns: list[tuple[float, int]] = []
        self.said: list[str] = []
        self.answers: deque[e.Event] = deque()
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
            e.LookForCancelled: self._look_for_cancelled,
            e.ReloadEnded: self.reloads.append,
            e.Say: lambda action: self.said.append(action.text),
        }

    # ---- the shell

    def feed(self, event: e.Event) -> None:
        """Bring one fact in, perform what is decided, bring the answers in, and check the invariants."""
        self.answers.append(event)
        for count in count_from(1):
            if not self.answers:
                break
            assert count < ENDLESS, f"the machine and its shell talk to each other for ever, at last of {event}"
            event = self.answers.popleft()
            self.laws.before(event, self.now)
            self.lost_in_step = set()
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
        for puppet in list(self.puppets.values()):
            self.deliver(puppet)

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
            self.puppets[action.wid] = Puppet(action.wid, action.number, self.job_of, self._begin, dict(self.settings))

    def _begin(self, wid: int, pk: int) -> None:
        assert self.claimed.get(pk, -1) is None, f"{pk} is started twice or without a claim"
        self.claimed[pk] = wid

    def _send(self, action: e.Send) -> None:
        assert self.machine.reason is StopReason.NONE, "a stopping supervisor sends"
        puppet = self.puppets[action.wid]
        puppet.permits += len(action.pks)
        puppet.lane.append((action.epoch, list(action.pks)))
        assert all(self.claimed[pk] is None for pk in action.pks), "a key that was begun is sent again"

    def _take_back(self, action: e.TakeBack) -> None:
        puppet = self.puppets[action.wid]
        count = min(action.most, puppet.permits)
        puppet.permits -= count
        self.answers.append(e.TakenBack(action.wid, count))

    def _signal(self, wid: int, code: int) -> None:
        puppet = self.puppets[wid]
        if code == -6 and self.machine.members[wid].ended in (Ended.TIMED_OUT, Ended.CANCELLED):
            assert all(report.kind is not Kind.RETURNED for report in puppet.pipe), f"worker {wid} was not heard out"
        if puppet.code is None and (code == -9 or not puppet.stubborn):
            puppet.code = code

    def _claim(self, action: e.Claim) -> None:
        assert self.machine.reason is StopReason.NONE, "a stopping supervisor claims"
        assert self.late_claim is None, "two claims at once"
        answer = self._ask_for_keys(action.limit)
        if self.answers_late:
            self.late_claim = answer
        else:
            self.answers.append(answer)

    def _ask_for_keys(self, limit: int) -> e.Claimed | e.ClaimFailed:
        if self.source_down:
            return e.ClaimFailed(1.0)
        pks = [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]
        self.claimed |= dict.fromkeys(pks)
        return e.Claimed(pks, limit, None)

    def _release(self, action: e.Release) -> None:
        for pk in action.pks:
            assert self.claimed.pop(pk) is None, f"{pk} was started and is released"
            self.lost_in_step.add(pk)
            self.waiting.append(pk)

    def _order(self, action: e.Order) -> None:
        self.orders.append(action)
        puppet = self.puppets[action.wid]
        puppet.card = action.pk, action.why
        puppet.must_look |= action.loudly

    def _listen(self, wid: int) -> None:
        puppet = self.puppets[wid]
        reports, puppet.pipe = puppet.pipe, []
        self.answers.append(e.Reported(wid, reports) if reports else e.Tick())

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

    def _look_for_cancelled(self, _action: e.LookForCancelled) -> None:
        if self.cancel_wanted and not self.source_down:
            self.answers.append(e.CancelAsked(sorted(self.cancel_wanted)))
            self.cancel_wanted.clear()

    def _lose(self, action: e.Lose) -> None:
        self.lost.append(action)
        for loss in action.losses:
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
        assert set(held) <= set(self.claimed), f"{set(held) - set(self.claimed)} went out and are still held"
        if gone:
            assert isinstance(event, e.Reported), f"{gone} were forgotten at {event}"
            assert gone <= self.puppets[event.wid].settled, f"{gone} were dropped and not settled"
            for pk in gone:
                del self.claimed[pk]
            self.finished |= gone
