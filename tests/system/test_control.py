"""Talking to a supervisor that runs: the command is over when the fact has come, and its exit code says which."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import Status
from spawnpool.client import holder
from tests.support import ROOT, Supervisor, environment, eventually, heeding_ctrl_c, run_django
from tests.system.jobs import (
    ON_SQLITE,
    assert_nobody_owns_anything,
    assert_once,
    row,
    status,
    wait_begun,
    wait_final,
    words,
)
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Database

SAID_NO, WRONG_USAGE, REFUSED, BAD_CONFIG, NOT_RUNNING, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 9, 124, 130
WAIT_S = 60


def tell(database: Database, *args: str) -> tuple[int, str]:
    """Run the command to its end; return its exit code and all that it printed."""
    done = run_django(database.env, "jobsupervisor", *args, timeout_s=WAIT_S)
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


def told(database: Database, *args: str, code: int = 0) -> dict[str, Any]:
    """Run a command that is answered; return the answer as data."""
    returned, printed = tell(database, *args, "--json")
    assert returned == code, printed
    answer: dict[str, Any] = json.loads(printed)
    assert answer["ok"] is True
    return answer


@contextmanager
def telling(database: Database, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command while the block does other things."""
    command = [sys.executable, "-m", "django", "jobsupervisor", *args]
    pipe = subprocess.PIPE
    with heeding_ctrl_c():
        started = subprocess.Popen(
            command, cwd=ROOT, env=environment(database.env), stdout=pipe, stderr=subprocess.STDOUT, text=True
        )
    with started as client:
        try:
            yield client
        finally:
            client.kill()


