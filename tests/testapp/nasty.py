"""Jobs that misbehave, each in one way."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from django.db import DatabaseError, connection, transaction

from jobsup import task

from .traces import leave_trace

if TYPE_CHECKING:
    from jobsup.compat import TaskContext


class NotAnExceptionError(BaseException):
    """Slips through `except Exception`."""


class UnpicklableError(Exception):
    """Cannot be pickled, copied or printed."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("this error cannot be printed")

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("this error cannot be pickled")


@task(takes_context=True)
def kill_self(context: TaskContext[Any, Any]) -> None:
    """Die at once, by the signal that nobody can catch."""
    leave_trace(context)
    os.kill(os.getpid(), signal.SIGKILL)


@task(takes_context=True)
def exit_with(context: TaskContext[Any, Any], code: int) -> None:
    """Leave the process without unwinding."""
    leave_trace(context)
    os._exit(code)


@task
def sys_exit(code: int | None = None) -> None:
    """Ask Python to leave."""
    sys.exit(code)


@task(takes_context=True)
def segfault(context: TaskContext[Any, Any]) -> None:
    """Read where nothing is."""
    leave_trace(context)
    ctypes.string_at(0)


@task(takes_context=True)
def fork_and_return(context: TaskContext[Any, Any]) -> int:
    """Return twice, from two processes."""
    leave_trace(context)
    os.fork()
    return os.getpid()


@task
def fork_grandchild_sleeper(seconds: float) -> int:
    """Leave a forked process behind that holds every descriptor of the worker; return its pid."""
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        os._exit(0)
    return pid


@task
def leave_orphan(seconds: float, path: str) -> None:
    """Fork twice, so that the grandchild has no parent any more; it sleeps, writes a file and ends."""
    if child := os.fork():
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        time.sleep(seconds)
        Path(path).touch()
    os._exit(0)


@task
def close_all_fds() -> None:
    """Close everything but the standard streams."""
    os.closerange(3, 4096)


@task(takes_context=True)
def leave_transaction_open(context: TaskContext[Any, Any]) -> None:
    """Return with a transaction under way and a write in it."""
    transaction.set_autocommit(False)
    leave_trace(context)


@task
def break_transaction() -> None:
    """Swallow a database error inside a transaction that stays open."""
    transaction.set_autocommit(False)
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


@task
def change_session() -> None:
    """Leave another language, directory, umask and a closed connection behind."""
    from django.utils import timezone, translation

    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    os.chdir("/")
    os.umask(0)
    connection.close()


@task
def raise_base_exception() -> None:
    """Raise what `except Exception` does not see."""
    raise NotAnExceptionError("not an Exception")


@task
def interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


@task
def huge_error(chars: int) -> None:
    """Fail with a very long message."""
    raise ValueError("x" * chars)


@task
def deep_error() -> None:
    """Fail by recursion without end."""

    def deeper() -> None:
        deeper()

    deeper()


@task
def unpicklable_error() -> None:
    """Fail with an error that fails itself."""
    raise UnpicklableError


@task
def nul_error() -> None:
    """Fail with text that databases refuse."""
    raise ValueError("before\0after \ud800")


@task
def bad_result() -> Any:
    """Return what JSON cannot hold."""
    return object()


@task
def nan_result() -> float:
    """Return what only Python's JSON can hold."""
    return float("nan")


@task
def nul_result() -> str:
    """Return text that databases refuse."""
    return "before\0after \ud800"


@task(takes_context=True)
def ignore_term(context: TaskContext[Any, Any], seconds: float) -> None:
    """Be deaf to a polite request for a while."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave_trace(context)
    time.sleep(seconds)


@task
def print_fds() -> list[str]:
    """Return the descriptors that a program started by a job finds open."""
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    return listing.stdout.splitlines()


@task
def environment() -> dict[str, str]:
    """Return the environment that a job sees."""
    return dict(os.environ)


@task
def signal_state() -> dict[str, list[int]]:
    """Return the signals that a job finds blocked and ignored."""
    return {
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "ignored": sorted(number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN),
    }


@task(takes_context=True)
def ignore_everything(context: TaskContext[Any, Any], seconds: float) -> None:
    """Be deaf to every signal that a process may be deaf to."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    leave_trace(context)
    time.sleep(seconds)


@task
def leave_thread(seconds: float) -> None:
    """Leave a thread behind that the interpreter would wait for."""
    threading.Thread(target=time.sleep, args=(seconds,)).start()


@task
def spoil_session() -> bool:
    """Point the session to where none of our tables are."""
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO pg_catalog")
    return True
