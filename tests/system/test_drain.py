"""How a supervisor stops: what runs may end, what was not begun goes back untouched, what is cut short is told."""

from __future__ import annotations

import os
import re
import signal
import time
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from jobsup.models import FailedAttempt, Job, Status
from jobsup.models import Supervisor as Run
from tests.support import eventually, is_alive, processes_of
from tests.system.jobs import (
    ON_POSTGRESQL,
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    row,
    runs,
    status,
    wait_begun,
    wait_final,
    wait_status,
    words,
)
from tests.testapp import nasty, tasks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Database

TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP


def test_term_finishes_what_was_begun_and_gives_the_rest_back_uncounted(database: Database, tmp_path: Path) -> None:
    """Jobs that wait on the worker's lane are READY again with attempt 0; a second supervisor takes them at once."""
    for _ in range(300):
        tasks.noop.enqueue()  # teaches the pace: what comes next is sent ahead
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    behind = [tasks.effect.enqueue() for _ in range(50)]
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held)
        eventually(lambda: Job.objects.filter(status=Status.RUNNING).count() > 1, 5, "keys waiting on the lane")
        supervisor.signal(TERM)
        eventually(lambda: all(status(job) is Status.READY for job in behind), 5, "their return", supervisor.picture)
        assert status(held) is Status.RUNNING
        (tmp_path / "go").touch()
        assert supervisor.wait() == 0
    assert_once(held)
    rows = Job.objects.filter(pk__in=[int(job.id) for job in behind])
    assert set(rows.values_list("attempt", "claimed_by", "started_at")) == {(0, None, None)}
    assert not FailedAttempt.objects.exists()
    with database.supervisor("--workers", "1", "--name", "second", "--exit-when-empty") as second:
        assert second.wait() == 0
    for job in behind:
        assert_once(job)
    assert_nobody_owns_anything()


def test_a_job_that_outlasts_the_grace_is_cut_short_and_put_back_for_the_next_supervisor(
    database: Database, tmp_path: Path
) -> None:
    """Exit 0 soon after the grace; the attempt counts and is told; the job is READY, not failed."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1", "--grace", "0.3") as supervisor:
        wait_begun(supervisor, job)
        supervisor.signal(TERM)
        supervisor.wait_log("the grace of 0.3 s is over")
        assert supervisor.wait() == 0
        assert "was killed by SIGABRT by the stop of its supervisor" in supervisor.log()
    assert (status(job), row(job).attempt) == (Status.READY, 1)
    (sentence,) = words(job)
    assert "was killed by SIGABRT" in sentence
    assert f"while running job {job.id} tests.testapp.tasks.hold, attempt 1 of 5, after " in sentence
    assert_nobody_owns_anything()
    (tmp_path / "go").touch()
    with database.supervisor("--workers", "1", "--name", "second", "--exit-when-empty") as second:
        assert second.wait() == 0
    assert (status(job), row(job).attempt) == (Status.SUCCESSFUL, 2)


@ON_SQLITE
def test_f37_the_python_line_of_a_job_that_was_cut_short_is_in_the_log(database: Database, tmp_path: Path) -> None:
    """SIGABRT comes before SIGKILL so that it says where it hangs; the job's own account has the whole stack."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1", "--grace", "0") as supervisor:
        wait_begun(supervisor, job)
        supervisor.stop()
        log = supervisor.log()
    assert re.search(r"; it was at \S+tasks.py:\d+ in hold", log)
    assert re.search(r'tasks.py", line \d+ in hold', words(job)[0])


@ON_SQLITE
def test_f33_jobs_that_are_deaf_to_every_polite_signal_do_not_keep_the_supervisor(database: Database) -> None:
    """SIGTERM and even SIGABRT ignored: the ladder ends in SIGKILL two seconds later."""
    deaf, deafer = nasty.ignore_term.enqueue(60), nasty.ignore_everything.enqueue(60)
    with database.supervisor("--workers", "2", "--grace", "0.3") as supervisor:
        wait_begun(supervisor, deaf)
        wait_begun(supervisor, deafer)
        supervisor.stop(timeout_s=10)
    assert "was killed by SIGABRT" in words(deaf)[0]
    assert "was killed by SIGKILL" in words(deafer)[0]
    assert (status(deaf), status(deafer)) == (Status.READY, Status.READY)


