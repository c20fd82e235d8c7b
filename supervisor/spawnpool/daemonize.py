"""Becoming a daemon on hosts without a service manager, and becoming another user.

The order that makes both safe, in one process from the start:

1. `process.fill_standard_streams`, else the next file opened may become one of them.
2. `become`: who it shall be; unknown names are told.
3. `PidFile`, as root if started so: a user other than root could make root's scripts signal any process.
4. `drop_privileges`: the kernel clears PR_SET_PDEATHSIG at a change of user, so it comes before every worker.
5. `detach`: opens the log as the user who opens it again after a rotation, and only then leaves the terminal.
6. Database connections, threads, multiprocessing: nothing of that may exist before, it would not survive.

What fails in 2 to 5 is told in the foreground. `detach` can do 4 as well.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import pwd
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import IO, Any

from daemon.daemon import DaemonContext, DaemonError, change_process_owner

from spawnpool.errors import SpawnpoolError
from spawnpool.logfile import LogFile

FAILED = 1
"""The exit code in the foreground when the daemon ended before it was ready to be one."""

NO_ID = 2**32 - 1
"""The uid and gid that mean nobody at all, see setreuid(2)."""

_log = logging.getLogger("spawnpool")


class CannotDetach(SpawnpoolError):
    """This process cannot become a daemon."""


def detach(
    *,
    umask: int,
    working_directory: Path,
    logfile: Path | None,
    uid: int | None,
    gid: int | None,
    keep: Iterable[int] = (),
    then: Callable[[], object] = lambda: None,
) -> bool:
    """Go on as a daemon, and let the command in the foreground end with exit code 0; return whether that was done.

    It is not done for a service manager, which would lose sight of the process: nothing is changed then.

    Args:
        umask: what files made from now on do not allow, such as 0o027.
        working_directory: where to go on.
        logfile: takes stdout and stderr; None for /dev/null.
        uid: of the user to become; None to stay who we are.
        gid: of that user's group.
        keep: descriptors that stay open though they were inherited; see `_preserved`.
        then: done by the daemon before the command in the foreground ends, such as `PidFile.write`.

    Raises:
        CannotDetach: in one sentence, still in the foreground.
        LogFileRefused: the log file cannot be opened.
    """
    if os.environ.get("NOTIFY_SOCKET"):
        _log.warning("a service manager started this process ($NOTIFY_SOCKET is set): it stays in the foreground")
        return False
    if fault := _fault():
        raise CannotDetach(f"cannot become a daemon: {fault}")
    folder = working_directory.absolute()
    if uid is not None or gid is not None:
        drop_privileges(os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid)
    os.umask(umask)  # the log file is made under it
    with _streams(logfile) as (null, log), _foreground(folder) as told:
        context = DaemonContext(
            chroot_directory=None,  # a prison needs more than this, and the code of the jobs in it
            working_directory=str(folder),  # not "/": relative names, as of an SQLite file, mean the same
            umask=umask,  # not 0: files that everybody can write
            uid=os.geteuid(),  # changed above: the log had to be opened by its user
            gid=os.getegid(),
            initgroups=False,  # the groups came with the user
            prevent_core=False,  # the machine's limit stays, also for workers: a core explains a crash in C
            detach_process=True,  # not guessed from the parent's pid, which is 1 in containers, too
            files_preserve=[told, *_preserved(keep)],
            pidfile=None,  # ours is locked before anything is given up
            stdin=null,
            stdout=log,
            stderr=log,
            signal_map={},  # the supervisor has handlers of its own; the default raises SystemExit anywhere at SIGTERM
        )
        try:
            context.open()
        except DaemonError as error:
            raise CannotDetach(f"cannot become a daemon: {error}") from error
        then()
    return True


def become(user: str | None, group: str | None) -> tuple[int, int]:
    """Return the uid and the gid of a user and a group.

    Args:
        user: name or number; None for the one we are.
        group: name or number; None for the user's own.

    Raises:
        CannotDetach: there is no such user or group.
    """
    uid, gid = os.geteuid(), os.getegid()
    if user is not None:
        uid, own = _user(user)
        if own is None and group is None:
            raise CannotDetach(f"user {uid} is not in the list of this machine's users: name a group for it, too")
        gid = gid if own is None else own
    return uid, gid if group is None else _group(group)


def drop_privileges(uid: int, gid: int) -> None:
    """Become another user for good, with that user's groups, HOME and name; before any worker is spawned.

    Raises:
        CannotDetach: only root can do that, and only for a user who may run this Python.
    """
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    if os.geteuid() != 0:
        raise CannotDetach(
            f"only root can become user {uid} of group {gid}, and this is user {os.geteuid()}: "
            "start it as root, or as that user"
        )
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        groups = []  # without a name there are none to look up, and root's must not stay
    else:
        groups = os.getgrouplist(entry.pw_name, gid)
        # As login does: libpq, for one, fails on files below a HOME that it may not enter.
        os.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)
    try:
        os.setgroups(groups)  # not left to the library: asked for the groups, it forgets the gid
        change_process_owner(uid, gid, initgroups=False)
    except (DaemonError, OSError) as error:
        raise CannotDetach(f"cannot become user {uid} of group {gid}: {error}") from error
    if not os.access(sys.executable, os.X_OK):  # as where it stands in root's home: not even imports would work
        raise CannotDetach(
            f"user {uid} cannot run {sys.executable} ({os.path.realpath(sys.executable)}), which every worker needs: "
            "use a Python that this user may run"
        )


def _fault() -> str | None:
    """Say what would not survive the forks."""
    tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001
    if tracker._fd is not None:  # noqa: SLF001
        return (
            "a resource tracker of multiprocessing runs already, whose descriptor would soon be another file's; "
            "make its locks, queues and processes when a job needs them"
        )
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        return (
            f"of {len(others) + 1} threads only one survives it, so {', '.join(sorted(others))} would be lost; "
            "start threads when a job needs them, not in settings or AppConfig.ready"
        )
    return None


def _preserved(keep: Iterable[int]) -> set[int]:
    """Return the descriptors that the daemon goes on with: `keep`, and what this program opened itself.

    Python opens everything close-on-exec (PEP 446), and what survived an exec is not, which tells the program's own
    from what the starter left open. Were the program's own closed, such as a log file of the settings, the number would
    soon be that of a database connection, into which the log is then written.
    """
    own = set(keep)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  # numbers, no paths
        with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
            if int(name) > 2 and not os.get_inheritable(int(name)):
                own.add(int(name))
    return own


@contextlib.contextmanager
def _streams(logfile: Path | None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Provide what becomes stdin, and what becomes stdout and stderr."""
    fd = os.open(os.devnull, os.O_WRONLY) if logfile is None else LogFile(logfile).open()
    with os.fdopen(fd, "wb", buffering=0) as log, Path(os.devnull).open("rb", buffering=0) as null:
        yield null, log


