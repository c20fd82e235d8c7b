"""`manage.py jobs` in this process: what it printed, asked and ended with."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from jobsup.models import Status
from jobsup.store import Store
from tests.db.rows import begin, claimed, failure, row

ADD = "tests.testapp.tasks.add"


class Terminal(StringIO):
    """Somebody who answers, or looks."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


class Said:
    """What a command printed and how it ended."""

    def __init__(self, *words: Any, answer: str | None = None, terminal: bool = False) -> None:
        out, err = (Terminal() if terminal else StringIO()), StringIO()
        self.code, self.error = 0, ""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", StringIO() if answer is None else Terminal(answer))
            if not terminal:
                patch.delenv("COLUMNS", raising=False)
            try:
                call_command("jobs", *map(str, words), stdout=out, stderr=err)
            except CommandError as error:
                self.code, self.error = error.returncode, str(error)
            except SystemExit as error:
                self.code = int(error.code or 0)
        self.text, self.asked = out.getvalue(), err.getvalue()

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        """The only line, read."""
        [line] = self.lines
        return json.loads(line)

    @property
    def jsons(self) -> list[Any]:
        """Each line, read."""
        return [json.loads(line) for line in self.lines]


def status(store: Store, pk: int) -> Status:
    """Return where a job is in its life."""
    return Status(row(store, pk).status)


def failed(store: Store, words: str = "Trouble") -> int:
    """Return a job that failed."""
    pk = claimed(store, begin(store))
    store.finish(row(store, pk).claimed_by or 0, [failure(pk, words=words)])
    return pk
