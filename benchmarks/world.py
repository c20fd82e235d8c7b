"""What benchmarks run in: throwaway servers, and jobsup and its rivals on them.

PostgreSQL keeps each commit on the disk and has its default settings otherwise, but for the number of connections. It
is `default` for this process, with the jobs of jobsup. The other servers are started when they are first wanted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender, Here
from benchmarks.errors import NotMeasured, Unavailable
from benchmarks.redis import redis
from benchmarks.rivals import JOBSUP, Rival
from benchmarks.rivals.environments import is_made
from tests import mariadb
from tests.postgres import PORT, SUPERUSER, Cluster
from tests.support import become_subreaper

Figures = dict[str, dict[str, float]]
"""What was measured: of whom, which figure, how much."""

MAIN = "bench"
"""The database of this process."""
SHARED_MEMORY = Path("/dev/shm")
TEMPLATE = "bench_empty"
"""A copy of it without jobs."""


class World:
    """The servers of one run, and whom there is to measure on them.

    Args:
        cluster: the PostgreSQL server.
        folder: for everything that is to be gone afterwards.
        memory: the same, in memory where there is such a folder: notes that jobs take must keep no disk busy.
        stack: where what is started later is ended.
        rivals: who is measured beside jobsup.
    """

    def __init__(self, cluster: Cluster, folder: Path, memory: Path, stack: ExitStack, rivals: Sequence[Rival]) -> None:
        self.cluster, self.folder, self.rivals, self._memory = cluster, folder, rivals, memory
        self._stack = stack
        self._known: dict[str, Contender] = {}
        self.missing: dict[str, str] = {}
        """Who could not be measured, and why; of the present row."""

    @cached_property
    def jobsup(self) -> Contender:
        """jobsup, on the database that is `default` for this process."""
        folder = self.folder / MAIN
        folder.mkdir()
        return Here(JOBSUP, {"default": self._postgresql(MAIN)}, folder, self._memory / MAIN, "", self.checkpoint)

    def jobsup_on(self, name: str) -> Contender:
        """Return jobsup on another database of PostgreSQL, which is made when it is first asked for."""
        return self._contender(JOBSUP, name, lambda: self._postgresql(name, template=TEMPLATE), prepared=True)

    def on_sqlite(self) -> Contender:
        """Return jobsup on a file of SQLite, with the settings that the README recommends."""
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20}
        file = str(self.folder / "bench.sqlite3")
        return self._contender(
            JOBSUP, "sqlite", lambda: {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options}
        )

    def on_mariadb(self) -> Contender:
        """Return jobsup on MariaDB, where each commit is on the disk as well.

        Raises:
            Unavailable: there is no such server on this machine.
        """
        if not mariadb.is_installed():
            raise Unavailable("there is no MariaDB to start: install one (Debian: mariadb-server)")
        return self._contender(JOBSUP, "mariadb", self._mariadb)

    def beside(self, measure: Callable[[Contender], dict[str, float]], *, bulk: bool = False) -> Figures:
        """Measure each rival; who cannot be measured is left out, and said.

        Args:
            measure: returns the figures of one.
            bulk: whether only those are meant that have a bulk call.
        """
        figures = {}
        for rival in self.rivals:
            if bulk and not rival.bulk:
                continue
            try:
                figures[rival.name] = measure(self._rival(rival))
            except NotMeasured as error:
                self.missing[rival.name] = str(error)
        return figures

    def checkpoint(self) -> None:
        """Have the server write what it has put off, so that nobody pays for the row before."""
        self.cluster.execute("CHECKPOINT")

    def _rival(self, rival: Rival) -> Contender:
        if not is_made(rival):
            raise Unavailable("its environment is not there: make bench-rivals")
        name = "".join(each if each.isalnum() else "_" for each in rival.name.lower())
        return self._contender(rival, name, lambda: self._postgresql(name))

    def _contender(
        self, rival: Rival, name: str, database: Callable[[], dict[str, Any]], *, prepared: bool = False
    ) -> Contender:
        """Return a contender, whose tables are made when it is first asked for."""
        if name not in self._known:
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            redis = self._redis if rival.needs_redis else ""
            notes = self._memory / name
            contender = Contender(rival, {"default": database()}, folder, notes, redis, self.checkpoint)
            if not prepared:
                contender.side("prepare")
            self._known[name] = contender
        return self._known[name]

    def _postgresql(self, name: str, template: str = "template1") -> dict[str, Any]:
        self.cluster.create_database(name, template=template)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": SUPERUSER,
            "HOST": str(self.cluster.directory),
            "PORT": str(PORT),
            "CONN_MAX_AGE": 600,  # for those rivals who would connect anew for each job
        }

    def _mariadb(self) -> dict[str, Any]:
        server = self._stack.enter_context(mariadb.Server(durable=True, parent=self.folder))
        server.create_database(MAIN)
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": MAIN,
            "USER": mariadb.SUPERUSER,
            "HOST": str(server.socket),
        }

    @cached_property
    def _redis(self) -> str:
        return self._stack.enter_context(redis(self.folder))


@contextmanager
def world(rivals: Sequence[Rival] = ()) -> Iterator[World]:
    """Start PostgreSQL, and set Django up on a fresh database of it; everything is gone afterwards."""
    become_subreaper()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsup-bench-")))
        folder.chmod(0o755)  # the servers run under accounts of their own
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        cluster = stack.enter_context(Cluster(fsync=True, max_connections=200))
        place = World(cluster, folder, Path(memory), stack, rivals)
        os.environ.update(place.jobsup.env)
        import django
        from django.db import connections

        django.setup()
        place.jobsup.side("prepare")
        connections.close_all()  # nobody may be connected to what is copied
        cluster.create_database(TEMPLATE, template=MAIN)
        try:
            yield place
        finally:
            connections.close_all()
