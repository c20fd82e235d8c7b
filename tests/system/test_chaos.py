"""Jepsen in small: processes are killed at random while jobs run, then the history is judged.

First only workers are killed, for as long as 2,000 jobs take. Then anything happens for JOBSUP_CHAOS_SECONDS (a few in
`make test`, minutes in `make chaos`): supervisors are killed, stopped and reloaded too, workers sleep for a while,
sessions of the server are ended. The seed is written down; JOBSUP_CHAOS_SEED repeats its choices.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually, is_alive, title_of
from tests.system.jobs import FINAL, assert_nobody_owns_anything, picture, sessions, terminate
from tests.testapp.models import Effect
from tests.testapp.tasks import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.databases import Database
    from tests.support import Supervisor

SECONDS = float(os.environ.get("JOBSUP_CHAOS_SECONDS", "5"))
SEED = int(os.environ.get("JOBSUP_CHAOS_SEED", "0")) or time.time_ns() % 1_000_000
JOBS = 2000
JOBS_PER_KILL = 10
"""How many jobs are done between two kills at the least: a busy machine may kill faster than it boots."""
WORKERS = 4
KILL_EVERY_S = 0.3
AT_ONCE_MAX = 1000
DRAIN_S = 90


class Nemesis:
    """Chooses whom to hurt and how, and keeps count."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.random = random.Random(SEED)
        self.deeds: Counter[str] = Counter()
        self.logs: list[str] = []
        self.stopped: list[tuple[float, int]] = []
        self.supervisor = self._start()
        self._deeds: dict[Callable[[], None], int] = {
            self.kill_worker: 10,
            self.stop_worker: 3,
            self.kill_supervisor: 1,
            self.restart: 1,
            self.reload: 1,
        }
        if database.vendor == "postgresql":
            self._deeds[self.end_session] = 4

    def anything(self) -> None:
        """Do something, the usual more often than the rare."""
        deed = self.random.choices(list(self._deeds), list(self._deeds.values()))[0]
        self.deeds[deed.__name__] += 1
        deed()

    def kill_worker(self) -> None:
        """Kill a worker that is past its boot: one that dies in it is waited with before the next try."""
        if workers := [pid for pid in self.supervisor.workers() if not title_of(pid).endswith("booting")]:
            self._send(self.random.choice(workers), signal.SIGKILL)

    def stop_worker(self) -> None:
        """Have a worker sleep for up to two seconds."""
        if workers := self.supervisor.workers():
            pid = self.random.choice(workers)
            self.stopped.append((time.monotonic() + self.random.uniform(0.1, 2), pid))
            self._send(pid, signal.SIGSTOP)

    def wake(self, *, everybody: bool = False) -> None:
        """Let those go on that have slept enough."""
        due = [pid for at, pid in self.stopped if everybody or at <= time.monotonic()]
        self.stopped = [(at, pid) for at, pid in self.stopped if pid not in due]
        for pid in due:
            self._send(pid, signal.SIGCONT)

    def kill_supervisor(self) -> None:
        """Kill the supervisor and start another one of its name."""
        self.supervisor.kill()
        self._again()

    def restart(self) -> None:
        """Drain, as at a deploy, and start again."""
        self.wake(everybody=True)
        if self._is_up():
            self.supervisor.stop()
            self._again()

    def reload(self) -> None:
        """Replace the workers by fresh ones."""
        if self._is_up():
            self.supervisor.signal(signal.SIGHUP)

    def end_session(self) -> None:
        """End any session of the server but our own."""
        if found := sessions():
            terminate([self.random.choice(found)])

    def close(self) -> None:
        """Drain for good."""
        self.wake(everybody=True)
        eventually(self._is_up, 10, "a worker", self.supervisor.picture)
        self.supervisor.stop(timeout_s=40)
        self._keep()

    def _is_up(self) -> bool:
        """Tell whether the supervisor has workers; before that a signal may end it like any other process."""
        return bool(self.supervisor.workers())

    def _start(self) -> Supervisor:
        # Deaths are no sign of anything here: the pool is not to be slowed down.
        return self.database.supervisor("--workers", str(WORKERS), JOBSUP={"RESTARTS": 1_000_000}).start()

    def _again(self) -> None:
        self._keep()
        self.supervisor = self._start()

    def _keep(self) -> None:
        self.logs.append(self.supervisor.log())
        self.supervisor.close()

    @staticmethod
    def _send(pid: int, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if is_alive(pid):
                os.kill(pid, number)


@pytest.fixture
def nemesis(database: Database) -> Iterator[Nemesis]:
    """A nemesis with a supervisor to hurt."""
    sys.stdout.write(f"JOBSUP_CHAOS_SEED={SEED}\n")
    nemesis = Nemesis(database)
    yield nemesis
    sys.stdout.write(picture(nemesis.supervisor) if nemesis.supervisor.process.poll() is None else "")
    nemesis.supervisor.close()


def enqueue(count: int, chance: random.Random) -> None:
    """Enqueue jobs of a few milliseconds each."""
    with transaction.atomic():
        for _ in range(count):
            work.enqueue(chance.uniform(1, 6))


def unfinished() -> int:
    """Return how many jobs are not final."""
    return Job.objects.exclude(status__in=FINAL).count()


def drain(nemesis: Nemesis, seconds: float) -> None:
    """Wait until every job is final; a supervisor that ended by itself is a failure."""
    deadline = time.monotonic() + seconds
    while unfinished():
        nemesis.wake()
        assert nemesis.supervisor.process.poll() is None, nemesis.supervisor.log()
        assert time.monotonic() < deadline, picture(nemesis.supervisor)
        time.sleep(0.05)


def judge(nemesis: Nemesis) -> str:
    """Fail unless the history is one that was promised; return it in a few words."""
    failed: defaultdict[int, list[int]] = defaultdict(list)
    for pk, attempt in FailedAttempt.objects.order_by("job_id", "attempt").values_list("job_id", "attempt"):
        failed[pk].append(attempt)
    effects: defaultdict[int, list[int]] = defaultdict(list)
    for pk, attempt in Effect.objects.order_by("job", "attempt").values_list("job", "attempt"):
        effects[pk].append(attempt)
    jobs = list(Job.objects.order_by("pk"))
    for job in jobs:
        told = f"job {job.pk}: attempt {job.attempt}, failed {failed[job.pk]}, effects {effects[job.pk]}"
        assert job.status == Status.SUCCESSFUL, told
        assert job.result == str(job.attempt), told
        assert failed[job.pk] == list(range(1, job.attempt)), f"every attempt but the last is told once: {told}"
        assert len(set(effects[job.pk])) == len(effects[job.pk]), f"one run per attempt: {told}"
        assert effects[job.pk], f"it ran: {told}"
        assert effects[job.pk][-1] == job.attempt, f"the last attempt ran: {told}"
    assert not FailedAttempt.objects.filter(traceback="").exists()
    assert_nobody_owns_anything()
    for log in nemesis.logs:
        assert not re.search(r"^Traceback", log, re.MULTILINE), log
    again = sum(job.attempt > 1 for job in jobs)
    return f"{len(jobs)} jobs, {again} of them more than once, all successful and all accounted for; {nemesis.deeds}"


def test_2000_jobs_while_workers_are_killed_at_random(nemesis: Nemesis) -> None:
    """`kill -9` of a random worker every 300 ms: every job succeeds, every attempt is told truthfully."""
    enqueue(JOBS, nemesis.random)
    deadline, at_kill = time.monotonic() + DRAIN_S, JOBS + JOBS_PER_KILL
    while left := unfinished():
        if left <= at_kill - JOBS_PER_KILL:
            at_kill = left
            nemesis.deeds["kill_worker"] += 1
            nemesis.kill_worker()
        assert nemesis.supervisor.process.poll() is None, nemesis.supervisor.log()
        assert time.monotonic() < deadline, picture(nemesis.supervisor)
        time.sleep(KILL_EVERY_S)
    nemesis.close()
    sys.stdout.write(judge(nemesis))
    assert nemesis.logs[0].count("was killed by SIGKILL") >= nemesis.deeds["kill_worker"] // 2


def test_everything_at_random_for_a_while(nemesis: Nemesis, capsys: pytest.CaptureFixture[str]) -> None:
    """Workers and supervisors killed, stopped, reloaded, sessions ended: whatever was enqueued is done in the end."""
    ends_at = time.monotonic() + SECONDS
    while time.monotonic() < ends_at:
        if (count := unfinished()) < AT_ONCE_MAX // 2:
            enqueue(AT_ONCE_MAX - count, nemesis.random)
        nemesis.anything()
        nemesis.wake()
        time.sleep(nemesis.random.uniform(0, 2 * KILL_EVERY_S))
    nemesis.wake(everybody=True)
    drain(nemesis, DRAIN_S + SECONDS)
    nemesis.close()
    verdict = judge(nemesis)
    with capsys.disabled():
        sys.stdout.write(f"\nseed {SEED}: {verdict}\n")
