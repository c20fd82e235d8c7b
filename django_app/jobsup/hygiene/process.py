"""What belongs to the whole process: standard streams, signals, timers, working directory, umask, locale."""

from __future__ import annotations

import contextlib
import faulthandler
import locale
import os
import signal
import sys
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # without the enums, which cost more
from collections.abc import Callable
from functools import partial
from os import fstat
from signal import getitimer
from typing import Any

from jobsup.hygiene.leftovers import Findings

_STREAMS = ("stdin", "stdout", "stderr")
_FATAL = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT)  # faulthandler.enable()
_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPIPE, signal.SIGCONT),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, *_FATAL),
)
_TIMERS: dict[int, signal.Signals] = {
    signal.ITIMER_REAL: signal.SIGALRM,
    signal.ITIMER_VIRTUAL: signal.SIGVTALRM,
    signal.ITIMER_PROF: signal.SIGPROF,
}
_OFF = (0.0, 0.0)
_STDERR = 2  # sys.stderr may be the job's


class Streams:
    """sys.stdin, sys.stdout and sys.stderr, and the descriptors 0, 1 and 2."""

    def __init__(self) -> None:
        self._objects = sys.stdin, sys.stdout, sys.stderr
        self.descriptors_changed()

    def descriptors_changed(self) -> None:
        """Take what the descriptors are now for what they should be."""
        self._identities = [_identity(fd) for fd in range(3)]

    def restore(self, findings: Findings) -> None:
        """Put the objects back; say which descriptors were closed or replaced."""
        stdin, stdout, stderr = self._objects
        if sys.stdin is not stdin or sys.stdout is not stdout or sys.stderr is not stderr:
            self._restore_objects(findings)
        for fd, inode, device in self._identities:
            try:
                status = fstat(fd)
                if status.st_ino == inode and status.st_dev == device:
                    continue
            except OSError:
                if inode is None:
                    continue
            findings.spoiled.append(f"descriptor {fd} ({_STREAMS[fd]}), closed or replaced")

    def _restore_objects(self, findings: Findings) -> None:
        for name, stream in zip(_STREAMS, self._objects, strict=True):
            if getattr(sys, name) is stream:
                continue
            if _is_usable(stream):
                setattr(sys, name, stream)
                findings.restored.append(f"sys.{name}")
            else:
                findings.spoiled.append(f"sys.{name}, replaced after it was closed or detached")


class Signals:
    """Handlers, the mask of blocked signals, interval timers, faulthandler.

    A handler that a library installs from C is seen only where Python knew another one before. A timer that runs from
    the start is somebody else's and left alone.

    Args:
        on_faulthandler_off: switches faulthandler on again as the worker has it; without it, it tells stderr.
    """

    def __init__(self, on_faulthandler_off: Callable[[], None] | None) -> None:
        self._handlers = tuple(map(getsignal, _SIGNALS))
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        self._timers = [timer for timer in _TIMERS if getitimer(timer) == _OFF]
        self._faulthandler = faulthandler.is_enabled()
        self._switch_on = on_faulthandler_off or partial(faulthandler.enable, file=_STDERR)

    def restore(self, findings: Findings) -> None:
        """Put everything back, the timers first: their handlers are the job's."""
        for timer in self._timers:
            if getitimer(timer) != _OFF:
                self._cancel(timer, findings)
        if tuple(map(getsignal, _SIGNALS)) != self._handlers:
            self._restore_handlers(findings)
        if pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            self._restore_mask(findings)
        if self._faulthandler and not faulthandler.is_enabled():
            self._switch_on()
            findings.restored.append("faulthandler")

    def _cancel(self, timer: int, findings: Findings) -> None:
        with contextlib.suppress(BaseException):  # of the job's handler, if it goes off right now
            signal.setitimer(timer, 0)
        findings.restored.append(f"an alarm ({_TIMERS[timer].name})")

    def _restore_handlers(self, findings: Findings) -> None:
        """Put handlers back, and those of faulthandler over them, which Python does not know."""
        fatal = False
        for signum, handler in zip(_SIGNALS, self._handlers, strict=True):
            if getsignal(signum) == handler:
                continue
            if handler is None:
                findings.spoiled.append(f"a handler of {signum.name}, in the place of one from C")
                continue
            signal.signal(signum, handler)
            findings.restored.append(f"a handler of {signum.name}")
            if signum in _FATAL:
                fatal = True
            elif _unregister(signum):
                faulthandler.register(signum, file=_STDERR, all_threads=True)
        if fatal and self._faulthandler:
            faulthandler.disable()
            self._switch_on()

    def _restore_mask(self, findings: Findings) -> None:
        """Unblock signals, after those of a cancelled timer that wait were thrown away: they would end the process."""
        for signum in signal.sigpending() & set(_TIMERS.values()):
            handler = signal.signal(signum, signal.SIG_IGN)
            signal.signal(signum, handler)
        pthread_sigmask(signal.SIG_SETMASK, self._mask)
        findings.restored.append("blocked signals")


class Surroundings:
    """Working directory, umask, locale."""

    def __init__(self) -> None:
        self._directory = _directory()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._locale = locale.setlocale(locale.LC_ALL)

    def restore(self, findings: Findings) -> None:
        """Put them back."""
        if os.umask(self._umask) != self._umask:
            findings.restored.append("the umask")
        if self._directory is not None and _directory() != self._directory:
            self._restore_directory(self._directory, findings)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
            findings.restored.append("the locale")

    def _restore_directory(self, directory: str, findings: Findings) -> None:
        try:
            os.chdir(directory)
        except OSError as error:
            findings.spoiled.append(f"the working directory {directory}: {error.strerror}")
        else:
            findings.restored.append("the working directory")


def _identity(fd: int) -> tuple[int, int | None, int | None]:
    """Return a descriptor with the inode and device that it leads to, None if it is closed."""
    try:
        status = fstat(fd)
    except OSError:
        return fd, None, None
    return fd, status.st_ino, status.st_dev


def _unregister(signum: int) -> bool:
    """Have faulthandler forget a signal; True if it was registered there."""
    answer: object = faulthandler.unregister(signum)  # type: ignore[func-returns-value]  # it does
    return answer is True


def _is_usable(stream: Any) -> bool:
    with contextlib.suppress(ValueError):  # "underlying buffer has been detached"
        return stream is None or not stream.closed
    return False


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # a Path costs ten times as much
    except OSError:
        return None
