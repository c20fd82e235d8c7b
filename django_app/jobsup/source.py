"""The supervisor's source of work over the database: the pool's `Source` in terms of the store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

from django.db import DatabaseError, connections

from jobsup import homes, queue_control, reaching, runs
from jobsup.conf import Conf, worker_id
from jobsup.lookout import Lookout
from jobsup.looks import Looks
from jobsup.losses import lost_attempts
from jobsup.models import Status, Supervisor
from jobsup.places import begun_path
from jobsup.pools import words
from jobsup.retention import Pruning
from jobsup.schedules.ticking import Ticking
from jobsup.sql import UnsupportedDatabase
from jobsup.sql.base import WAIT_MAX_S
from jobsup.store import Account, Store
from jobsup.untold import adopt, untold_of
from spawnpool.begun import begun
from spawnpool.errors import RunOver, SourceRefused
from spawnpool.pools import DEFAULT, Pool
from spawnpool.runfile import RunFile
from spawnpool.source import Loss, Running, Taken

DUE_LOOK_S = 0.25
"""How late a scheduled job may be noticed while the workers never run out of ready ones."""

CANCEL_LOOK_S = 5.0
"""How late a cancellation, or a pause, may be noticed of which the wake-up was lost."""

AWAY_S = 0.1
"""After how long without a connection the schedules are read anew: workers that booted meanwhile have changed them."""

BACKLOG_MAX = 100_000
"""How many ready jobs are counted for show; that takes about 10 ms."""

WAIT_SHARE = 1 / 6
"""No wait for the database is longer than this share of the lease: a beat that fails must not cost the next one."""

BEATS_PER_LOOK = 6
"""Every how many beats all claims are looked at for owners that are over; the others cost two statements."""

NO_LIMITS: Mapping[str, int] = MappingProxyType({})

_log = logging.getLogger("jobsup.supervisor")


class DatabaseSource:
    """Claims jobs for one run of a supervisor and accounts for them.

    Args:
        conf: the settings.
        pools: whom to claim for; None for one that serves every queue.
        runfile: held by this process; proves that an earlier run with it is over.
        verbosity: of the workers' logging.
    """

    def __init__(self, conf: Conf, pools: Sequence[Pool] | None, runfile: RunFile, verbosity: int) -> None:
        try:
            self._store = Store(homes.here(), crash_attempts=conf.crash_attempts, notify=conf.notify)
        except UnsupportedDatabase as error:
            raise SourceRefused(str(error)) from error
        self._store.sql.listening_alias = conf.listen_alias
        self._store.sql.bound_waits(min(WAIT_MAX_S, conf.lease_s * WAIT_SHARE))
        self._conf, self._runfile, self._verbosity = conf, runfile, verbosity
        self.serve(pools or [Pool(workers=conf.workers)])
        self._looks = Looks()
        self._lookout = Lookout(self._store.sql, listens=conf.notify)
        self._pause_look_at = 0.0
        self._run = 0
        self._beats = 0
        self._more = True  # there may be work, whether or not the database tells of a change
        self._look_at = 0.0  # when to look for scheduled jobs at the latest
        self._due_at: float | None = None  # when the next scheduled job is due, on the monotonic clock
        self._fd: int | None = None
        self._deafness = ""  # what was said of it
        self._cancel_look_at = 0.0
        self._ticking = Ticking(self._store, told=conf.notify, wanted=conf.schedules)
        self._away_at: float | None = None  # since when there is no connection
        self._pruning = Pruning(self._store, conf.keep)
        self._untold = True  # there may be jobs that are over, of which a worker is to tell
        self._telling: set[int] = set()  # those of which workers have been asked to

    @property
    def poll_interval_s(self) -> float:
        """How often to look for work when nothing wakes the supervisor."""
        return self._store.sql.poll_interval_s if self._conf.notify else min(1.0, self._store.sql.poll_interval_s)

    @property
    def title(self) -> str:
        """What it is called in sentences."""
        return f"the database {self._store.alias!r}"

    def open(self) -> Sequence[int]:
        """Register a run and take over what the previous holder of the run file left, this process among them."""
        reaching.refuse_what_cannot_work(self._store, self._conf.listen_alias)
        with self._reachable():
            reaching.find_tables(self._store)
            self._store.sql.prepare()
            self._run = runs.begin(
                self._store,
                self._conf.name,
                self._conf.node_name,
                self._runfile.identity,
                os.getpid(),
                self._conf.lease_s,
            )
            self._beats, self._untold, self._more = 0, True, True
            self._telling.clear()
            self._recover()
        for path in (runfile := self._runfile.path).parent.glob(begun_path(runfile, "*").name):
            path.unlink(missing_ok=True)  # of runs of which nothing is left
        _log.info(
            "supervisor %s on %s serves %s of database %r (run %d)",
            self._conf.name,
            self._conf.node_name,
            words(self._pools.values()),
            self._store.alias,
            self._run,
        )
        return self._run, self._verbosity

    def serve(self, pools: Sequence[Pool]) -> None:
        """Learn which pools there are and what they serve."""
        self._pools = {pool.name: pool for pool in pools}
        everything = any(pool.feeds is None for pool in pools)
        self._queues = None if everything else sorted({queue for pool in pools for queue in pool.feeds or ()})
        self._more = True

    def claim(self, limit: int, pool: str = DEFAULT, rooms: Mapping[str, int] = NO_LIMITS) -> Taken:
        """Claim jobs; where the database tells every change, a look without one costs no statement."""
        if self._store.sql.tells_every_change and not self._worth_while(pool, rooms):
            self._lookout.looked(found=False)
            return Taken([])
        with self._reachable():
            self._upkeep()
            if pks := self._to_be_told(limit):
                return Taken(pks)
            due = self._is_due()
            if not due and (nothing := self._lookout.glance(self._queues)):
                sooner = self._note_due(nothing.due_in_s)
                self._looks.looked(pool, rooms, found=False)
                self._lookout.looked(found=False, unheard=sooner)
                return Taken([])
            if due:
                # One that is due and stays so is locked by somebody else: not at once again for that one.
                self._look_for_due(after_s=0.0 if self._store.sql.promote() else DUE_LOOK_S)
            elif self._lookout.found and time.monotonic() >= self._look_at:
                self._look_for_due()
            taken = self._take(self._pools[pool], limit, rooms)
            self._looks.looked(pool, rooms, found=bool(taken.pks))
            if not taken.pks and not due:  # with keys in hand nothing may fail any more: nobody else knows of them
                self._look_for_due()
            self._lookout.looked(found=bool(taken.pks))
            return taken

    def _worth_while(self, pool: str, rooms: Mapping[str, int]) -> bool:
        """Tell whether to connect and look, where the database tells every change, or for something else."""
        if self._store.sql.changed() or self._more or self._is_due():
            self._looks.news()
        self._more = False
        owed = self._untold or self._lookout.must_speak or time.monotonic() >= self._upkeep_at()
        return owed or self._looks.worth_while(pool, rooms)

    def _is_due(self) -> bool:
        """Tell whether a scheduled job is due."""
        return self._due_at is not None and time.monotonic() >= self._due_at

    def _take(self, pool: Pool, limit: int, rooms: Mapping[str, int]) -> Taken:
        queues, ordered, sql = pool.feeds, pool.ordered, self._store.sql
        if not rooms:
            return Taken(sql.claim(self._run, queues, limit, ordered=ordered))
        found = sql.claim_within(self._run, queues, rooms, limit, ordered=ordered)
        return Taken([pk for pk, _ in found], {pk: queue for pk, queue in found if queue in rooms})

    def _to_be_told(self, limit: int) -> Sequence[int]:
        """Return jobs of this run that are over and whose receivers a worker is to tell, as far as any are known of."""
        if not self._untold:
            return []
        found = untold_of(self._store, self._run)
        pks = [pk for pk in found if pk not in self._telling]
        self._telling = {*found} - {*pks[limit:]}
        self._untold = len(pks) > limit
        return pks[:limit]

    def _upkeep(self) -> None:
        """Enqueue what schedules have due, and remove jobs that ended long ago; no statement where neither is due."""
        if self._ticking.turn():
            self._more = True
        self._pruning.turn(self._run)

    def _look_for_due(self, after_s: float = 0.0) -> None:
        """Learn when the next scheduled job is due; also now and then while the queue never gets empty.

        Args:
            after_s: when it may be due at the earliest, in seconds.
        """
        self._note_due(self._store.sql.next_due_s(), after_s)

    def _note_due(self, due_in_s: float | None, after_s: float = 0.0) -> bool:
        """Note when the next scheduled job is due; tell whether that is sooner than was known."""
        now, before = time.monotonic(), self._due_at
        self._due_at = None if due_in_s is None else now + max(due_in_s, after_s)
        self._look_at = now + DUE_LOOK_S
        return self._due_at is not None and (before is None or self._due_at < before - DUE_LOOK_S)

    def strays(self, holding: Collection[int]) -> Sequence[int]:
        """Return the jobs that this run claimed without learning of it."""
        with self._reachable():
            return sorted(self._store.claimed_by(self._run) - set(holding))

    def release(self, pks: Sequence[int]) -> None:
        """Give back what was never started."""
        self._more = self._untold = True
        self._telling.difference_update(pks)
        with self._reachable():
            self._store.release(self._run, pks)

    def running(self, mark: Running) -> None:
        """Show a long job as running."""
        worker = worker_id(self._conf.node_name, mark.worker, mark.pid)
        with self._reachable():
            self._store.mark_running(self._run, mark.pk, worker, mark.for_s)

    def cancelled(self) -> Sequence[int]:
        """Return our jobs whose cancellation was asked for; looks when that was told, and now and then in any case."""
        now = time.monotonic()
        if now >= self._upkeep_at() or self._lookout.must_speak:
            with self._reachable():
                self._upkeep()
        told = self._store.sql.cancel_heard()
        if not told and now < self._cancel_look_at:
            return []
        with self._reachable():
            # Without wake-ups nobody tells: then each call looks.
            self._cancel_look_at = now + (CANCEL_LOOK_S if self._lookout.hears else 0.0)
            return self._store.cancel_asked(self._run)

    def paused(self) -> Sequence[int]:
        """Return our jobs whose queue is paused; looks when that was told, and now and then in any case."""
        now, sql = time.monotonic(), self._store.sql
        told = sql.heard(queue_control.PAUSE) or sql.tells_every_change or not self._lookout.hears
        if not told and now < self._pause_look_at:
            return []
        with self._reachable():
            self._pause_look_at = now + CANCEL_LOOK_S
            return queue_control.paused_jobs(self._store, self._run)

    def backlog(self) -> int | None:
        """Return how many jobs are ready, up to `BACKLOG_MAX`; no statement where a look has just found none."""
        if self._lookout.sees_nothing:
            return 0
        with self._reachable():
            return self._store.backlog(self._queues, BACKLOG_MAX)

    def lost(self, losses: Sequence[Loss]) -> Mapping[int, str]:
        """Account for the jobs of a worker that ended."""
        self._more = self._untold = True
        self._telling.difference_update(loss.pk for loss in losses)
        with self._reachable():
            attempts = lost_attempts(losses, self._conf.node_name)
            return {account.pk: str(account) for account in self._store.lost(self._run, attempts)}

    def beat(self, state: str) -> None:
        """Renew the lease.

        Raises:
            RunOver: this run was declared lost and its jobs were given to others.
        """
        with self._reachable():
            if not self._store.beat(self._run, state):
                raise RunOver

    def recover(self) -> None:
        """Take over the jobs of runs whose lease is over, and see to what else is due."""
        with self._reachable():
            self._recover()
            self._upkeep()

    def next_due_s(self) -> float | None:
        """Return in how many seconds the next scheduled job is due, or there is something else to do."""
        now = time.monotonic()
        at = self._upkeep_at() if self._due_at is None else min(self._due_at, self._upkeep_at())
        pause_s = self._lookout.pause_s()
        again_s = self._store.sql.look_again_s()
        return max(0.0, min(at - now, pause_s, pause_s if again_s is None else again_s))

    def _upkeep_at(self) -> float:
        at = self._ticking.due_at
        return self._pruning.due_at if at is None else min(at, self._pruning.due_at)

    def is_empty(self) -> bool:
        """Tell whether nothing is ready, running or to be tried again."""
        with self._reachable():
            return not self._untold and self._store.is_empty(self._queues)

    def wakeup_fd(self) -> int | None:
        """Return the descriptor of what hears: a connection that listens, or a doorbell."""
        return self._fd

    def woken(self) -> bool:
        """Tell whether a notification has arrived."""
        if self._fd is None:
            return self._lookout.must_come_back()
        try:
            return self._lookout.woken()
        except Exception:  # noqa: BLE001  # the connection is gone, in the driver's words; the next claim tells
            self.before_check()
            return True

    def before_check(self) -> None:
        """Close the connections of every alias."""
        sql = self._store.sql
        if self._fd is None or not sql.hears_unconnected:  # wake-ups may be lost meanwhile
            self._fd = None
            self._lookout.disconnected()
            self._away_at = time.monotonic() if self._away_at is None else self._away_at
            self._pause_look_at = 0.0
        with sql.closing():
            connections.close_all()

    def close(self, *, finished: bool) -> None:
        """End the run; one that owes something stays open, for its successor to recover."""
        try:
            if finished and self._run:
                with self._store.sql.briefly():
                    runs.end(self._store, self._run)
        except DatabaseError as error:
            _log.warning("the end of this run cannot be recorded: %s", error)
        finally:
            connections.close_all()
            self._store.sql.leave()

    def _recover(self) -> None:
        thorough = self._beats % BEATS_PER_LOOK == 0  # what is left over when somebody died while recovering
        self._beats += 1
        self._untold |= thorough
        accounts: list[Account] = runs.recover(
            self._store, self._run, self._runfile.identity, thorough=thorough, begun=self._begun
        )
        if thorough or accounts:
            self._untold |= adopt(self._store, self._run)
        if accounts:
            self._more = True
            failed = sum(account.status is Status.FAILED for account in accounts)
            _log.warning(
                "recovered %d job%s of supervisors that ended without a word%s",
                len(accounts),
                "s" * (len(accounts) != 1),
                f", {failed} of them had no attempt left" if failed else "",
            )

    def _begun(self, dead: Supervisor) -> frozenset[int] | None:
        """Return what a run with our run file had begun; its workers are dead."""
        return begun(begun_path(self._runfile.path, dead.pk), dead.pid)

    def _tell_deafness(self) -> None:
        """Say it once when notifications do not arrive, and once when they do again."""
        before, self._deafness = self._deafness, self._store.sql.deafness
        if self._deafness and self._deafness != before:
            _log.warning("%s", self._deafness)
        elif before and not self._deafness:
            _log.info("notifications from database %r arrive again", self._store.alias)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Connect, and turn the database's errors into the supervisor's, in words; no wait in it is long."""
        with self._store.sql.briefly(), reaching.in_words(self._store, self.before_check):
            self._fd = self._store.sql.attend(listen=self._conf.notify)
            self._tell_deafness()
            self._lookout.speak()
            if self._away_at is not None and time.monotonic() - self._away_at > AWAY_S:
                self._ticking.look()
            self._away_at = None
            yield