@pytest.mark.parametrize(
    ("database", "numbers"),
    [("sqlite", [QUIT]), ("postgresql", [INT, INT]), ("sqlite", [INT, TERM]), ("postgresql", [TERM, QUIT])],
    indirect=["database"],
    ids=["quit", "int-int", "int-term", "term-quit"],
)
def test_s10_quit_or_a_second_int_stops_now_and_puts_the_running_job_back(
    database: Database, tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    """The grace is 30 s and is not waited for."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, job)
        for number in numbers[:-1]:
            supervisor.signal(number)
            supervisor.wait_log(f"{number.name} received: the supervisor drains")
        supervisor.signal(numbers[-1])
        assert supervisor.wait(10) == 0
        assert f"{numbers[-1].name} received: the supervisor stops now" in supervisor.log()
    assert (status(job), len(words(job))) == (Status.READY, 1)
    assert_nobody_owns_anything()


@ON_SQLITE
def test_s3_ctrl_c_goes_to_the_whole_group_and_the_jobs_finish(database: Database, tmp_path: Path) -> None:
    """Workers ignore the terminal: idle ones do not die of it, running jobs do not see KeyboardInterrupt."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        wait_begun(supervisor, job)
        os.killpg(supervisor.pid, INT)
        supervisor.wait_log("SIGINT received: the supervisor drains")
        (tmp_path / "go").touch()
        assert supervisor.wait() == 0
    assert_once(job)


@ON_SQLITE
def test_s3_ctrl_c_while_the_workers_boot_ends_everything_quietly(database: Database, tmp_path: Path) -> None:
    """No traceback of a half-imported worker."""
    (tmp_path / "boot").write_text("sleep 30")
    database.env["JOBSUP_TEST_BOOT"] = str(tmp_path / "boot")
    with database.supervisor("--workers", "2") as supervisor:
        eventually(lambda: len(supervisor.workers()) == 2, 10, "two booting workers", supervisor.picture)
        os.killpg(supervisor.pid, INT)
        assert supervisor.wait(10) == 0
        assert "Traceback" not in supervisor.log()


@ON_SQLITE
def test_f43_five_terms_are_one_drain(database: Database, tmp_path: Path) -> None:
    """An impatient service manager does not cut the job short."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, job)
        for _ in range(5):
            supervisor.signal(TERM)
        supervisor.wait_log("drains")
        supervisor.signal(HUP)
        supervisor.wait_log("left out: the supervisor is stopping")
        (tmp_path / "go").touch()
        assert supervisor.wait() == 0
        assert supervisor.log().count("the supervisor drains") == 1
    assert_once(job)


@ON_SQLITE
def test_f43_twenty_hups_end_in_two_fresh_workers(database: Database) -> None:
    """Asked again while reloading: once more afterwards, not twenty times; nobody is left over."""
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        old = supervisor.workers()
        for _ in range(20):
            supervisor.signal(HUP)
            time.sleep(0.01)  # spread over the first reload; how they fall does not matter
        supervisor.wait_log("reload done")
        eventually(
            lambda: supervisor.log().count("reload done") == supervisor.log().count("reload: starting")
            and len(supervisor.workers()) == 2,
            15, "the end of the reloads", supervisor.picture,
        )  # fmt: skip
        assert not set(old) & set(supervisor.workers())
        job = tasks.effect.enqueue()
        wait_final(supervisor, [job])
        supervisor.stop()
        assert supervisor.log().count("reload done") <= 4
    assert_once(job)


@ON_SQLITE
@pytest.mark.parametrize(
    "order", list(permutations([TERM, HUP, INT])), ids=lambda order: "-".join(s.name[3:] for s in order)
)
def test_f43_term_hup_and_int_in_any_order_end_it_once(
    database: Database, tmp_path: Path, order: tuple[signal.Signals, ...]
) -> None:
    """Exit 0, nobody left, no claim, no traceback; the job is either done or back in the queue."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, job)
        for number in order:
            supervisor.signal(number)
        (tmp_path / "go").touch()
        assert supervisor.wait() == 0
        assert "Traceback" not in supervisor.log()
    assert status(job) in (Status.SUCCESSFUL, Status.READY)
    assert_nobody_owns_anything()
    assert Run.objects.get().state == "stopped"


@ON_POSTGRESQL
def test_a_worker_that_is_asked_to_leave_from_outside_finishes_its_job_and_is_replaced(
    database: Database, tmp_path: Path
) -> None:
    """TERM to one worker, as an administrator would: no attempt is lost, what waited behind runs elsewhere."""
    for _ in range(300):
        tasks.noop.enqueue()
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    behind = [tasks.effect.enqueue() for _ in range(20)]
    with database.supervisor("--workers", "1") as supervisor:
        pid = wait_begun(supervisor, job)
        os.kill(pid, TERM)
        (tmp_path / "go").touch()
        wait_final(supervisor, [job, *behind])
        eventually(lambda: not is_alive(pid), 5, "its leave")
        supervisor.stop()
    for each in (job, *behind):
        assert_once(each)
    assert pid not in {runs(each)[0].pid for each in behind}


@ON_POSTGRESQL
def test_a_drain_waits_for_jobs_of_other_workers_but_lets_idle_ones_go_at_once(
    database: Database, tmp_path: Path
) -> None:
    """One job of three workers: two leave immediately."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "3") as supervisor:
        supervisor.wait_ready()
        pid = wait_begun(supervisor, job)
        wait_status(supervisor, job, Status.RUNNING)
        supervisor.signal(TERM)
        eventually(lambda: supervisor.workers() == [pid], 5, "the leave of the idle ones", supervisor.picture)
        (tmp_path / "go").touch()
        assert supervisor.wait() == 0
        assert processes_of(supervisor.pid) == []
    assert_once(job)
