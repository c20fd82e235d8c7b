"""Jobs that spoil their worker, each in one way, and one that says what it finds.

The ways are plain functions as well, for tests that need no job. `state` and `session` are what the next job must find
as it was.
"""

from __future__ import annotations

import decimal
import faulthandler
import io
import locale
import os
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.utils import timezone, translation

from jobsup import task

if TYPE_CHECKING:
    from collections.abc import Callable

HANDLED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGPIPE, signal.SIGABRT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
)
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
LONG_S = 3600.0

kept: list[Any] = []
"""Keeps what must not be collected."""


def change_directory() -> None:
    """Go elsewhere."""
    os.chdir("/")


def lose_directory() -> None:
    """Go to where nothing is any more."""
    place = tempfile.mkdtemp()
    os.chdir(place)
    Path(place).rmdir()


def change_locale() -> None:
    """Take another locale, of the two that every system has."""
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def change_decimals() -> None:
    """Change the context of decimals in its place."""
    decimal.getcontext().prec = 5
    decimal.getcontext().traps[decimal.Inexact] = True


def replace_decimals() -> None:
    """Replace the context of decimals."""
    decimal.setcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP))


def replace_streams() -> None:
    """Put something else in the place of stdout and stderr."""
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()


def detach_stdout() -> None:
    """Wrap stdout anew, in the way that makes the old object useless."""
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")


def close_stderr() -> None:
    """Close descriptor 2."""
    os.close(2)


def redirect_stdout() -> None:
    """Have another file at descriptor 1."""
    fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, 1)
    os.close(fd)


def handle_signals() -> None:
    """Handle every signal that a worker cares for."""
    for number in HANDLED:
        signal.signal(number, lambda *_: None)


class Hostile:
    """A handler that nobody may compare."""

    def __call__(self, *_: object) -> None:
        """Handle nothing."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("leave me alone")

    __hash__ = object.__hash__


def ignore_abort() -> None:
    """Be deaf to what ends a worker that hangs, and to what makes it tell its stacks."""
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def block_signals() -> None:
    """Block every signal that a worker cares for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def set_alarms() -> None:
    """Start every timer; a handler for one of them."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    for timer in TIMERS:
        signal.setitimer(timer, LONG_S)


def leave_alarm_waiting() -> None:
    """Have an alarm go off while it is blocked: it kills as soon as nobody blocks it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.001, LONG_S)
    while signal.SIGALRM not in signal.sigpending():
        time.sleep(0.001)


def leave_thread() -> None:
    """Start a thread that goes on for long."""
    threading.Thread(target=time.sleep, args=(LONG_S,), name="goes on").start()


def leave_ending_thread() -> None:
    """Start a thread that ends soon."""
    threading.Thread(target=time.sleep, args=(0.01,)).start()


def leave_daemon_thread() -> None:
    """Start a thread that nobody waits for."""
    threading.Thread(target=time.sleep, args=(LONG_S,), daemon=True).start()


def leave_idle_executor() -> None:
    """Keep an executor that has worked and waits for more."""
    kept.append(ThreadPoolExecutor(2))
    kept[-1].submit(time.sleep, 0).result()


def leave_busy_executor() -> None:
    """Leave an executor at work."""
    begun = threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(LONG_S)

    kept.append(ThreadPoolExecutor(2, thread_name_prefix="busy"))
    kept[-1].submit(work)
    begun.wait()


def run_coroutine() -> None:
    """Run a coroutine, which takes threads of asgiref."""

    async def nothing() -> None:
        pass

    async_to_sync(nothing)()


def be_tidy() -> None:
    """Change many things for a while, and raise the flags of decimals as ordinary arithmetic does."""
    with translation.override("de"), timezone.override("Asia/Tokyo"), decimal.localcontext(prec=5):
        decimal.Decimal(1) / decimal.Decimal(3)
    decimal.Decimal(1) / decimal.Decimal(3)
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handler)
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()
    thread.join()


def leave_transaction() -> None:
    """Return from within a transaction."""
    transaction.atomic().__enter__()
    execute("SELECT 1")


def switch_autocommit_off() -> None:
    """Return with autocommit off."""
    transaction.set_autocommit(False)


def execute(*statements: str) -> None:
    """Execute statements on the connection that the next job gets."""
    for statement in statements:
        with connection.cursor() as cursor:
            cursor.execute(statement)


