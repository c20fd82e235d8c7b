"""jobsup or a rival, as it is measured: its queue is filled, its workers run, and its jobs say when they did."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import Failed
from benchmarks.jobs import MOMENT, Note, count, notes
from benchmarks.processes import ROOT, end
from benchmarks.rivals import Rival
from benchmarks.rivals.environments import bin_of

STALL_S = 60.0
"""How long a contender may do nothing while it has jobs."""
GRACE_S = 10.0
TIMED = ("bulk", "moments", "feed")
"""The commands in whose time the process counts that executes them."""
PER_S = 20
"""How many jobs a second come while latencies are measured."""


class Drained(NamedTuple):
    """What the jobs of a drain have noted, in the order of their ends."""

    notes: list[Note]

    @property
    def rate(self) -> float:
        """How many jobs a second were done, from the first start to the last end."""
        return self.part(0.0)

    def part(self, begin: float) -> float:
        """Return the rate of those after a share of all of them."""
        some = self.notes[int(begin * len(self.notes)) :]
        return len(some) / max(1e-6, some[-1].last - min(each.first for each in some))


class Contender:
    """One of them, with a database, a folder and an environment of its own.

    Args:
        rival: who it is.
        databases: DATABASES, as Django has it.
        folder: for its logs.
        notes: the file for what its jobs note.
        redis: the address of a Redis server, "" for none.
        before: called before each measurement, when the queue is full.
    """

    def __init__(
        self,
        rival: Rival,
        databases: Mapping[str, Any],
        folder: Path,
        notes: Path,
        redis: str = "",
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.rival, self.notes, self._folder, self._before = rival, notes, folder, before
        self.notes.touch()
        settings = {
            "SECRET_KEY": "only for benchmarks",
            "USE_TZ": True,
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "DATABASES": databases,
            "INSTALLED_APPS": [*rival.apps, "benchmarks.rivals"],
            "JOBSUP": {"RUN_DIR": str(folder)},
            **rival.configured(redis),
        }
        self.env = {
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "BENCH_SETTINGS": json.dumps(settings),
            "BENCH_ADAPTER": rival.adapter,
            "BENCH_NOTES": str(self.notes),
            "PYTHONPATH": os.pathsep.join(str(ROOT / place) for place in _places(rival)),
            "PATH": os.pathsep.join([str(bin_of(rival)), os.environ.get("PATH", os.defpath)]),
        }

    def side(self, command: str, *arguments: object) -> Any:
        """Have something done in its environment; return the answer.

        Raises:
            Failed: it was not done.
        """
        done = subprocess.run(
            [bin_of(self.rival) / "python", "-m", "benchmarks.rivals.side", command, *map(str, arguments)],
            env=self._whole_env(),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{command} failed: {_last_words(done.stderr)}")
        return json.loads(done.stdout.strip().rpartition("\n")[2])

    def drain(self, kind: str, jobs: int) -> Drained:
        """Fill its queue, run its workers until all is done, and see that everything was done once.

        Raises:
            Failed: it was not.
        """
        self.side("fill", kind, jobs)
        with self.working():
            self.wait(jobs)
        self.side("check", kind, jobs)
        return self.drained(jobs)

    def drained(self, jobs: int) -> Drained:
        """Return what the first so many jobs have noted.

        Raises:
            Failed: one of all the jobs ran twice, which would flatter the rate.
        """
        found = notes(self.notes)
        if len({each.number for each in found}) != len(found):
            raise Failed(f"{len(found)} runs of {len({each.number for each in found})} jobs")
        return Drained(sorted(found, key=lambda each: each.last)[:jobs])

    def latencies(self, jobs: int) -> dict[str, float]:
        """Run its workers idle but for some jobs a second; from the call that enqueues one to its start."""
        self.side("clear")
        with self.working():
            self.side("moments", jobs, PER_S)
            self.wait(jobs + 1)
        return latencies(notes(self.notes))

    @contextmanager
    def working(self) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Run its workers; what was noted before is forgotten."""
        self._before()
        os.truncate(self.notes, 0)
        processes = []
        try:
            for number, (program, *arguments) in enumerate(self.rival.workers):
                with (self._folder / f"workers-{number}.log").open("wb") as log:
                    processes.append(
                        subprocess.Popen(
                            [bin_of(self.rival) / program, *arguments],
                            env=self._whole_env(),
                            cwd=ROOT,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                            start_new_session=True,
                        )
                    )
            yield processes
        finally:
            end(processes, GRACE_S)

    def wait(self, jobs: int) -> None:
        """Wait until so many jobs have been done.

        Raises:
            Failed: nothing was done for long.
        """
        seen, give_up_at = -1, 0.0
        while (now := count(self.notes)) < jobs:
            if now > seen:
                seen, give_up_at = now, time.monotonic() + STALL_S
            elif time.monotonic() > give_up_at:
                raise Failed(f"{now} of {jobs} jobs were done, then nothing for {STALL_S:g} s: {self._log()}")
            time.sleep(0.02)
        time.sleep(0.3)  # what it has to write down about the last of them

    def _whole_env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTHON", "PG"))}
        return kept | self.env

    def _log(self) -> str:
        return _last_words("".join(each.read_text(errors="replace") for each in self._folder.glob("workers-*.log")))


class Here(Contender):
    """jobsup on the database that is `default` for this process: what is not timed is done here, which is faster."""

    def side(self, command: str, *arguments: object) -> Any:
        """Have something done; return the answer."""
        if command in TIMED:
            return super().side(command, *arguments)
        from benchmarks.rivals import jobsup
        from benchmarks.rivals.side import Side

        return getattr(Side(jobsup), command)(*arguments)


def latencies(found: Iterable[Note]) -> dict[str, float]:
    """Return the usual quantiles of how long after their enqueueing jobs began, in milliseconds."""
    times = sorted(1000 * (each.last - each.first) for each in found if each.number == MOMENT)
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98], "max_ms": times[-1]}


def _places(rival: Rival) -> tuple[str, ...]:
    return (".", "supervisor", "django_app") if rival.adapter == "jobsup" else (".",)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][-500:] if lines else "it said nothing"
