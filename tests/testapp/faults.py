"""Faults at chosen moments inside a supervisor under test and its workers.

JOBSUP_TEST_FAULT, a JSON object, has a statement end badly: {"in": "worker" or "supervisor", "sql": a part of the
statement, "when": "before" or "after", "action": "kill", "stop", "raise" or the name of a database error, "marker": a
file that is made when it happens, so that it happens once}. With "each": n instead of a marker every n-th does. The
"sql" of "COMMIT" is that of a transaction which has just recorded the end of a job. A list of such objects has several.
JOBSUP_TEST_BOOT names a file with what a worker does while it boots: "sleep SECONDS", "exit CODE" or "kill".
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django import db
from django.db.backends.signals import connection_created

if TYPE_CHECKING:
    from collections.abc import Callable


class StatementFault:
    """A wrapper of `execute` on every connection of this process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._numbers = count(1)
        self._last = ""

    def install(self, connection: Any, **_kwargs: Any) -> None:
        """Wrap a new connection, once."""
        if self not in connection.execute_wrappers:
            connection.execute_wrappers.append(self)
            if self._spec["sql"] == "COMMIT":
                connection._commit = partial(self._commit, connection._commit)

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: Any, context: Any) -> Any:
        """Execute a statement, and have the fault before or after it."""
        self._last = str(sql)
        hit = self._spec["sql"] in str(sql) and self._is_time()
        if hit and self._spec["when"] == "before":
            self._happen()
        answer = execute(sql, params, many, context)
        if hit and self._spec["when"] == "after":
            self._happen()
        return answer

    def _commit(self, commit: Callable[[], Any]) -> Any:
        """Commit, and have the fault before or after it."""
        of_an_end = "finished_at =" in self._last
        if of_an_end and self._spec["when"] == "before" and self._is_time():
            self._happen()
        answer = commit()
        if of_an_end and self._spec["when"] == "after" and self._is_time():
            self._happen()
        return answer

    def _is_time(self) -> bool:
        if each := self._spec.get("each"):
            return next(self._numbers) % int(each) == 0
        try:
            os.close(os.open(self._spec["marker"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def _happen(self) -> None:
        match self._spec["action"]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case error:
                raise getattr(db, error)("injected by a test")


def install() -> None:
    """Install the faults that the environment asks for in this process."""
    where = "supervisor" if multiprocessing.parent_process() is None else "worker"
    found = json.loads(os.environ.get("JOBSUP_TEST_FAULT", "[]"))
    for spec in found if isinstance(found, list) else [found]:
        if spec["in"] == where:
            connection_created.connect(StatementFault(spec).install, weak=False)
    if where == "worker" and (place := os.environ.get("JOBSUP_TEST_BOOT")):
        _boot(Path(place))


def _boot(place: Path) -> None:
    wanted = place.read_text().split()
    place.with_suffix(".read").touch()
    match wanted:
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["exit", code]:
            os._exit(int(code))
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
