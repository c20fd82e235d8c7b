"""Pools under the real command: slow jobs starve nobody, limits hold, a queue that is paused rests on every host."""

from __future__ import annotations

import json
import os
import re
import signal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from jobsup import queue_control
from jobsup.models import Job, Status
from jobsup.store import Store
from tests.support import Supervisor, environment, eventually, run_django, title_of
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    runs,
    status,
    wait_begun,
    wait_final,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

WAIT_S = 60
POOLS: dict[str, Any] = {
    "mail": {"WORKERS": 1, "QUEUES": ["default"]},
    "rest": {"WORKERS": 2, "QUEUES": ["slow", "other"], "LIMITS": {"slow": 1}},
}
slow = tasks.hold.using(queue_name="slow")
other = tasks.hold.using(queue_name="other")


def test_slow_reports_do_not_starve_the_mail_and_keep_to_their_limit(database: Database, tmp_path: Path) -> None:
    """However many wait, one of them runs: the other worker of their pool is for other queues, the mail has its own."""
    go = tmp_path / "go"
    reports = [slow.enqueue(str(go)) for _ in range(4)]
    mails, quick = [tasks.effect.enqueue() for _ in range(20)], [tasks.effect.using(queue_name="other").enqueue()]
    with database.supervisor(JOBSUP={"POOLS": POOLS}) as supervisor:
        wait_begun(supervisor, reports[0], timeout_s=WAIT_S)
        wait_final(supervisor, [*mails, *quick], WAIT_S)
        assert [len(runs(report)) for report in reports] == [1, 0, 0, 0]
        supervisor.wait_log("serves mail: queue default; rest: queues slow, other (slow at most 1 at once)", WAIT_S)
        supervisor.wait_log("ready: 3 workers on duty: ", WAIT_S)
        titles = sorted(re.sub(r"(idle|job \d+) ?.*", "", title_of(pid)) for pid in supervisor.workers())
        assert titles == ["jobsup: worker 1 (mail) ", "jobsup: worker 2 (rest) ", "jobsup: worker 3 (rest) "]
        told = run_django(supervisor_env(database), "jobsupervisor", "status").stdout
        assert "pool mail: 1 worker, 0 busy, serves default\n" in told
        assert "pool rest: 2 workers, 1 busy, serves slow, other (slow at most 1 at once)\n" in told
        assert re.search(r"^worker \d \(rest, pid \d+\): job \d+ for ", told, re.MULTILINE)
        answer = json.loads(run_django(supervisor_env(database), "jobsupervisor", "status", "--json").stdout)
        assert {pool["name"]: pool["workers_wanted"] for pool in answer["status"]["pools"]} == {"mail": 1, "rest": 2}
        supervisor.signal(signal.SIGTTIN)
        supervisor.wait_log("the number of workers stays: there are 2 pools", WAIT_S)
        go.touch()
        wait_final(supervisor, reports, WAIT_S)
        supervisor.stop()
    spans: list[Any] = sorted(Job.objects.filter(queue="slow").values_list("started_at", "finished_at"))
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans
    for job in (*reports, *mails, *quick):
        assert_once(job)
    assert_nobody_owns_anything()


def supervisor_env(database: Database) -> dict[str, str]:
    """Return the environment of a command to a supervisor with the pools of this module."""
    return database.with_settings(JOBSUP={"POOLS": POOLS})


