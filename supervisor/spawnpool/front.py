"""What the supervisor shows and tells: to the service manager, to those who ask on the control socket, to `ps`.

It is told after each turn of the loop and decides nothing about work; the requests that it takes in go to the machine
as the events that the signals make, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from spawnpool import events as e
from spawnpool.control import ControlServer, Request
from spawnpool.drain import DrainReport
from spawnpool.hands import Hands
from spawnpool.machine import Machine
from spawnpool.notify import ServiceManager
from spawnpool.snapshot import snapshot
from spawnpool.states import StopReason

SHOW_INTERVAL_S = 5.0
"""How often the status line is made anew."""
PATIENCE_S = 15.0
"""How much more time than it is about to need a stop or a reload asks the service manager for."""

REQUESTS: dict[str, e.Event] = {
    "drain": e.StopAsked(StopReason.DRAIN),
    "stop": e.StopAsked(StopReason.NOW),
    "reload": e.ReloadAsked(),
    "quiet": e.QuietAsked(quiet=True),
    "resume": e.QuietAsked(quiet=False),
}


class Front:
    """The supervisor's face.

    Args:
        name: of the supervisor.
        machine: what is decided.
        hands: the worker processes, by wid; it changes under us.
        manager: the service manager.
        control: where others ask; None for nowhere.
        backlog: tells about how many keys are ready, None if that is not known now.
        trouble: tells why the source cannot be reached, "" while it can.
        log: where its sentences go.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        hands: Mapping[int, Hands],
        *,
        manager: ServiceManager,
        control: ControlServer | None,
        backlog: Callable[[], int | None],
        trouble: Callable[[], str],
        log: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._machine, self._hands = name, machine, hands
        self._manager, self._control, self._backlog, self._clock = manager, control, backlog, clock
        self._trouble, self._log = trouble, log
        self._began_at = self._show_at = self._alive_at = self._extend_at = clock()
        self._counted: tuple[float, int] = (clock(), 0)
        self._per_s = 0.0
        self._ready: int | None = None
        self._shown_trouble = ""
        self._told_ready = self._told_stopping = False
        self._waiting: list[Request] = []
        self._waiting_reload: list[tuple[int, Request]] = []  # with the number of the reload that each asked for
        self._reloads = 0
        self._reload: dict[str, Any] | None = None
        self._reload_at = 0.0

    def waits_for_source(self, words: str) -> None:
        """Say that the start is held up by the source: that is no reason to end us."""
        self._manager.status(words)
        self._manager.extend_timeout(PATIENCE_S + SHOW_INTERVAL_S)
        self._feed_watchdog(self._clock())

    def turn(self) -> None:
        """Tell what has changed; called after each full turn of the loop."""
        now, machine = self._clock(), self._machine
        if not self._told_ready and machine.manned:
            self._told_ready = True
            self._manager.ready()
            self._show_at = now
        if not self._told_stopping and machine.reason is not StopReason.NONE:
            self._told_stopping = True
            self._manager.stopping()
            self._show_at = self._extend_at = now
        if (self._told_stopping or machine.reloading) and now >= self._extend_at:
            self._extend_at = now + SHOW_INTERVAL_S
            self._manager.extend_timeout(PATIENCE_S + SHOW_INTERVAL_S)
        if now >= self._show_at or self._trouble() != self._shown_trouble:
            self._show(now)
        self._feed_watchdog(now)
        self._answer_waiting()

    def _feed_watchdog(self, now: float) -> None:
        interval_s = self._manager.alive_interval_s
        if interval_s is not None and now >= self._alive_at:
            self._alive_at = now + interval_s
            self._manager.alive()

    def next_deadline(self) -> float | None:
        """Return when `turn` is needed even if nothing happens; None for never."""
        if not self._manager.listens:
            return None
        times = [self._show_at]
        if self._manager.alive_interval_s is not None:
            times.append(self._alive_at)
        return min(times)

    def reload_begun(self) -> None:
        """Note that a reload is under way."""
        self._reload_at = self._clock()
        self._reloads += 1
        self._reload = {"ok": None, "words": "the reload is under way"}
        if self._told_ready:
            self._manager.reloading(self._reload_at)
        self._show_at = self._reload_at

    def reload_ended(self, *, ok: bool, words: str) -> None:
        """Note how a reload ended and answer those who wait for that."""
        self._reload_at = self._clock()
        self._reload = {"ok": ok, "words": words}
        if self._told_ready and self._machine.reason is StopReason.NONE:
            self._manager.ready()
        self._show_at = self._reload_at
        # One that was asked for while another was under way comes after that, and only then is answered.
        for number, request in list(self._waiting_reload):
            if number <= self._reloads:
                self._waiting_reload.remove((number, request))
                self._answer(request, ok=ok, words=words)

    def take(self) -> list[e.Event]:
        """Return what was asked for, as events; what can be answered at once is."""
        asked: list[e.Event] = []
        for request in self._control.take() if self._control is not None else ():
            if refusal := self._refusal(request):
                self._answer(request, ok=False, words=refusal)
                continue
            if event := REQUESTS.get(request.command):
                self._log.info("%s was asked for on the control socket", request.command)
                asked.append(event)
            if request.wait and request.command == "reload":
                self._waiting_reload.append((self._reloads + 1, request))
            elif request.wait:
                self._waiting.append(request)
            else:
                self._answer(request, ok=True, words=_received(request.command))
        return asked

    def finished(self, report: DrainReport) -> None:
        """Tell everybody who waits that nothing is left."""
        self._manager.status(report.words())
        for request in [*self._waiting, *(request for _, request in self._waiting_reload)]:
            stop = request.command in ("drain", "stop")
            words = report.words() if stop else "the supervisor has stopped"
            self._answer(request, ok=stop, words=words, report=report.as_data())
        self._waiting.clear()
        self._waiting_reload.clear()

    def close(self) -> None:
        """Let go of both sockets."""
        if self._control is not None:
            self._control.close()
        self._manager.close()

    # ---- answers

    def _refusal(self, request: Request) -> str:
        stopping = self._machine.reason is not StopReason.NONE
        if stopping and request.command in ("reload", "quiet", "resume"):
            return f"the supervisor is stopping: there is nothing to {request.command} any more"
        return ""

    def _answer_waiting(self) -> None:
        for request in list(self._waiting):
            if request.gone:
                self._waiting.remove(request)
            elif words := self._fact(request.command):
                self._waiting.remove(request)
                self._answer(request, ok=True, words=words)

    def _fact(self, command: str) -> str:
        """Return the words for what a request waited for, "" while it has not come about."""
        machine = self._machine
        if command == "status" and machine.manned:
            return "every worker is on duty"
        if command == "quiet" and machine.quiet and not machine.holding():
            return "quiet: nothing is running and no new work is taken"
        if command == "resume" and not machine.quiet:
            return "takes work again"
        return ""

    def _answer(self, request: Request, *, ok: bool, words: str, report: Mapping[str, Any] | None = None) -> None:
        if request.gone:
            return
        self._count(self._clock())
        if request.command == "status":
            self._ready = self._backlog()
        request.answer({"ok": ok, "words": words, "status": self._status(), "report": report})

    def _status(self) -> dict[str, Any]:
        now = self._clock()
        reload = None if self._reload is None else self._reload | {"ago_s": round(now - self._reload_at, 3)}
        return snapshot(self._name, self._machine, self._hands, now) | {
            "uptime_s": round(now - self._began_at, 3),
            "per_s": round(self._per_s, 1),
            "ready": self._ready,
            "trouble": self._trouble() or None,
            "reload": reload,
        }

    # ---- the status line

    def _show(self, now: float) -> None:
        self._show_at, self._shown_trouble = now + SHOW_INTERVAL_S, self._trouble()
        self._count(now)
        if self._manager.listens:  # else nobody reads it, and asking costs a statement
            self._ready = self._backlog()
            self._manager.status(self._line())

    def _count(self, now: float) -> None:
        since, settled = self._counted
        if now - since >= 1.0:
            self._per_s = (self._machine.settled - settled) / (now - since)
            self._counted = now, self._machine.settled

    def _line(self) -> str:
        machine = self._machine
        serving = sum(member.serving for member in machine.members.values())
        busy = sum(member.running() is not None for member in machine.members.values())
        parts = [f"{serving} worker{'s' * (serving != 1)}", f"{busy} busy", f"{self._per_s:,.0f} jobs/s"]
        if self._ready is not None:
            parts.append(f"{self._ready:,} ready")
        if machine.quiet:
            parts.append("quiet")
        if trouble := self._trouble():
            parts.append(trouble)
        if self._reload is not None and self._reload["ok"] is not True:
            parts.append(self._reload["words"])
        if machine.degraded:
            parts.append(f"degraded: {machine.degraded}")
        state = "" if machine.reason is StopReason.NONE else f"{machine.state.value}: "
        return state + ", ".join(parts)


def _received(command: str) -> str:
    return {"status": "running"}.get(command, f"{command}: asked for")
