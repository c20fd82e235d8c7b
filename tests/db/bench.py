"""A worker without its process: it claims jobs and runs them here, by the Runner that real workers have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

from jobsup.runner import Runner
from jobsup.store import Store
from tests.db.rows import begin, make_due

if TYPE_CHECKING:
    from collections.abc import Sequence


class Bench:
    """One worker of one supervisor's run."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.store = Store(alias)
        self.run = begin(self.store)
        self.settled_keys: list[int] = []
        self.runner = Runner(1, self, self.run, 1)

    def settled(self, pk: int) -> None:
        """Take in what the runner reports."""
        self.settled_keys.append(pk)

    def alive(self) -> None:
        """Nobody waits for a sign of life."""

    def asked_to_end(self) -> bool:
        """Nothing is cancelled here."""
        return False

    def note_crashes(self) -> None:
        """The test run's own faulthandler stays."""

    def claim(self, limit: int = 100) -> list[int]:
        """Claim what is ready."""
        return self.store.claim(self.run, None, limit)

    def play(self, pks: Sequence[int]) -> None:
        """Run jobs of this run and record their ends, as the worker's loop does it."""
        self.runner.load(pks)
        last = len(pks) - 1
        for index, pk in enumerate(pks):
            self.runner.run(pk)
            self.runner.tidy()
            if self.runner.must_flush(more=index < last):
                self.runner.flush()

    def work(self) -> list[int]:
        """Run everything that is ready; return the keys in the order in which they ran."""
        pks = self.claim()
        self.play(pks)
        return pks

    def finished(self, result: Any) -> Any:
        """Run everything that is ready, then return the result as it stands."""
        self.work()
        result.refresh()
        return result

    def tried_again(self, result: Any) -> Any:
        """Let the time of a job's next attempt come, run it and return the result as it stands."""
        make_due(self.store, int(result.id))
        return self.finished(result)

    def execute(self, sql: str, *params: str | int) -> None:
        """Execute a statement on the worker's own connection."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(sql, params)
