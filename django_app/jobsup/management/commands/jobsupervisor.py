"""`manage.py jobsupervisor`: run the supervisor and its workers until told to stop, or talk to one that runs."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError

from jobsup import conf, control, homes, logs, queues, service
from jobsup.autoreload import watching
from spawnpool.control import COMMANDS
from spawnpool.daemonize import CannotDetach
from spawnpool.errors import AlreadyRunning, SpawnpoolError
from spawnpool.process import fill_standard_streams
from spawnpool.states import ExitCode

RUN = "run"


class Command(BaseCommand):
    """Run jobs on a fixed set of worker processes, or talk to the supervisor that does.

    TERM drains, INT twice or QUIT stops now, HUP reloads, TSTP and CONT pause and resume, TTIN and TTOU change the
    number of workers, USR1 opens the log file anew, USR2 logs the state of everything.
    """

    help = __doc__ or ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        fill_standard_streams()
        super().__init__(*args, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options; what is not given comes from the setting JOBSUP."""
        parser.add_argument(
            "action", nargs="?", default=RUN, choices=(RUN, *COMMANDS), metavar="ACTION",
            help="run (the default), or tell a running supervisor to: drain (finish what runs, then end), stop (end "
            "now), reload (new code and settings), quiet (take no new work), resume, status (show what it does)",
        )  # fmt: skip
        parser.add_argument("--name", help="name of the supervisor, one of a kind on this machine ('default')")
        parser.add_argument(
            "--database", metavar="ALIAS", help="the database whose jobs it runs (default: that of the router)"
        )
        asking = parser.add_argument_group("talking to a running supervisor")
        asking.add_argument("--wait", action="store_true", help="wait until it has come about")
        asking.add_argument("--timeout", type=float, metavar="SECONDS", help="how long to wait (for ever)")
        asking.add_argument("--json", action="store_true", help="print the answer as JSON")
        asking.add_argument(
            "--alive", action="store_true", help="status: exit with 0 also while it waits for its database"
        )
        running = parser.add_argument_group("running")
        running.add_argument("--workers", type=int, metavar="N", help="worker processes (JOBSUP['WORKERS'], 2)")
        running.add_argument(
            "--queue", action="append", default=[], metavar="NAME", dest="queues",
            help="serve this queue; may be given several times (default: all queues in TASKS)",
        )  # fmt: skip
        running.add_argument(
            "--grace", type=float, metavar="SECONDS", help="how long TERM lets running jobs go on (30)"
        )
        running.add_argument(
            "--exit-when-empty",
            action="store_true",
            help="drain and exit when no job is ready, running or to be retried",
        )
        developing = parser.add_argument_group("while developing")
        developing.add_argument(
            "--reload", action="store_true", help="reload whenever the project's code changes; needs DEBUG = True"
        )
        developing.add_argument(
            "--debug", action="store_true",
            help="one worker without limits; a job that fails opens the debugger on this terminal",
        )  # fmt: skip
        daemon = parser.add_argument_group("as a daemon, on hosts without a service manager")
        daemon.add_argument("--daemon", action="store_true", help="leave the terminal and go on in the background")
        daemon.add_argument("--pidfile", type=Path, metavar="FILE", help="write the pid there; one holder at a time")
        daemon.add_argument(
            "--logfile", type=Path, metavar="FILE", help="takes stdout and stderr; USR1 opens it anew after a rotation"
        )
        daemon.add_argument("--user", help="become this user (started as root only)")
        daemon.add_argument("--group", help="become this group (the user's own)")
        daemon.add_argument("--umask", type=octal, metavar="OCTAL", help="what new files do not allow (daemon: 027)")

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Refuse settings that cannot work in one sentence, before the system checks tell them in their own form."""
        try:
            conf.load()
            with homes.at(homes.checked(options["database"])):
                queues.served(options["queues"])
                return super().execute(*args, **options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=ExitCode.BAD_CONFIG) from error
        except SystemCheckError as error:
            error.returncode = ExitCode.BAD_CONFIG
            raise

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run the supervisor, or ask it; the exit code of the process is its own, or that of the answer."""
        logs.set_up(options["verbosity"])
        self._refuse_misplaced(options)
        self._refuse_where_it_cannot_be(options)
        if options["debug"]:  # nobody is hurried at the prompt, nor asked by two jobs at once
            options = {**options, "workers": 1, "grace": conf.WEEK_S if options["grace"] is None else options["grace"]}
        settings = self._settings(options)
        if options["action"] != RUN:
            code = control.run(
                options["action"],
                settings,
                wait=options["wait"],
                as_json=options["json"],
                alive=options["alive"],
                timeout_s=options["timeout"],
                stdout=self.stdout,
            )
        else:
            code = self._run(settings, options)
        if code:
            raise SystemExit(code)

    def _run(self, settings: conf.Conf, options: dict[str, Any]) -> int:
        fixed = {"workers": options["workers"], "grace_s": options["grace"]}
        wanted = service.Process(**{field.name: options[field.name] for field in dataclasses.fields(service.Process)})
        try:
            with service.process(wanted, settings), watching() if options["reload"] else nullcontext():
                return service.run(
                    settings,
                    queues.served(options["queues"]),
                    fixed=frozenset(name for name, given in fixed.items() if given is not None),
                    exit_when_empty=options["exit_when_empty"],
                    logfile=wanted.logfile,
                    verbosity=options["verbosity"],
                    runner=service.DEBUGGED_RUNNER if options["debug"] else service.RUNNER,
                )
        except AlreadyRunning as error:
            another = "--name" if wanted.pidfile is None else "--name and --pidfile"
            raise CommandError(
                f"{error}: stop that supervisor, or give this one another {another}", returncode=ExitCode.BAD_CONFIG
            ) from error
        except CannotDetach as error:
            raise self._at_once(error) from error
        except SpawnpoolError as error:
            raise CommandError(str(error), returncode=ExitCode.BAD_CONFIG) from error

    def _at_once(self, error: CannotDetach) -> CommandError:
        """Return the error of the command; end here and now if a thread that must not be there would be waited for."""
        if any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate()):
            self.stderr.write(f"CommandError: {error}")
            self.stderr.flush()
            os._exit(ExitCode.BAD_CONFIG)
        return CommandError(str(error), returncode=ExitCode.BAD_CONFIG)

    @staticmethod
    def _refuse_misplaced(options: dict[str, Any]) -> None:
        """Refuse options that would do nothing."""
        asks = options["action"] != RUN
        misplaced = RUNNING_ONLY if asks else ASKING_ONLY
        for name in misplaced:
            if options[name] not in (None, False, []):
                option = "--queue" if name == "queues" else "--" + name.replace("_", "-")
                what = f"{options['action']} takes no {option}" if asks else f"{option} is for {', '.join(COMMANDS)}"
                raise CommandError(f"{what}: leave it out", returncode=2)

    @staticmethod
    def _refuse_where_it_cannot_be(options: dict[str, Any]) -> None:
        """Refuse to be one within a job, and what helps developers where there is none or in each other's way."""
        if options["action"] == RUN and multiprocessing.parent_process() is not None:
            raise ImproperlyConfigured(
                "a worker cannot become a supervisor: have the job start `manage.py jobsupervisor` as a process of its "
                "own, under another --name"
            )
        for option in ("reload", "debug"):
            others = [other for other in NOT_WHILE_DEVELOPING[option] if options[other]]
            if options[option] and others:
                raise ImproperlyConfigured(f"--{option} does not go together with --{others[0]}: leave one of them out")
        if options["reload"] and not project.DEBUG:
            raise ImproperlyConfigured(
                "--reload is for development and DEBUG is False: leave it out, and have new code taken by "
                "`manage.py jobsupervisor reload`"
            )
        if options["debug"] and not os.isatty(0):
            raise ImproperlyConfigured("--debug needs a terminal to ask on, and the standard input is none")

    @staticmethod
    def _settings(options: dict[str, Any]) -> conf.Conf:
        settings = conf.load()
        if options["debug"]:
            settings = dataclasses.replace(settings, workers=1, pools=())
        for option, name in (("name", "name"), ("workers", "workers"), ("grace", "grace_s")):
            if (value := options[option]) is not None:
                settings = dataclasses.replace(settings, **{name: conf.checked(f"--{option}", name, value)})
        if not os.environ.get("DJANGO_SETTINGS_MODULE"):
            raise ImproperlyConfigured(
                "DJANGO_SETTINGS_MODULE is not set: workers are fresh processes and find the settings by that name only"
            )
        if homes.here() != homes.default():  # the other alias leads to the router's
            settings = dataclasses.replace(settings, listen_alias=None)
        return settings


NOT_WHILE_DEVELOPING = {"reload": ("daemon", "debug"), "debug": ("daemon", "logfile", "workers")}
"""What the two options for developers do not go together with."""
ASKING_ONLY = ("wait", "timeout", "json")
RUNNING_ONLY = (
    "workers", "queues", "grace", "exit_when_empty", "daemon", "pidfile", "logfile", "user", "group", "umask",
    "reload", "debug",
)  # fmt: skip


def octal(text: str) -> int:
    """Return what an option says in octal digits."""
    value = int(text, 8)
    if not 0 <= value <= 0o777:
        raise ValueError(text)
    return value