WAYS: dict[str, Callable[[], object]] = {
    "umask": lambda: os.umask(0),
    "directory": change_directory,
    "lost directory": lose_directory,
    "locale": change_locale,
    "decimals": change_decimals,
    "replaced decimals": replace_decimals,
    "language": lambda: translation.activate("de"),
    "no language": translation.deactivate_all,
    "time zone": lambda: timezone.activate("Asia/Tokyo"),
    "streams": replace_streams,
    "detached stdout": detach_stdout,
    "closed stderr": close_stderr,
    "redirected stdout": redirect_stdout,
    "handlers": handle_signals,
    "abort": ignore_abort,
    "hostile handler": lambda: signal.signal(signal.SIGTERM, Hostile()),
    "mask": block_signals,
    "alarms": set_alarms,
    "waiting alarm": leave_alarm_waiting,
    "faulthandler": faulthandler.disable,
    "thread": leave_thread,
    "ending thread": leave_ending_thread,
    "daemon thread": leave_daemon_thread,
    "idle executor": leave_idle_executor,
    "busy executor": leave_busy_executor,
    "coroutine": run_coroutine,
    "nothing": be_tidy,
    "transaction": leave_transaction,
    "autocommit": switch_autocommit_off,
}


# What hygiene is to say to them: put back; not to be put back; nothing to tell.
RESTORED: dict[str, list[str]] = {
    "umask": ["the umask"],
    "directory": ["the working directory"],
    "lost directory": ["the working directory"],
    "locale": ["the locale"],
    "decimals": ["the context of decimals"],
    "replaced decimals": ["the context of decimals"],
    "language": ["the active language"],
    "no language": ["the active language"],
    "time zone": ["the active time zone"],
    "streams": ["sys.stdout", "sys.stderr"],
    "mask": ["blocked signals"],
    "alarms": ["an alarm (SIGALRM)", "an alarm (SIGVTALRM)", "an alarm (SIGPROF)", "a handler of SIGALRM"],
    "waiting alarm": ["an alarm (SIGALRM)", "blocked signals"],
    "abort": ["a handler of SIGUSR2", "a handler of SIGABRT"],
    "faulthandler": ["faulthandler"],
}
SPOILED = {
    "thread": "a thread that goes on (goes on)",
    "busy executor": "a thread that goes on (busy_0)",
    "hostile handler": "something that cannot be looked at (builtins.RuntimeError)",
    "detached stdout": "sys.stdout, replaced after it was closed or detached",
    "closed stderr": "descriptor 2 (stderr), closed or replaced",
    "redirected stdout": "descriptor 1 (stdout), closed or replaced",
}
FORGIVEN = ["nothing", "ending thread", "daemon thread", "idle executor", "coroutine"]


def state() -> dict[str, Any]:
    """Return what the process is like; only things that JSON can hold."""
    decimals = decimal.getcontext()
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "umask": mask,
        "directory": str(Path.cwd()),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimals": [
            decimals.prec,
            decimals.rounding,
            sorted(trap.__name__ for trap in decimals.traps if decimals.traps[trap]),
        ],
        "language": translation.get_language(),
        "time zone": str(timezone.get_current_timezone()),
        "streams": [type(stream).__name__ for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "descriptors": [str((Path("/proc/self/fd") / str(fd)).readlink()) for fd in range(3)],
        "handlers": {number.name: _name(signal.getsignal(number)) for number in HANDLED},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timers": [signal.getitimer(timer) for timer in TIMERS],
        "faulthandler": faulthandler.is_enabled(),
        "threads": sorted(thread.name for thread in threading.enumerate() if not thread.daemon),
    }


def session() -> dict[str, Any]:
    """Return what the database session is like."""
    connection.ensure_connection()
    found: dict[str, Any] = {"atomic": connection.in_atomic_block, "autocommit": connection.get_autocommit()}
    questions = {
        "postgresql": (
            "SELECT current_setting('search_path'), current_setting('statement_timeout'), current_user, "
            "(SELECT count(*) FROM pg_listening_channels()), "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), "
            "(SELECT count(*) FROM pg_prepared_statements WHERE from_sql), "
            "(SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())"
        ),
        "sqlite": (
            "SELECT (SELECT foreign_keys FROM pragma_foreign_keys), (SELECT cache_size FROM pragma_cache_size), "
            "(SELECT count(*) FROM pragma_database_list WHERE name NOT IN ('main', 'temp')), "
            "(SELECT count(*) FROM sqlite_temp_master)"
        ),
    }
    with connection.cursor() as cursor:
        cursor.execute(questions[connection.vendor])
        found["session"] = list(cursor.fetchone() or ())
    return found


def _name(handler: Any) -> str:
    return getattr(handler, "__qualname__", None) or str(handler)


@task
def spoil(way: str) -> int:
    """Spoil one thing; return the pid."""
    WAYS[way]()
    return os.getpid()


@task
def spoil_session(*statements: str) -> int:
    """Spoil the session; return the pid."""
    execute(*statements)
    return os.getpid()


@task
def tell_stacks() -> int:
    """Have this process write its stacks to stderr; return the pid. It dies of that if hygiene was careless."""
    os.kill(os.getpid(), signal.SIGUSR2)
    return os.getpid()


@task
def look_around() -> dict[str, Any]:
    """Return what this job finds, and the pid."""
    return {"pid": os.getpid(), "state": state(), "session": session()}
