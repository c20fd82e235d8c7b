"""What must hold after every step of the machine, whatever happened; kept with books of its own.

`Laws` is told of every event before it is fed and of every action before it is performed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from spawnpool import events as e
from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.reports import Kind
from spawnpool.states import Ended, ExitCode, StopReason, SupervisorState, WorkerState

if TYPE_CHECKING:
    from spawnpool.drain import DrainReport
    from spawnpool.machine import Machine

LIVING = (WorkerState.BOOTING, WorkerState.SERVING)
ENDS_AT = list(SupervisorState).index(SupervisorState.DRAINING)
DEGRADED = "workers died within"
EPSILON_S = 1e-6


class Case:
    """What is known about the job that runs on one worker, from what the machine was told."""

    def __init__(self) -> None:
        self.pk: int | None = None
        self.latest: set[int] = set()
        self.next_bounds = self.bounds = NO_BOUNDS
        self.began_at = 0.0
        self.cancelled_at: float | None = None
        self.raised_at: float | None = None
        self.rss_bytes = 0


class Laws:
    """The invariants of one machine.

    Args:
        machine: whose.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._cases: dict[int, Case] = {}
        self._cancelled: set[int] = set()
        self._ever_cancelled: set[int] = set()
        self._deaths: deque[float] = deque()
        self._on_trial: set[int] = set()
        self._counted = False
        self._refilled_at = float("-inf")
        self._tried: set[tuple[int, int]] = set()
        self._held_at_stop: set[int] | None = None
        self._beaten_at: float | None = None  # when the latest beat was sent that arrived; None: the run is over
        self._asking = False  # a beat was sent, and its answer is not there yet
        self._before_state, self._before_reason = machine.state, machine.reason
        self._before_serving: dict[int, int] = {}

    # ---- before a step

    def before(self, event: e.Event, now: float) -> None:
        """Take down how things are and what the machine is about to be told."""
        machine = self._machine
        self._before_state, self._before_reason = machine.state, machine.reason
        self._before_serving = {m.wid: m.number for m in machine.members.values() if m.serving}
        if machine.reason is StopReason.NONE:
            self._held_at_stop = machine.holding()
        match event:
            case e.Reported():
                self._hear(event, now)
            case e.CancelAsked():
                self._cancelled |= set(event.pks) & machine.holding()
                self._ever_cancelled |= self._cancelled
                for case in self._cases.values():
                    self._note_cancelled(case, now)
            case e.Measured():
                self._cases.setdefault(event.wid, Case()).rss_bytes = event.rss_bytes
            case e.Died():
                self._count_death(event, now)
            case _:
                self._follow_lease(event)

    def _follow_lease(self, event: e.Event) -> None:
        match event:
            case e.Beaten() | e.Renewed():
                self._beaten_at, self._asking = event.sent_at, False
            case e.BeatFailed():
                self._asking = False
            case e.RunLost():
                self._beaten_at, self._asking = None, False
                self._held_at_stop = set()  # others account for it
            case e.Slept():
                self._beaten_at = None if self._beaten_at is None else self._beaten_at - event.seconds

    def _hear(self, event: e.Reported, now: float) -> None:
        member = self._machine.members.get(event.wid)
        if member is None or member.state is WorkerState.ENDING:
            return
        case = self._cases.setdefault(event.wid, Case())
        case.latest = set() if case.pk is None else {case.pk}
        for report in event.reports:
            match report.kind:
                case Kind.BOUNDS:
                    case.next_bounds = Bounds.decode(report.text)
                case Kind.STARTED:
                    case.pk = report.key
                    case.latest.add(report.key)
                    case.bounds = case.next_bounds
                    case.began_at, case.cancelled_at, case.raised_at = now, None, None
                    self._note_cancelled(case, now)
                case Kind.RETURNED:
                    case.pk = None
                case Kind.SETTLED:
                    self._cancelled.discard(report.key)

    def _note_cancelled(self, case: Case, now: float) -> None:
        if case.pk in self._cancelled and case.cancelled_at is None:
            case.cancelled_at = now

    def _count_death(self, event: e.Died, now: float) -> None:
        member = self._machine.members.get(event.wid)
        self._counted = False
        if member is None or self._machine.reason is not StopReason.NONE or member.ended.by_a_limit:
            return
        if member.ended is Ended.FENCED or event.code == ExitCode.CROWDED:
            return
        if event.wid in self._on_trial and not member.was_ready:
            return
        went = member.state is WorkerState.LEAVING and event.code == 0
        superseded = member.state is WorkerState.ENDING and member.ended is Ended.DIED
        if not went and not superseded:
            self._deaths.append(now)
            self._counted = True

    # ---- every action

    def action(self, action: e.Action, now: float) -> None:
        """Check one action before it is performed."""
        assert self._before_state is not SupervisorState.STOPPED, f"{action} after the end"
        if isinstance(action, (e.Spawn, e.Send, e.Claim)) and self._machine.limits.lease_s:
            self._check_lease(action, now)
        match action:
            case e.Beat():
                self._asking = True
            case e.Spawn():
                self._check_restart(action, now)
            case e.Order():
                self._check_order(action, now)
            case e.Abort():
                self._check_end(action.wid, now)
            case e.Finish():
                self._check_report(action.report)

    def _check_lease(self, action: e.Action, now: float) -> None:
        """Nothing is begun by one whose lease is nearly over, or that was declared lost."""
        lease_s = self._machine.limits.lease_s
        assert self._beaten_at is not None, f"{action} of a run that is over"
        assert now < self._beaten_at + lease_s - min(10.0, lease_s / 3), f"{action} near the end of the lease"

    def _check_dead(self, now: float) -> None:
        """No worker outlives the lease, but for the instant in which a supervisor that was away asks how it stands."""
        machine = self._machine
        lease_s = machine.limits.lease_s
        over = self._beaten_at is None or now >= self._beaten_at + lease_s
        if lease_s and over and not self._asking:
            alive = [member.wid for member in machine.members.values() if not member.killed]
            assert not alive, f"workers {alive} outlive the lease"

    def _check_restart(self, action: e.Spawn, now: float) -> None:
        """While the pool is degraded, an empty place is filled no faster than at the rate of the intensity."""
        members = self._machine.members
        beside = any(member.number == action.number for member in members.values() if member.wid != action.wid)
        if beside or self._machine.reloading:
            self._on_trial.add(action.wid)
        if beside:
            return
        attempt = action.number, members[action.wid].generation
        first, limits = attempt not in self._tried, self._machine.limits
        self._tried.add(attempt)
        if DEGRADED in self._machine.degraded and not (first and self._machine.reloading):
            pause_s = limits.restarts_window_s / limits.restarts_max
            assert now >= self._refilled_at + pause_s - EPSILON_S, "a degraded pool restarts too fast"
        self._refilled_at = now

    def _check_order(self, action: e.Order, now: float) -> None:
        case, limits = self._cases[action.wid], self._machine.limits
        member = self._machine.members[action.wid]
        if action.loudly:
            assert action.pk == case.pk == member.running(), f"{action} is for another key than {case.pk}"
        else:  # a quiet one does no harm when its key ended in the same breath
            assert action.pk in case.latest, f"{action} is for another key than {case.latest}"
        timeout_at = float("inf") if case.bounds.timeout_s is None else case.began_at + case.bounds.timeout_s
        if action.why is Interrupt.NONE:
            assert not action.loudly
        elif action.why is Interrupt.TIMEOUT:
            assert action.loudly
            assert now >= timeout_at - EPSILON_S, "interrupted before its time-out"
        else:
            assert action.pk in self._ever_cancelled, "interrupted without having been cancelled"
        if action.why is Interrupt.CANCEL and action.loudly:
            assert case.cancelled_at is not None
            ask_until = min(timeout_at, case.cancelled_at + limits.cancel_ask_s)
            assert now >= ask_until - EPSILON_S, "interrupted before it was asked for long enough"
        if action.loudly:
            assert case.raised_at is None, "interrupted twice"
            case.raised_at = now

    def _check_end(self, wid: int, now: float) -> None:
        """A job ends its worker only by a limit of its own, and only after every earlier step."""
        member, case = self._machine.members[wid], self._cases.get(wid, Case())
        raised_at = float("inf") if case.raised_at is None else case.raised_at
        match member.ended:
            case Ended.TIMED_OUT:
                assert case.bounds.timeout_s is not None
                assert now >= case.began_at + case.bounds.timeout_s + case.bounds.grace_s - EPSILON_S
                assert now >= raised_at + case.bounds.grace_s - EPSILON_S
            case Ended.CANCELLED:
                assert case.cancelled_at is not None
                assert now >= raised_at + self._machine.limits.cancel_grace_s - EPSILON_S
            case Ended.OVER_MEMORY:
                assert case.bounds.memory_bytes is not None
                assert case.rss_bytes > case.bounds.memory_bytes

    def _check_report(self, report: DrainReport) -> None:
        """The drain report names each key that was held at the stop once."""
        named = [*report.finished, *report.given_back, *(pk for pk, _ in report.cut_short)]
        assert len(named) == len(set(named)), f"one key is reported twice: {report}"
        assert self._held_at_stop is not None
        assert self._held_at_stop <= set(named), f"{self._held_at_stop - set(named)} are missing in {report}"

    # ---- after a step

    def after(self, event: e.Event, now: float) -> None:
        """Check how things are."""
        self._check_urgency()
        self._check_dead(now)
        self._check_workers()
        self._check_replacements(event)
        if isinstance(event, e.Died) and self._counted:
            self._check_intensity(now)

    def _check_urgency(self) -> None:
        machine = self._machine
        assert machine.reason >= self._before_reason, "urgency fell"
        at, was = (list(SupervisorState).index(each) for each in (machine.state, self._before_state))
        assert was < ENDS_AT or at >= was, f"{self._before_state} went back to {machine.state}"
        assert (at >= ENDS_AT) == (machine.reason is not StopReason.NONE), "where and why contradict each other"

    def _check_workers(self) -> None:
        machine = self._machine
        living = [member for member in machine.members.values() if member.state in LIVING]
        serving = [member.number for member in living if member.serving]
        assert len(serving) == len(set(serving)), "two workers serve in one place"
        assert all(machine.is_wanted(number) for number in serving), "more workers serve than are wanted"
        beside = len(living) - len({member.number for member in living})
        assert beside <= (machine.reason is StopReason.NONE), "more than one worker beside the wanted ones"
        running = [pk for member in machine.members.values() if (pk := member.running()) is not None]
        assert len(running) == len(set(running)), "a key runs twice"

    def _check_replacements(self, event: e.Event) -> None:
        """Nobody is sent away before his successor is on duty, but to make room."""
        machine = self._machine
        if machine.reason is not StopReason.NONE or isinstance(event, e.Crowded):
            return
        arrived = {m.number for m in machine.members.values() if m.serving and m.wid not in self._before_serving}
        for wid, number in self._before_serving.items():
            member = machine.members.get(wid)
            if member is None or member.state is not WorkerState.LEAVING or not machine.is_wanted(number):
                continue
            by_itself = isinstance(event, e.Reported) and event.wid == wid
            assert by_itself or number in arrived, f"worker {wid} was sent away before its successor was there"

    def _check_intensity(self, now: float) -> None:
        limits = self._machine.limits
        while self._deaths and now >= self._deaths[0] + limits.restarts_window_s:
            self._deaths.popleft()
        if len(self._deaths) > limits.restarts_max:
            assert DEGRADED in self._machine.degraded, f"{len(self._deaths)} deaths, and all is well"