def test_a_paused_queue_rests_on_every_host_until_it_goes_on(database: Database, tmp_path: Path) -> None:
    """Two supervisors on one database: what runs is finished, what one has claimed and not begun goes back."""
    go, store = tmp_path / "go", Store()
    nodes = [{"NAME": name, "NODE": name, "WORKERS": 1} for name in ("one", "two")]
    with database.supervisor(JOBSUP=nodes[0]) as one, database.supervisor(JOBSUP=nodes[1]) as two:
        one.wait_ready(WAIT_S)
        two.wait_ready(WAIT_S)
        holding = [other.enqueue(str(go)) for _ in range(2)]
        for job in holding:
            wait_begun(one, job, timeout_s=WAIT_S)
        assert queue_control.pause(store, ["other"]) == ["other"]
        rest = [tasks.effect.using(queue_name="other").enqueue() for _ in range(10)]
        go.touch()
        wait_final(one, holding, WAIT_S)
        others = [tasks.effect.enqueue() for _ in range(10)]
        wait_final(one, others, WAIT_S)
        assert {status(job) for job in rest} == {Status.READY}
        assert queue_control.resume(store, ["other"]) == ["other"]
        wait_final(two, rest, WAIT_S)
        one.stop()
        two.stop()
    for job in (*holding, *rest, *others):
        assert_once(job)
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_what_waits_on_a_lane_goes_back_when_its_queue_is_paused(database: Database, tmp_path: Path) -> None:
    """The worker had it before it, behind a job that takes long; no attempt of it is counted."""
    go, store = tmp_path / "go", Store()
    warm = [tasks.noop.enqueue() for _ in range(300)]
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        wait_final(supervisor, warm, WAIT_S)
        long = tasks.hold.using(priority=10).enqueue(str(go))
        behind = [tasks.effect.using(queue_name="other").enqueue() for _ in range(5)]
        wait_begun(supervisor, long, timeout_s=WAIT_S)
        queue_control.pause(store, ["other"])
        eventually(lambda: {status(job) for job in behind} == {Status.READY}, WAIT_S, "the jobs given back")
        go.touch()
        wait_final(supervisor, [long], WAIT_S)
        queue_control.resume(store, ["other"])
        wait_final(supervisor, behind, WAIT_S)
        supervisor.stop()
    for job in (long, *behind):
        assert_once(job)
    assert_nobody_owns_anything()


@ON_POSTGRESQL
def test_a_reload_takes_other_pools(database: Database, tmp_path: Path) -> None:
    """The new workers read them: another size, a queue that was not served before, a pool that is new."""
    settings = tmp_path / "changing_pools.py"

    def say(pools: dict[str, Any]) -> None:
        settings.write_text(f"from tests.settings import *\n\nJOBSUP |= {{'POOLS': {pools!r}}}\n")

    say({"mail": {"WORKERS": 1, "QUEUES": ["default"]}})
    paths = os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])
    own = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_SETTINGS_MODULE": "changing_pools"}
    with Supervisor({**database.env, **own}) as supervisor:
        supervisor.wait_ready(WAIT_S)
        left = tasks.effect.using(queue_name="slow").enqueue()
        say(POOLS)
        supervisor.signal(signal.SIGHUP)
        supervisor.wait_log("the pools from now on: mail with 1 worker, rest with 2 workers", WAIT_S)
        wait_final(supervisor, [left], WAIT_S)
        say({"mail": {"WORKERS": 0, "QUEUES": ["default"]}})
        supervisor.signal(signal.SIGHUP)
        supervisor.wait_log("JOBSUP['POOLS']['mail']['WORKERS'] is 0: must lie between 1 and 1024", WAIT_S)
        supervisor.stop()
    assert_once(left)


@ON_SQLITE
@pytest.mark.parametrize(
    ("args", "settings", "expected"),
    [
        (["--workers", "2"], {"POOLS": POOLS}, "--workers 2: JOBSUP['POOLS'] says how many workers each pool has"),
        (["--queue", "slow"], {"POOLS": POOLS}, "--queue slow: JOBSUP['POOLS'] says which queues are served"),
        ([], {"POOLS": {"a": {"WORKERS": 1, "QUEUES": ["no"]}}}, "JOBSUP['POOLS']['a'] serves 'no': no backend"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    database: Database, args: list[str], settings: dict[str, Any], expected: str
) -> None:
    """By the command, with exit code 4 and without a traceback."""
    with database.supervisor(*args, JOBSUP=settings) as supervisor:
        assert supervisor.wait(WAIT_S) == 4
        log = supervisor.log()
    assert f"CommandError: {expected}" in log
    assert "Traceback" not in log