def end_of(client: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a command that `telling` runs; return its exit code and all that it printed."""
    printed, _ = client.communicate(timeout=WAIT_S)
    assert "Traceback" not in printed
    return client.returncode, printed


def wait_draining(database: Database) -> None:
    """Wait until the supervisor has taken in that it shall end."""
    eventually(lambda: told(database, "status")["status"]["state"] == "draining", WAIT_S, "the drain")


def run_file(place: Path) -> Path:
    """Return the one run file in a folder."""
    (path,) = place.glob("*.run")
    return path


def sockets_of(pid: int) -> list[str]:
    """Return the sockets that a process has open."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since the folder was listed
            targets.append(str(link.readlink()))
    return [target for target in targets if target.startswith("socket:")]


# -- status, quiet, resume, reload ------------------------------------------------------------------------------------


def test_status_tells_who_does_what(database: Database, tmp_path: Path) -> None:
    """In lines for humans, in JSON for programs; with --wait as soon as every worker is on duty."""
    job = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_log("serves queue")
        code, printed = tell(database, "status", "--wait")
        assert code == 0
        wait_begun(supervisor, job, timeout_s=WAIT_S)
        snapshot = told(database, "status")["status"]
        assert (snapshot["name"], snapshot["pid"], snapshot["state"]) == ("default", supervisor.pid, "running")
        assert (snapshot["quiet"], snapshot["degraded"], snapshot["reload"]) == (False, None, None)
        assert sorted(worker["pid"] for worker in snapshot["workers"]) == supervisor.workers()
        assert sorted([worker["job"] or 0 for worker in snapshot["workers"]]) == [0, int(job.id)]
        assert all(worker["rss_bytes"] > 1 << 20 for worker in snapshot["workers"])
        code, printed = tell(database, "status")
        head, *lines = printed.splitlines()
        assert code == 0
        assert head.startswith("supervisor default on ")
        assert f"(pid {supervisor.pid}): running, 2 workers, 1 busy, " in head
        assert len(lines) == 2
        assert f": job {job.id} for " in "".join(lines)
        assert ": idle" in "".join(lines)
        (tmp_path / "go").touch()
        supervisor.stop(timeout_s=WAIT_S)


@ON_SQLITE
def test_status_tells_what_it_waits_for(database: Database, tmp_path: Path) -> None:
    """As the log and the service manager are told."""
    database.env["JOBSUP_TEST_SQLITE"] = str(tmp_path / "empty")
    told_why = "waiting: database 'default' has no tables of jobsup; run: manage.py migrate jobsup"
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log(told_why, WAIT_S)
        code, printed = tell(database, "status")
        assert (code, printed.splitlines()[1][: len(told_why)]) == (10, told_why), printed
        assert told(database, "status", code=10)["status"]["trouble"].startswith(told_why)
        supervisor.stop(timeout_s=WAIT_S)


@ON_SQLITE
def test_a_supervisor_whose_run_file_is_removed_says_so(database: Database, tmp_path: Path) -> None:
    """Once, and it goes on; nobody finds it any more."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        run_file(tmp_path).unlink()
        supervisor.wait_log(" was removed: nobody finds this supervisor by its name any more", WAIT_S)
        assert tell(database, "status")[0] == NOT_RUNNING
        supervisor.stop(timeout_s=WAIT_S)


@ON_SQLITE
def test_quiet_and_resume_wait_until_nothing_runs_and_until_work_is_taken_again(
    database: Database, tmp_path: Path
) -> None:
    """Quiet is a fact when the last job has ended."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        code, printed = tell(database, "quiet")
        assert (code, len(printed.splitlines())) == (0, 1)
        late = tasks.effect.enqueue()
        with telling(database, "quiet", "--wait", "--json") as client:
            eventually(lambda: sockets_of(client.pid), WAIT_S, "its connection")
            snapshot = told(database, "status")["status"]
            assert (snapshot["quiet"], snapshot["workers"][0]["job"]) == (True, int(held.id))
            (tmp_path / "go").touch()
            code, printed = end_of(client)
        snapshot = json.loads(printed)["status"]
        assert (code, snapshot["quiet"], snapshot["workers"][0]["job"]) == (0, True, None)
        assert (status(held), status(late)) == (Status.SUCCESSFUL, Status.READY)
        assert told(database, "resume", "--wait")["status"]["quiet"] is False
        wait_final(supervisor, [late], WAIT_S)
        assert tell(database, "resume")[0] == 0
        supervisor.stop(timeout_s=WAIT_S)
    assert_once(held)
    assert_once(late)


@ON_SQLITE
def test_fault_28_reload_waits_for_the_new_workers_and_tells_why_it_was_refused(
    database: Database, tmp_path: Path
) -> None:
    """Exit code 3 and the reason; the old workers stay, and status says so until a reload goes well."""
    code_of_workers = tmp_path / "changing_settings.py"
    code_of_workers.write_text("from tests.settings import *\n")
    paths = os.pathsep.join([str(tmp_path), environment({})["PYTHONPATH"]])
    own = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_SETTINGS_MODULE": "changing_settings"}
    with Supervisor({**database.env, **own}, "--workers", "1") as supervisor:
        supervisor.wait_ready(WAIT_S)
        old = supervisor.workers()
        code_of_workers.write_text("import cake\n")
        code, printed = tell(database, "reload", "--wait")
        assert (code, len(printed.splitlines())) == (REFUSED, 1), printed
        assert "could not boot: ModuleNotFoundError: No module named 'cake'" in printed
        code, printed = tell(database, "reload", "--wait", "--json")
        answer = json.loads(printed)
        assert (code, answer["ok"]) == (REFUSED, False)
        assert "No module named 'cake'" in answer["words"]
        assert supervisor.workers() == old
        assert told(database, "status")["status"]["reload"]["ok"] is False
        assert "\nreload refused, the old workers stay: " in tell(database, "status")[1]
        code_of_workers.write_text("from tests.settings import *\n")
        assert told(database, "reload", "--wait")["status"]["reload"]["ok"] is True
        eventually(lambda: supervisor.workers() and not set(supervisor.workers()) & set(old), WAIT_S, "new workers")
        assert tell(database, "reload")[0] == 0
        supervisor.wait_log("reload done", WAIT_S, count=2)
        supervisor.stop(timeout_s=WAIT_S)


# -- drain, stop ------------------------------------------------------------------------------------------------------


def test_drain_waits_while_a_job_runs_and_reports_that_it_finished(database: Database, tmp_path: Path) -> None:
    """The fact is that the name is free: another supervisor can start at once."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        with telling(database, "drain", "--wait", "--json") as client:
            wait_draining(database)
            late = tell(database, "reload")
            assert client.poll() is None
            (tmp_path / "go").touch()
            code, printed = end_of(client)
        assert holder(run_file(tmp_path)) is None
        assert supervisor.wait(WAIT_S) == 0
    answer = json.loads(printed)
    assert (code, answer["ok"], answer["status"]["workers"]) == (0, True, [])
    report = answer["report"]
    assert (report["finished"], report["given_back"], report["cut_short"]) == ([int(held.id)], [], [])
    assert report["words"] in answer["words"]
    assert late[0] == REFUSED, "nothing is reloaded any more"
    assert_once(held)
    assert_nobody_owns_anything()


@ON_SQLITE
def test_drain_without_waiting_is_asked_for_and_ctrl_c_ends_only_the_waiting(
    database: Database, tmp_path: Path
) -> None:
    """Both leave the drain to itself; a time-out of one's own is an exit code."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        code, printed = tell(database, "drain")
        assert (code, len(printed.splitlines())) == (0, 1), printed
        code, printed = tell(database, "drain", "--wait", "--timeout", "0.5")
        assert (code, printed.endswith("what was asked for goes on\n")) == (TIMED_OUT, True), printed
        with telling(database, "drain", "--wait") as client:
            eventually(lambda: sockets_of(client.pid), WAIT_S, "its connection")
            client.send_signal(signal.SIGINT)
            code, printed = end_of(client)
        assert code == INTERRUPTED
        assert printed == "CommandError: no longer waiting; what was asked for goes on\n"
        assert status(held) is Status.RUNNING
        (tmp_path / "go").touch()
        assert supervisor.wait(WAIT_S) == 0
    assert_once(held)


@ON_SQLITE
def test_stop_waits_for_the_end_and_reports_what_was_cut_short(database: Database, tmp_path: Path) -> None:
    """The grace is not waited for; the job is put back."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        answer = told(database, "stop", "--wait")
        assert holder(run_file(tmp_path)) is None
        assert supervisor.wait(WAIT_S) == 0
    (cut,) = answer["report"]["cut_short"]
    assert (cut["pk"], cut["ran_s"] > 0) == (int(held.id), True)
    assert (answer["report"]["finished"], answer["report"]["given_back"]) == ([], [])
    assert (status(held), row(held).attempt, len(words(held))) == (Status.READY, 1, 1)
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("serves queue", WAIT_S)
        code, printed = tell(database, "stop")
        assert (code, len(printed.splitlines())) == (0, 1), printed
        assert supervisor.wait(WAIT_S) == 0


@ON_SQLITE
def test_a_supervisor_that_waits_for_its_database_answers_and_can_be_ended(database: Database, tmp_path: Path) -> None:
    """It is then that an operator asks."""
    database.env["JOBSUP_TEST_SQLITE"] = str(tmp_path / "nowhere" / "x")
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_log("waiting for the database", WAIT_S)
        snapshot = told(database, "status", code=10)["status"]
        assert told(database, "status", "--alive")["status"]["trouble"] == snapshot["trouble"]
        assert (snapshot["state"], snapshot["workers"]) == ("starting", [])
        code, printed = tell(database, "drain", "--wait")
        assert code == 0, printed
        assert supervisor.wait(WAIT_S) == 0


# -- names, and nobody there ------------------------------------------------------------------------------------------


@ON_SQLITE
def test_each_name_is_a_supervisor_of_its_own_and_unknown_ones_are_told_the_others(
    database: Database, tmp_path: Path
) -> None:
    """One is drained, the other goes on."""
    code, printed = tell(database, "status")
    assert code == NOT_RUNNING
    assert printed.startswith("CommandError: no supervisor default runs here (")
    assert printed.endswith("start it with jobsupervisor\n")
    with database.supervisor("--workers", "1", "--name", "mail") as mail:
        with database.supervisor("--workers", "1", "--name", "reports") as reports:
            mail.wait_ready(WAIT_S)
            reports.wait_ready(WAIT_S)
            code, printed = tell(database, "status")
            assert code == NOT_RUNNING
            assert printed.endswith("running here: mail, reports; choose one with --name\n")
            assert tell(database, "drain", "--wait", "--name", "reports")[0] == 0
            assert reports.wait(WAIT_S) == 0
        code, printed = tell(database, "drain", "--name", "reports", "--json")
        assert (code, json.loads(printed)["ok"]) == (NOT_RUNNING, False)
        assert told(database, "status", "--name", "mail")["status"]["pid"] == mail.pid
        mail.stop(timeout_s=WAIT_S)


@ON_SQLITE
def test_fault_6_a_supervisor_that_is_killed_while_we_wait_is_told_at_once(database: Database, tmp_path: Path) -> None:
    """The drain did not come about; what is left of it does not pass for a supervisor."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, timeout_s=WAIT_S)
        with telling(database, "drain", "--wait") as client:
            wait_draining(database)
            supervisor.kill()
            code, printed = end_of(client)
        assert code == SAID_NO
        assert printed == f"CommandError: process {supervisor.pid} ended without an answer: its log says why\n"
    assert tell(database, "status")[0] == NOT_RUNNING
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held, times=2, timeout_s=WAIT_S)
        assert told(database, "status")["status"]["pid"] == supervisor.pid
        (tmp_path / "go").touch()
        wait_final(supervisor, [held], WAIT_S)
        supervisor.stop(timeout_s=WAIT_S)


@ON_SQLITE
@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["dance"], "invalid choice: 'dance'"),
        (["status", "--workers", "3"], "status takes no --workers: leave it out"),
        (["--wait"], "--wait is for drain, stop, reload, quiet, resume, status: leave it out"),
    ],
    ids=["unknown", "workers", "wait"],
)
def test_wrong_usage_is_refused_by_the_parser(database: Database, args: list[str], why: str) -> None:
    """Exit code 2, as by every command of Django."""
    code, printed = tell(database, *args)
    assert code == WRONG_USAGE
    assert why in printed.splitlines()[-1]


@ON_SQLITE
def test_a_name_that_cannot_be_one_is_refused_as_everywhere(database: Database) -> None:
    """Exit code 4."""
    code, printed = tell(database, "status", "--name", "../other")
    assert (code, printed.startswith("CommandError: --name is '../other': expected at most")) == (BAD_CONFIG, True)
