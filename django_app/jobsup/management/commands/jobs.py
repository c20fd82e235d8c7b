"""`manage.py jobs`: look after jobs from the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError

from jobsup import conf
from jobsup.backend import pk_of
from jobsup.models import Status
from jobsup.sql import UnsupportedDatabase
from jobsup.store import Store

LOOK_S = 0.2
"""How often `--wait` looks whether the jobs have ended."""
INTERRUPTED = 130
"""As a shell says it after Ctrl-C."""
OPEN = (Status.READY, Status.SCHEDULED, Status.RUNNING)


class Command(BaseCommand):
    """Cancel jobs: at once those that wait; those that run are asked to end, then interrupted, then ended."""

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions and their options."""
        parser.add_argument("action", choices=("cancel",), metavar="ACTION", help="cancel: cancel jobs by their ids")
        parser.add_argument("ids", nargs="+", type=int, metavar="ID")
        parser.add_argument("--wait", action="store_true", help="wait until they have ended")
        parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="how long --wait waits (for ever)")
        parser.add_argument("--json", action="store_true", help="print a JSON object: the status of each job by its id")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do what was asked for."""
        if options["timeout"] is not None and not options["wait"]:
            raise CommandError("--timeout is for --wait: leave it out, or add --wait", returncode=2)
        try:
            settings = conf.load()
            self._cancel(Store(notify=settings.notify), options["ids"], options)
        except (ImproperlyConfigured, UnsupportedDatabase) as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CommandError(f"the database refuses: {why}; can it be reached, and was `migrate` run?") from error
        except KeyboardInterrupt:
            raise CommandError("no longer waiting; what was asked for goes on", returncode=INTERRUPTED) from None

    def _cancel(self, store: Store, ids: Sequence[int], options: dict[str, Any]) -> None:
        known = [pk for pk in ids if pk_of(pk) is not None]  # a number may be too large to be an id at all
        statuses = store.cancel(known)
        ended = {pk for pk, status in statuses.items() if status not in (*OPEN, Status.CANCELLED)}
        give_up_at = None if options["timeout"] is None else time.monotonic() + options["timeout"]
        while options["wait"] and any(status in OPEN for status in statuses.values()):
            if give_up_at is not None and time.monotonic() >= give_up_at:
                break
            time.sleep(LOOK_S)
            statuses = store.statuses(known)
        if options["json"]:
            self.stdout.write(json.dumps({pk: status.label for pk, status in statuses.items()}))
        else:
            for pk in ids:
                self.stdout.write(f"job {pk}: {_words(statuses.get(pk), before=pk in ended)}")
        if missing := [pk for pk in ids if pk not in statuses]:
            raise CommandError(f"there is no job {', '.join(map(str, missing))}")
        if options["wait"] and (late := [pk for pk in ids if statuses[pk] in OPEN]):
            raise CommandError(f"not ended after {options['timeout']:g} s: job {', '.join(map(str, late))}")


def seconds(text: str) -> float:
    """Return the seconds that an option says."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _words(status: Status | None, *, before: bool) -> str:
    match status:
        case None:
            return "there is no such job"
        case Status.RUNNING:
            return "is running and will be ended"
        case Status.CANCELLED:
            return "cancelled"
        case _:
            return f"{'had ended before' if before else 'ended meanwhile'}: {status.label}"
