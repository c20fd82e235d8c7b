"""Signals as data: handlers do nothing, the numbers wait in a pipe that the loop selects on."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType
from typing import Any

SUPERVISOR_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def _nothing(_signum: int, _frame: FrameType | None) -> None:
    """Only there so that Python writes the number to the wake-up descriptor."""


class SignalTray:
    """Collects the supervisor's signals while it is entered.

    `fileno()` becomes readable when a signal has arrived; `take()` returns the numbers in order of arrival.

    Args:
        last: the process ends afterwards, so what still arrives is ignored; else the handlers of before come back.
    """

    def __init__(self, *, last: bool = False) -> None:
        self._last = last

    def __enter__(self) -> SignalTray:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._previous: dict[int, Any] = {}
        for signum in SUPERVISOR_SIGNALS:
            self._previous[signum] = signal.signal(signum, _nothing)
        # A dead reader of the log must not kill the supervisor.
        self._previous[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, signal.SIG_IGN if self._last else handler or signal.SIG_DFL)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """Return the descriptor to select on."""
        return self._reader

    def take(self) -> list[int]:
        """Return the numbers of the signals that arrived since the last call."""
        try:
            return list(os.read(self._reader, 4096))
        except BlockingIOError:
            return []


def block_terminal_signals() -> set[int | signal.Signals]:
    """Block what a terminal or an operator may send while a worker is spawned; return the mask to restore.

    The mask is inherited: a worker that is still booting cannot be ended by a Ctrl-C that is meant for the
    supervisor. `reset_worker_signals` lifts it.
    """
    return signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGTSTP, LOOK}
    )


LOOK = signal.SIGUSR1
"""What makes a worker look at its card."""


def reset_worker_signals(on_term: Any, on_look: Any) -> None:
    """Give a fresh worker signals of its own, whatever its parent ignored or blocked.

    Args:
        on_term: the handler of SIGTERM; the terminal's other signals are ignored, only the supervisor decides.
        on_look: the handler of `LOOK`.
    """
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_IGN)
    for signum in (signal.SIGCHLD, signal.SIGUSR2, signal.SIGCONT, signal.SIGABRT, signal.SIGALRM):
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Python's own default: a write fails with BrokenPipeError
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(LOOK, on_look)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
