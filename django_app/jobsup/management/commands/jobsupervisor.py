"""`manage.py jobsupervisor`: run the supervisor and its workers until told to stop."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError
from django.db import connections, router

from jobsup import conf, logs, queues
from jobsup.models import Job
from jobsup.source import DatabaseSource
from spawnpool.errors import AlreadyRunning, LimitError, RunOver, SourceRefused
from spawnpool.limits import Limits
from spawnpool.process import fill_standard_streams
from spawnpool.runfile import RunFile
from spawnpool.states import ExitCode
from spawnpool.supervisor import Supervisor
from spawnpool.worker import WorkerSpec

BEATS_PER_LEASE = 3


class Command(BaseCommand):
    """Run jobs on a fixed set of worker processes. TERM drains, INT twice or QUIT stops now, HUP reloads."""

    help = __doc__ or ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fill_standard_streams()
        super().__init__(*args, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options; what is not given comes from the setting JOBSUP."""
        parser.add_argument("--workers", type=int, metavar="N", help="worker processes (JOBSUP['WORKERS'], 2)")
        parser.add_argument(
            "--queue", action="append", default=[], metavar="NAME", dest="queues",
            help="serve this queue; may be given several times (default: all queues in TASKS)",
        )  # fmt: skip
        parser.add_argument("--name", help="name of this supervisor, one of a kind on this machine ('default')")
        parser.add_argument("--grace", type=float, metavar="SECONDS", help="how long TERM lets running jobs go on (30)")
        parser.add_argument(
            "--exit-when-empty",
            action="store_true",
            help="drain and exit when no job is ready, running or to be retried",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Refuse settings that cannot work in one sentence, before the system checks tell them in their own form."""
        try:
            conf.load()
            queues.served(options["queues"])
            return super().execute(*args, **options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=ExitCode.BAD_CONFIG) from error
        except SystemCheckError as error:
            error.returncode = ExitCode.BAD_CONFIG
            raise

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the supervisor; the exit code of the process is its own."""
        logs.set_up(options["verbosity"])
        try:
            settings = self._settings(options)
            code = self._run(settings, options)
        except AlreadyRunning as error:
            raise CommandError(
                f"{error}: stop that supervisor, or give this one another --name", returncode=ExitCode.BAD_CONFIG
            ) from error
        except (ImproperlyConfigured, LimitError, SourceRefused) as error:
            raise CommandError(str(error), returncode=ExitCode.BAD_CONFIG) from error
        except RunOver as error:
            raise CommandError(str(error), returncode=ExitCode.RUN_OVER) from error
        if code:
            raise SystemExit(code)

    def _run(self, settings: conf.Conf, options: dict[str, Any]) -> int:
        served = queues.served(options["queues"])
        limits = self._limits(settings, options)
        fixed = {"workers": options["workers"], "grace_s": options["grace"]}
        runfile = RunFile(run_path(settings))
        try:
            source = DatabaseSource(settings, served, runfile, options["verbosity"])
            supervisor = Supervisor(
                source,
                WorkerSpec("jobsup", "jobsup.boot.make_runner"),
                dataclasses.replace(limits, poll_interval_s=source.poll_interval_s),
                name=settings.name,
                log=logging.getLogger("jobsup.supervisor"),
                fixed=frozenset(name for name, given in fixed.items() if given is not None),
                on_workers=runfile.write_workers,
                last=True,
            )
            return supervisor.run()
        finally:
            runfile.release()

    @staticmethod
    def _settings(options: dict[str, Any]) -> conf.Conf:
        settings = conf.load()
        for option, name in (("name", "name"), ("workers", "workers"), ("grace", "grace_s")):
            if (value := options[option]) is not None:
                settings = dataclasses.replace(settings, **{name: conf.checked(f"--{option}", name, value)})
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            raise ImproperlyConfigured(
                "DJANGO_SETTINGS_MODULE is not set: workers are fresh processes and find the settings by that name only"
            )
        return settings

    @staticmethod
    def _limits(settings: conf.Conf, options: dict[str, Any]) -> Limits:
        return Limits(
            workers=settings.workers,
            grace_s=settings.grace_s,
            boot_timeout_s=settings.boot_timeout_s,
            beat_interval_s=settings.lease_s / BEATS_PER_LEASE,
            exit_when_empty=options["exit_when_empty"],
        )


def run_path(settings: conf.Conf) -> Path:
    """Return where the run file of a supervisor stands: one per user, project database and name."""
    database = connections[router.db_for_write(Job)].settings_dict
    place = [str(database.get(key, "")) for key in ("ENGINE", "HOST", "PORT", "NAME")]
    digest = hashlib.sha256("\0".join(place).encode()).hexdigest()[:8]
    folder = settings.run_dir or os.environ.get("RUNTIME_DIRECTORY")
    base = Path(folder) if folder else Path(tempfile.gettempdir()) / f"jobsup-{os.getuid()}"
    return base / f"{settings.name}-{digest}.run"
