"""Jobs with `atomic=True` under real supervisors: whatever dies at whatever moment, their effects are there once."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from jobsup.models import FailedAttempt, Job, Status
from tests.support import eventually, title_of
from tests.system.jobs import (
    FINAL,
    ON_POSTGRESQL,
    assert_nobody_owns_anything,
    assert_once,
    picture,
    sessions,
    terminate,
)
from tests.testapp.atomics import cross, once
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database
    from tests.support import Supervisor

PATIENT_S = 60
JOBS = 200
DEEDS = 10
DEED_EVERY_S = 0.3


def assert_effects_once(jobs: list[Any]) -> None:
    """Fail unless each job is successful, and its effect there exactly once."""
    assert {status for (status,) in Job.objects.values_list("status")} == {Status.SUCCESSFUL}
    counted = dict(Effect.objects.values_list("job").annotate(Count("pk")))
    assert counted == {int(job.id): 1 for job in jobs}
    told = Effect.objects.values_list("job", "attempt")
    assert set(told) == set(Job.objects.values_list("pk", "attempt")), (
        "the effects are those of the attempt that counts"
    )


def test_f4_killed_at_each_step_of_the_end_an_atomic_job_loses_and_doubles_nothing(
    database: Database, tmp_path: Path
) -> None:
    """Before the record of its success, between that and the COMMIT, after the COMMIT before anybody heard of it."""
    steps = [("before", "finished_at ="), ("before", "COMMIT"), ("after", "COMMIT")]
    database.env["JOBSUP_TEST_FAULT"] = json.dumps(
        [
            {"in": "worker", "when": when, "sql": sql, "action": "kill", "marker": str(tmp_path / f"fault {number}")}
            for number, (when, sql) in enumerate(steps)
        ]
    )
    jobs = [once.enqueue() for _ in range(8)]
    with database.supervisor("--workers", "1", "--exit-when-empty") as supervisor:
        assert supervisor.wait(PATIENT_S) == 0
        log = supervisor.log()
    assert len(list(tmp_path.glob("fault *"))) == len(steps)
    assert log.count("was killed by SIGKILL") == len(steps)
    assert_effects_once(jobs)
    assert FailedAttempt.objects.count() == 2, "the death after the COMMIT cost nothing"
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_p14_two_jobs_that_deadlock_are_both_done(database: Database, tmp_path: Path) -> None:
    """The server ends one of them, which is repeated at once, within its attempt."""
    first, second = (Effect.objects.create(job=0, attempt=0, pid=0).pk for _ in range(2))
    jobs = [cross.enqueue(first, second, str(tmp_path)), cross.enqueue(second, first, str(tmp_path))]
    with database.supervisor("--workers", "2", "--exit-when-empty") as supervisor:
        assert supervisor.wait(PATIENT_S) == 0
        log = supervisor.log()
    for job in jobs:
        assert_once(job)
        job.refresh()
    assert sorted(job.return_value for job in jobs) == [1, 2]
    assert "is repeated from its beginning: django.db.utils.OperationalError: deadlock detected" in log
    assert set(Effect.objects.filter(job=0).values_list("attempt", flat=True)) == {2}


def test_f6_f10_the_effects_of_atomic_jobs_are_there_once_whatever_is_killed(database: Database) -> None:
    """Workers and supervisors are killed and sessions ended at random, while 200 jobs run."""
    seed = time.time_ns() % 1_000_000
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    jobs = [once.enqueue(60 if database.vendor == "postgresql" else 10) for _ in range(JOBS)]
    settings = {"RESTARTS": 1_000_000, "WORKERS": 3}
    supervisor = database.supervisor(JOBSUP=settings).start()
    deeds = 0
    try:
        while deeds < DEEDS or Job.objects.exclude(status__in=FINAL).exists():
            time.sleep(DEED_EVERY_S)
            deeds += 1
            match chance.choice(["worker", "worker", "worker", "session", "session", "supervisor"]):
                case _ if deeds > DEEDS * 3:
                    break
                case "worker":
                    kill_one(supervisor, chance)
                case "session" if database.vendor == "postgresql":
                    terminate(chance.sample(sessions() or [0], 1))
                case "supervisor":
                    supervisor.kill()
                    supervisor.close()
                    supervisor = database.supervisor(JOBSUP=settings).start()
        eventually(
            lambda: not Job.objects.exclude(status__in=FINAL).exists(),
            PATIENT_S,
            "the end of the jobs",
            lambda: picture(supervisor),
        )
        eventually(supervisor.workers, PATIENT_S, "a worker", supervisor.picture)
        supervisor.stop(timeout_s=PATIENT_S)
    finally:
        supervisor.close()
    assert_effects_once(jobs)
    assert_nobody_owns_anything()


def kill_one(supervisor: Supervisor, chance: random.Random) -> None:
    """Kill a worker that is past its boot."""
    if workers := [pid for pid in supervisor.workers() if not title_of(pid).endswith("booting")]:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