@contextlib.contextmanager
def _foreground(working_directory: Path) -> Iterator[int]:
    """Leave a process behind that ends when the daemon is there, so that who waits for it finds the pid file written.

    It ends with exit code 0 when the block is done, and with 1 when the daemon ends before.
    """
    try:
        os.chdir(working_directory)  # tried while its failure can still be told here
    except OSError as error:
        raise CannotDetach(
            f"cannot become a daemon: user {os.geteuid()} cannot enter {working_directory} ({error.strerror}); "
            "start it in another folder, or as another user"
        ) from error
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # to the terminal, not into the log
    reader, writer = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    if os.fork():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no KeyboardInterrupt: what is held here is the daemon's now
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else FAILED)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(reader)
    try:
        yield writer
        with contextlib.suppress(BrokenPipeError):  # nobody waits any more
            os.write(writer, b"+")
    finally:
        os.close(writer)


def _user(name: str) -> tuple[int, int | None]:
    """Return the uid of a user, and the gid if the machine knows that user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        uid = _number(name)
        if uid is None:
            raise CannotDetach(f"there is no user {name!r} on this machine: create it, or name another") from None
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return uid, None
    return entry.pw_uid, entry.pw_gid


def _group(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        gid = _number(name)
        if gid is None:
            raise CannotDetach(f"there is no group {name!r} on this machine: create it, or name another") from None
        return gid


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < NO_ID else None
