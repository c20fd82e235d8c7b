"""Being the supervisor of a project: becoming the process that it shall be, and running."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.db import connections

from jobsup import homes
from jobsup import queues as to_run
from jobsup.conf import Conf
from jobsup.places import begun_path, run_path
from jobsup.runner import pool_limits
from jobsup.source import DatabaseSource
from spawnpool.client import holder
from spawnpool.control import ControlServer, socket_path
from spawnpool.daemonize import CannotDetach, become, detach, drop_privileges
from spawnpool.errors import AlreadyRunning
from spawnpool.hooks import before_check
from spawnpool.limits import Limits
from spawnpool.logfile import LogFile
from spawnpool.pidfile import PidFile
from spawnpool.runfile import RunFile
from spawnpool.supervisor import Supervisor
from spawnpool.worker import WorkerSpec

BEATS_PER_LEASE = 3
RUNNER = "jobsup.boot.make_runner"
DEBUGGED_RUNNER = "jobsup.boot.make_debugged_runner"
DAEMON_UMASK = 0o027
"""No file of a daemon is open to the world; the group may read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The process that the supervisor shall be.

    Args:
        daemon: whether it leaves the terminal.
        pidfile: where its pid is to be found.
        logfile: takes stdout and stderr, its own and those of the workers.
        user: name or number of the user to become.
        group: name or number of the group to become.
        umask: what new files do not allow; None for `DAEMON_UMASK` or, in the foreground, what it is.
    """

    daemon: bool = False
    pidfile: Path | None = None
    logfile: Path | None = None
    user: str | None = None
    group: str | None = None
    umask: int | None = None


@contextlib.contextmanager
def process(wanted: Process, settings: Conf) -> Iterator[None]:
    """Be that process for the length of the block; the order is that of `spawnpool.daemonize`.

    Raises:
        SpawnpoolError: it cannot be; in one sentence.
    """
    if (
        wanted.pidfile is not None
        and wanted.logfile is not None
        and wanted.pidfile.resolve() == wanted.logfile.resolve()
    ):
        raise CannotDetach(f"--pidfile and --logfile are both {wanted.pidfile}: name two files")
    uid, gid = become(wanted.user, wanted.group)
    pidfile = None if wanted.pidfile is None else PidFile(wanted.pidfile)
    try:
        drop_privileges(uid, gid)
        connections.close_all()  # before any fork
        if wanted.daemon:
            path = run_path(settings)
            with contextlib.suppress(OSError):  # there is no such file, or it is another's: that is told later
                if pid := holder(path):  # while somebody can still read it
                    raise AlreadyRunning(f"process {pid} runs under this name already ({path})", pid)
        detached = wanted.daemon and detach(
            umask=DAEMON_UMASK if wanted.umask is None else wanted.umask,
            working_directory=Path.cwd(),
            logfile=wanted.logfile,
            uid=None,
            gid=None,
            keep=() if pidfile is None else (pidfile.fileno(),),
            then=(lambda: None) if pidfile is None else pidfile.write,
        )
        if not detached:
            if wanted.umask is not None:
                os.umask(wanted.umask)
            if wanted.logfile is not None:
                LogFile(wanted.logfile).use()
        yield
    finally:
        if pidfile is not None:
            pidfile.release()


def run(
    settings: Conf,
    queues: Sequence[str] | None,
    *,
    fixed: frozenset[str],
    exit_when_empty: bool,
    logfile: Path | None,
    verbosity: int,
    runner: str = RUNNER,
) -> int:
    """Run a supervisor until it is told to stop; return the exit code.

    Args:
        settings: of the project, with what the command line says.
        queues: which to serve, None for all.
        fixed: names of pool limits that the command line gave: a reload leaves them alone.
        exit_when_empty: whether to drain when nothing is left.
        logfile: what stdout and stderr are.
        verbosity: of the logging.
        runner: dotted name of what makes the workers' runners.

    Raises:
        AlreadyRunning: another process runs under this name.
        SourceRefused: it cannot work here.
    """
    faulthandler.enable()  # a service manager's watchdog sends SIGABRT: the log then says where the loop hung
    log = logging.getLogger("jobsup.supervisor")
    pools = to_run.pools(settings, queues)
    if not settings.pools and queues != to_run.named(homes.here()):
        fixed |= {"feeds"}
    path = run_path(settings)
    runfile = RunFile(path)
    before_check.register(runfile.keep)
    try:
        source = DatabaseSource(settings, pools, runfile, verbosity)
        supervisor = Supervisor(
            source,
            WorkerSpec("jobsup", runner, "" if logfile is None else str(logfile.absolute())),
            dataclasses.replace(
                Limits(
                    beat_interval_s=settings.lease_s / BEATS_PER_LEASE,
                    lease_s=settings.lease_s,
                    exit_when_empty=exit_when_empty,
                ).changed(pool_limits(settings)),
                poll_interval_s=source.poll_interval_s,
            ),
            pools=pools,
            name=settings.name,
            log=log,
            fixed=fixed,
            on_workers=runfile.write_workers,
            begun_path=lambda integers: begun_path(path, integers[0]),
            last=True,
            control=_control(path, log),
        )
        return supervisor.run()
    finally:
        before_check.unregister(runfile.keep)
        runfile.release()


def _control(path: Path, log: logging.Logger) -> ControlServer | None:
    """Return the control socket; without one the signals still work."""
    try:
        return ControlServer(socket_path(path))
    except OSError as error:
        log.warning("%s: `jobsupervisor status` and the like will not find this supervisor", error.strerror)
        return None
