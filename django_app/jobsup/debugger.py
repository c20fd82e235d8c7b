"""For development: a worker whose failing jobs open the debugger on the terminal that it shares with its supervisor."""

from __future__ import annotations

import bdb
import contextlib
import inspect
import os
import pdb  # noqa: T100  # this is what it is for
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from jobsup.queues import named
from jobsup.registry import find_task
from jobsup.runner import Runner
from jobsup.sql import LoadedRow
from jobsup.text import printable
from spawnpool.bounds import NO_BOUNDS, Bounds
from spawnpool.pools import Pool

if TYPE_CHECKING:
    from spawnpool.source import Reports

_STDIN = 0


class DebuggedRunner(Runner):
    """A runner without limits whose jobs are debugged where they fail, and at each `breakpoint()`."""

    def __init__(self, number: int, reports: Reports, run: int, verbosity: int) -> None:
        # Before the hygiene takes what it finds for clean. multiprocessing has put /dev/null there; the descriptor
        # itself was inherited.
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115  # stays open as long as the process
        _give_terminal_back()  # in case that a worker was killed in its debugger
        if "PYTHONBREAKPOINT" not in os.environ:
            sys.breakpointhook = _stop_here
        super().__init__(number, reports, run, verbosity, around=post_mortem)

    def bounds(self, pk: int) -> Bounds:
        """Return no limits: whoever looks around in a job takes their time."""
        return NO_BOUNDS

    def pools(self) -> Sequence[Pool]:
        """Return one worker for every queue, whatever the settings say."""
        return (Pool(workers=1, feeds=named()),)


class Debugger(pdb.Pdb):
    """pdb with the terminal to itself for as long as it asks; it sets no handlers of its own."""

    def __init__(self) -> None:
        super().__init__(nosigint=True)

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        """Ask until the program is to go on."""
        with _foreground():
            super().interaction(*args, **kwargs)


@contextlib.contextmanager
def post_mortem(row: LoadedRow) -> Iterator[None]:
    """Open the debugger where a job raised; what it raised goes on when the debugger is left."""
    try:
        yield
    except bdb.BdbQuit:  # a breakpoint was left by "quit"
        raise
    except Exception as error:
        own = _own(error, row.task)
        sys.stdout.write(f"\njob {row.id} {row.task}, attempt {row.attempt}, failed:\n")
        sys.stdout.write(printable("".join(traceback.format_exception(type(error), error, own))))
        sys.stdout.write("This is pdb where it was raised; q goes on, and the failure is recorded.\n")
        debugger = Debugger()
        debugger.reset()
        debugger.interaction(None, own)
        raise


def _own(error: BaseException, path: str) -> TracebackType | None:
    """Return an exception's traceback from the task's function on: without what called it."""
    code = getattr(inspect.unwrap(find_task(path).func), "__code__", None)
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code is not code:
        step = step.tb_next
    return step or error.__traceback__


def _stop_here(*_args: Any, **_kwargs: Any) -> None:
    """Do what `breakpoint()` does."""
    Debugger().set_trace(sys._getframe(1))  # noqa: SLF001  # pdb's own way


@contextlib.contextmanager
def _foreground() -> Iterator[None]:
    """Have the terminal and its Ctrl-C for this process alone, as a shell gives it to a command.

    Else a Ctrl-C at the prompt would stop the supervisor.
    """
    interrupts = threading.current_thread() is threading.main_thread()  # a coroutine runs in another one
    before = signal.signal(signal.SIGINT, signal.default_int_handler) if interrupts else None
    with contextlib.suppress(OSError):  # this is nobody's controlling terminal: nothing comes from its keys
        os.setpgid(0, 0)
        os.tcsetpgrp(_STDIN, os.getpgrp())
    try:
        yield
    finally:
        _give_terminal_back()
        if interrupts:
            signal.signal(signal.SIGINT, before)


def _give_terminal_back() -> None:
    """Be in the supervisor's process group, and have that one in the foreground; a worker ignores SIGTTOU."""
    with contextlib.suppress(OSError):
        group = os.getpgid(os.getppid())
        os.tcsetpgrp(_STDIN, group)
        os.setpgid(0, group)
