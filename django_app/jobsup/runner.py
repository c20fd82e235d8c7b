"""What a worker does with primary keys: load the rows, run the tasks, keep the outcomes for the recorder.

The worker keeps its database connections from job to job, whatever CONN_MAX_AGE says: their number is bounded by
workers x aliases (and one more per worker while its recorder's helper thread writes).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connections

from jobsup import conf, homes, logs, queues, spoiled, sqlalchemy
from jobsup.attempt import Around, Attempts, Ending, nothing_around
from jobsup.compat import TASKS_LOGGER, task_finished
from jobsup.exactly_once import ExactlyOnce
from jobsup.hygiene import Hygiene, check_connections
from jobsup.interrupts import Interrupts, listen
from jobsup.limits import bounds_of, defaults
from jobsup.models import FailedAttempt, Status
from jobsup.reaching import connect
from jobsup.recorder import LATEST_S, Entry, Recorder, insist
from jobsup.registry import import_tasks
from jobsup.schedules.sync import Sync
from jobsup.sql import LoadedRow
from jobsup.store import Store
from jobsup.telling import has_receivers
from jobsup.text import bounded, one_line, printable, traceback_text
from spawnpool.bounds import NO_BOUNDS, Bounds, Interrupt
from spawnpool.pools import Pool

if TYPE_CHECKING:
    from spawnpool.source import Reports


class Runner:
    """One worker's runner.

    Args:
        number: the worker's place in its pool.
        reports: where settled keys are reported.
        run: id of the supervisor's run.
        verbosity: of the logging.
        around: what each job's function is called in.
    """

    def __init__(
        self, number: int, reports: Reports, run: int, verbosity: int, around: Around = nothing_around
    ) -> None:
        logs.set_up(verbosity)
        logs.mute_unheard(TASKS_LOGGER)
        self._conf = conf.load()
        self._run = run
        self._store = Store(homes.here(), crash_attempts=self._conf.crash_attempts, notify=self._conf.notify)
        connect(self._store.sql.connection)
        self._alive = reports.alive
        self._recorder = Recorder(self._store, run, reports.settled, reports.alive)
        # Before the hygiene: what an import does is no job's fault.
        flaws = import_tasks(failed=lambda error: sys.stderr.write(printable(traceback_text(error))))
        self._flaws = [f"the module {name} cannot be imported: {why}" for name, why in flaws.items()]
        self._schedules = Sync(self._store, wanted=self._conf.schedules, complete=not self._flaws)
        self._schedules.attempt()
        self._defaults = defaults(self._conf)
        self._defaults_in_force = bounds_of(None, self._defaults)
        self._interrupts = Interrupts(reports.asked_to_end)
        listen(self._interrupts.asked_to_end)
        self._attempts = Attempts(
            conf.worker_id(self._conf.node_name, number, os.getpid()),
            ExactlyOnce(self._store, run, reports.alive, self._recorder.record),
            self._interrupts,
            around,
            crash_attempts=self._conf.crash_attempts,
        )
        self._hygiene = Hygiene(reports.note_crashes, (self._attempts.loop, sqlalchemy.Pools()))
        self._spoiled = ""  # why this process is fit for no further job
        self._ended: tuple[LoadedRow, Ending, float, float] | None = None  # what ran last: with its start and end
        self._jobs: dict[int, tuple[LoadedRow, list[FailedAttempt]]] = {}
        self._rested = False
        self._at_once = False  # the last job's end may not wait
        self._log = logging.getLogger("jobsup.worker")

    def limits(self) -> Mapping[str, float]:
        """Return the limits that this fresh process reads from the settings."""
        return pool_limits(self._conf)

    def pools(self) -> Sequence[Pool]:
        """Return the pools that they say."""
        return queues.pools(self._conf, queues.named(homes.here()))

    def flaws(self) -> Sequence[str]:
        """Return which modules of tasks cannot be imported, and why."""
        return self._flaws

    def load(self, pks: Sequence[int]) -> None:
        """Fetch the rows of a hand of keys by one query, over a new connection if the old one died."""
        if self._rested:
            self._rested = False
            check_connections()
        found = insist(
            lambda: spoiled.load(self._store, pks, self._run),
            self._store.alias,
            "jobs cannot be read",
            self._alive,
            gives_way=not self._recorder.waits,
        )
        self._jobs = {row.id: (row, failures) for row, failures in found}

    def describe(self, pk: int) -> str:
        """Return the words for the process title."""
        job = self._jobs.get(pk)
        return f"job {pk}" if job is None else f"job {pk} {one_line(job[0].task)}"

    def bounds(self, pk: int) -> Bounds:
        """Return the limits of a job."""
        job = self._jobs.get(pk)
        if job is None or (job[0].options is None and not job[0].untold):
            return self._defaults_in_force
        return NO_BOUNDS if job[0].untold else bounds_of(job[0].options, self._defaults)  # one that is untold is over

    def interrupt(self, why: Interrupt) -> None:
        """Raise in the running job."""
        self._interrupts.come(why)

    def log_reopened(self) -> None:
        """Take the new log file for what stdout and stderr should be."""
        self._hygiene.streams_changed()

    def run(self, pk: int) -> None:
        """Run one job; `tidy` keeps its outcome."""
        started_at = time.monotonic()
        self._recorder.guard(started_at)
        self._interrupts.bounds = self.bounds(pk)
        row, failures = self._jobs.pop(pk, (None, []))
        if row is not None and row.untold and row.claimed_by == self._run:
            tell = partial(self._attempts.tell, row, failures)
            self._recorder.keep(Entry(pk, None, started_at, started_at, tell, untold=True))
            self._at_once = True
            return
        if row is None or row.claimed_by != self._run or row.status != Status.RUNNING:
            self._log.warning("job %d is left out: it was deleted or is owned by somebody else by now", pk)
            self._recorder.keep(Entry(pk, None, started_at, started_at))
            self._at_once = True
            return
        ending = self._attempts.run(row, failures)
        self._ended = row, ending, started_at, time.monotonic()

    def tidy(self) -> None:
        """Restore what the job left behind and keep its outcome."""
        self._interrupts.reset()
        if self._ended is not None:
            (row, ending, started_at, ended_at), self._ended = self._ended, None
            outcome, left = ending.outcome, bounded(self._restore(row))
            if outcome is not None and left and not ending.committed:
                outcome = outcome._replace(row=outcome.row._replace(left_behind=left))
            elif outcome is not None and left:
                with contextlib.suppress(DatabaseError, InterfaceError):  # the log has it, too
                    self._store.note_left_behind(self._run, row.id, row.attempt, left)
            entry = Entry(row.id, outcome, started_at, ended_at, ending.recorded)
            self._recorder.keep(entry._replace(outcome=None, committed=True) if ending.committed else entry)
            well = outcome is not None and outcome.row.status == Status.SUCCESSFUL
            # Who acts on an end is not to hear of it only after the next job, or never if that kills the worker.
            self._at_once = not well or has_receivers(task_finished) or ended_at - started_at >= LATEST_S

    def _restore(self, who: LoadedRow | str) -> str:
        """Restore what somebody left behind; return what that was, in words."""
        leftovers = self._hygiene.restore()
        if not leftovers:
            return ""
        words, name = leftovers.words(), who if isinstance(who, str) else f"job {who.id} {who.task}"
        self._log.warning("%s %s", name, words)
        if leftovers.spoiled:
            self._spoiled = f"{name} {words}"
        return words

    def must_flush(self, *, more: bool) -> bool:
        """Tell whether outcomes must be recorded before the next job begins."""
        if self._at_once or not more or self._spoiled:
            return True
        return self._recorder.is_due() and not self._recorder.hand_over()

    def flush(self) -> str:
        """Record the outcomes that wait; return why no further job may run here, "" if it may.

        What those who are told of it leave behind is tidied up, too.
        """
        self._recorder.flush()
        if not self._spoiled:  # else what was found before would be found again
            self._restore("a receiver of task_finished")
        return self._spoiled

    def rest(self, idle_s: float) -> None:
        """Let go of connections that have been idle for long; the others are checked before the next job."""
        self._rested = True
        self._schedules.attempt()  # unless it is done
        if idle_s >= IDLE_CONNECTIONS_S:
            connections.close_all()
            sqlalchemy.release()

    def close(self) -> None:
        """Record what waits and close every connection."""
        self._recorder.flush()
        self._attempts.loop.close()
        connections.close_all()
        sqlalchemy.release()


def pool_limits(settings: conf.Conf) -> dict[str, float]:
    """Return what the settings say of the pool, by the names of `spawnpool.limits.Limits`."""
    return {
        "workers": settings.workers,
        "grace_s": settings.grace_s,
        "boot_timeout_s": settings.boot_timeout_s,
        "cancel_ask_s": settings.cancel_ask_s,
        "cancel_grace_s": settings.cancel_grace_s,
        "max_jobs": settings.max_jobs or 0,
        "max_rss_bytes": settings.max_rss or 0,
        "max_age_s": settings.max_age_s or 0,
        "restarts_max": settings.restarts,
        "restarts_window_s": settings.restarts_window_s,
    }


IDLE_CONNECTIONS_S = 300.0
"""After how much idleness a worker closes its connections."""
