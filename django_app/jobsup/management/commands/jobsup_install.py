"""`manage.py jobsup_install --systemd`: print or write the unit of the supervisor, filled in for this project."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobsup import conf, homes, queues, units

SYSTEM_UIDS_BELOW = 1000  # UID_MIN of login.defs(5)


class Command(BaseCommand):
    """Print the unit for systemd, filled in for this project, or write it with --write."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--systemd", action="store_true", required=True, help="a unit for systemd")
        parser.add_argument("--name", help="name of the supervisor; the unit is jobsup-NAME.service then")
        parser.add_argument("--database", metavar="ALIAS", help="the database whose jobs it runs")
        parser.add_argument(
            "--queue", action="append", default=[], metavar="NAME", dest="queues",
            help="serve this queue; may be given several times (default: all queues in TASKS)",
        )  # fmt: skip
        parser.add_argument(
            "--instances", action="store_true", help="the unit jobsup@.service, for one supervisor per queue"
        )
        parser.add_argument("--user", help="whose processes these are (default: the owner of manage.py)")
        parser.add_argument("--hardening", action="store_true", help="the optional drop-in hardening.conf as well")
        parser.add_argument("--write", action="store_true", help="write the files instead of printing them")
        parser.add_argument(
            "--directory", type=Path, default=Path("/etc/systemd/system"), metavar="FOLDER",
            help="where --write puts them (/etc/systemd/system)",
        )  # fmt: skip
        parser.add_argument("--force", action="store_true", help="replace files, and do what looks wrong from here")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Print the files, or write them all or none; then say what to do next."""
        try:
            project = self._project(options)
            with homes.at(homes.checked(options["database"])):
                files = self._files(project, options)
        except (ImproperlyConfigured, units.UnitError) as error:
            raise CommandError(str(error)) from error
        if options["write"]:
            self._write(options["directory"], files, force=options["force"])
        else:
            for name, text in files.items():
                self.stdout.write(f"# {options['directory'] / name}\n{text}", ending="")
        self._say_next(next(iter(files)), written=options["write"])

    def _project(self, options: dict[str, Any]) -> units.Project:
        settings, manage = os.environ.get("DJANGO_SETTINGS_MODULE"), Path(sys.argv[0]).absolute()
        if not settings:
            raise ImproperlyConfigured(
                "DJANGO_SETTINGS_MODULE is not set: a service finds the settings by that name only, so set it in "
                "manage.py"
            )
        if manage.suffix != ".py" or manage.name == "__main__.py" or not manage.is_file():
            raise ImproperlyConfigured(
                f"{manage} is no manage.py: run this as `python manage.py jobsup_install ...`, for the service will be "
                "started the same way"
            )
        jobsup = conf.load()
        return units.Project(
            python=Path(sys.executable),
            manage=manage,
            settings=settings,
            user=self._user(manage, options),
            grace_s=jobsup.grace_s,
            boot_timeout_s=jobsup.boot_timeout_s,
        )

    def _user(self, manage: Path, options: dict[str, Any]) -> str:
        """Return whose processes these are, once it looks as if that user could run them."""
        if options["user"] is None and manage.stat().st_uid == 0:
            raise ImproperlyConfigured(
                f"{manage} belongs to root, who should run no jobs: name another user with --user, best a system user "
                "of its own (useradd --system NAME)"
            )
        try:
            account = pwd.getpwnam(options["user"]) if options["user"] else pwd.getpwuid(manage.stat().st_uid)
        except KeyError:
            name = options["user"] or f"number {manage.stat().st_uid}"
            raise ImproperlyConfigured(
                f"there is no user {name} on this machine: make one (useradd --system NAME), or name another with "
                "--user"
            ) from None
        for path in (Path(sys.executable), Path(sys.executable).resolve(), manage):
            if (closed := _closed_to(account, path)) and not options["force"]:
                raise ImproperlyConfigured(
                    f"user {account.pw_name} cannot read {path}, because of {closed}: let that user in, move it (/opt "
                    "and /srv are good places), or say --force if that user can"
                )
        if account.pw_uid >= SYSTEM_UIDS_BELOW:
            self._note(
                f"{account.pw_name} is no system user: when it logs out, systemd-logind removes the semaphores of its "
                "workers, unless logind.conf says RemoveIPC=no. Better is a system user (useradd --system NAME)."
            )
        return account.pw_name

    @staticmethod
    def _files(project: units.Project, options: dict[str, Any]) -> dict[str, str]:
        """Return the files by their names below the folder of units; the unit is the first."""
        name = None if options["name"] is None else conf.check_name("--name", options["name"])
        if options["database"] and not name:
            raise ImproperlyConfigured("--database wants a --name: the unit jobsup.service is that of the router's")
        if options["instances"]:
            if options["database"]:
                raise ImproperlyConfigured("--database does not go with --instances: leave one of them out")
            if options["queues"]:
                raise ImproperlyConfigured(
                    "--queue does not go with --instances: an instance serves the queue that it is called after"
                )
            unit, text = units.instances(project, name)
        else:
            if options["queues"]:
                queues.served(options["queues"])
            unit, text = units.service(project, name, options["queues"], options["database"])
        return {unit: text} | (dict([units.hardening(unit)]) if options["hardening"] else {})

    def _write(self, directory: Path, files: dict[str, str], *, force: bool) -> None:
        """Write all files, or none if one of them cannot be."""
        wanted = {directory / name: text for name, text in files.items()}
        same = {path for path, text in wanted.items() if path.is_file() and path.read_text(encoding="utf-8") == text}
        for path in wanted:
            if path.exists() and path not in same and not force:
                raise CommandError(
                    f"{path} exists and says something else: compare it with what this command prints without --write, "
                    "and say --force to replace it"
                )
        for path, text in wanted.items():
            if path not in same:
                try:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text, encoding="utf-8")
                except OSError as error:
                    raise CommandError(
                        f"{path} cannot be written ({error.strerror}): run this as root, or name another --directory"
                    ) from error
            self._note(f"{path} {'is as it should be' if path in same else 'written'}")

    def _say_next(self, unit: str, *, written: bool) -> None:
        start = unit.removesuffix(".service") + ("QUEUE" if unit.endswith("@.service") else "")
        first = "" if written else "run this again as root with --write, then "
        self._note(f"Next: {first}systemctl daemon-reload; systemctl enable --now {start}")

    def _note(self, text: str) -> None:
        self.stderr.write(text, self.style.NOTICE)


def _closed_to(account: pwd.struct_passwd, path: Path) -> Path | None:
    """Return what keeps a user from reading a file, by the permissions on the way to it; None if nothing does."""
    groups = set(os.getgrouplist(account.pw_name, account.pw_gid))
    for part in [*reversed(path.parents), path]:
        status = part.stat()
        shift = 6 if status.st_uid == account.pw_uid else 3 if status.st_gid in groups else 0
        needed = stat.S_IXOTH if part != path else stat.S_IROTH
        if account.pw_uid and not status.st_mode >> shift & needed:
            return part
    return None
