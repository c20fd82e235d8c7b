"""The service under a real systemd, installed by the installer, at every turn of its life.

One box for the whole module; `tests.system.service` says what is in it.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobsup.models import Status
from tests import databases
from tests.cage import MemoryCage
from tests.support import eventually
from tests.system import box
from tests.system.jobs import assert_once, row, status, words
from tests.system.service import (
    ENVIRONMENT,
    IN_A_WORKER,
    PATIENT_S,
    PROJECT,
    SETTINGS,
    STATE,
    TWO_WORKERS,
    UID,
    USER,
    Machine,
    Service,
    installed,
    running,
)
from tests.testapp import nasty, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger(__name__)

KILLS = 3
"""Fewer than a job without a limit of its own may cost workers."""

pytestmark = pytest.mark.skipif(box.why_not() is not None, reason=str(box.why_not()))


@pytest.fixture(scope="module")
def machine(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The box, with its database as `default` of this process."""
    shared = tmp_path_factory.mktemp("state")
    with ExitStack() as stack:
        stack.enter_context(databases.fresh_sqlite(sqlite_template, shared))
        made = stack.enter_context(Machine(shared))
        made.prepare()
        yield made


def test_a_start_is_over_when_every_worker_is_ready_and_the_status_line_goes_on_from_there(machine: Machine) -> None:
    """A boot that takes long keeps the unit `activating`; then the line tells how many work, how fast, what waits."""
    name, post = machine.signpost()
    with installed(machine) as service:
        machine.release(f"{TWO_WORKERS}\n{IN_A_WORKER}while not os.path.exists({name!r}): time.sleep(0.01)")
        service.systemctl("start", "--no-block")
        eventually(lambda: len(service.workers()) == 2, PATIENT_S, "two workers that boot", service.picture)
        assert service.show("ActiveState") == "activating"
        post.touch()
        service.wait("ActiveState", "active")
        assert len(service.workers()) == 2
        assert service.show("User") == USER
        assert (Path("/proc") / str(service.main())).stat().st_uid == UID
        service.wait("StatusText", r"2 workers, 0 busy, [\d,]+ jobs/s, 0 ready")
        name, post = machine.signpost()
        jobs = [tasks.hold.enqueue(name) for _ in range(5)]
        service.wait("StatusText", r"2 workers, 2 busy, [\d,]+ jobs/s, 3 ready")
        post.touch()
        for job in jobs:
            service.wait_successful(job)


def test_y4_a_reload_is_over_when_the_new_workers_serve_and_no_job_notices(machine: Machine) -> None:
    """The settings are read again; a job that runs meanwhile holds nobody up, ends where it began and is not cut."""
    name, post = machine.signpost()
    with running(machine) as service:
        supervisor, old = service.main(), service.workers()
        job = tasks.hold.enqueue(name)
        service.wait_begun(job)
        machine.release(TWO_WORKERS)
        service.systemctl("reload")
        service.wait("SubState", "running")
        eventually(lambda: len(set(service.workers()) - set(old)) == 2, PATIENT_S, "2 new workers", service.picture)
        post.touch()
        service.wait_successful(job)
        assert_once(job)
        assert (service.main(), service.show("NRestarts")) == (supervisor, "0")


def test_a_reload_of_broken_code_is_refused_and_jobs_go_on(machine: Machine) -> None:
    """`systemctl reload` fails; the reason is in the status line and in the journal; the old workers stay."""
    with running(machine) as service:
        supervisor, old = service.main(), service.workers()
        machine.release(f"{SETTINGS}\n{IN_A_WORKER}raise RuntimeError('the new release is broken')")
        assert service.systemctl("reload", check=False) != 0
        service.wait("ActiveState", "active")
        service.wait("StatusText", "1 worker,.*the new release is broken.*")
        assert "the new release is broken" in service.journal()
        job = tasks.effect.enqueue()
        service.wait_successful(job)
        assert (service.main(), service.workers(), service.show("NRestarts")) == (supervisor, old, "0")
        machine.release("this is no Python")
        assert service.systemctl("reload", check=False) != 0, "a project that cannot even ask for the reload"
        assert "SyntaxError" in service.journal()
        machine.release(SETTINGS)
        service.systemctl("reload")
        service.wait("StatusText", r"1 worker, 0 busy, [\d,]+ jobs/s, 0 ready")
        assert service.show("ActiveState") == "active"


def test_y5_a_loop_that_hangs_is_noticed_by_the_watchdog(machine: Machine) -> None:
    """A supervisor that turns is left alone for as long as it does; one that is stopped is ended and started again."""
    with running(machine, drop_in="WatchdogSec=4\nTimeoutAbortSec=1\n") as service:
        for _ in range(2):
            sign = service.show("WatchdogTimestampMonotonic")
            service.wait("WatchdogTimestampMonotonic", f"(?!{sign}$).*")
        assert service.show("NRestarts") == "0"
        os.kill(service.main(), signal.SIGSTOP)
        service.wait("NRestarts", "1")
        service.wait("ActiveState", "active")
        assert "Watchdog timeout" in service.journal()
        service.wait_successful(tasks.effect.enqueue())


def test_f6_a_killed_supervisor_is_started_again_and_its_jobs_are_recovered_at_once(machine: Machine) -> None:
    """Each time, after the pause that the unit makes; its workers end with it, and nobody waits for the lease.

    How long that took is logged: `pytest --log-cli-level INFO` shows it.
    """
    name, post = machine.signpost()
    with running(machine, drop_in="RestartSec=1\n") as service:
        job = tasks.hold.enqueue(name)
        workers, took_s = [service.wait_begun(job)], []
        for times in range(1, KILLS + 1):
            killed_at = time.monotonic()
            os.kill(service.main(), signal.SIGKILL)
            workers.append(service.wait_begun(job, times=times + 1))
            took_s.append(time.monotonic() - killed_at)
        _log.info("from a supervisor's kill to its job's next start: %s s", [round(each, 2) for each in took_s])
        post.touch()
        service.wait_successful(job)
        assert len(set(workers)) == KILLS + 1
        assert (row(job).attempt, service.show("NRestarts")) == (KILLS + 1, str(KILLS))


def test_y7_a_worker_that_the_kernel_kills_for_memory_costs_its_job_an_attempt_and_nobody_else_anything(
    machine: Machine,
) -> None:
    """The service stays as it is, and the job says why."""
    with running(machine) as service, MemoryCage(64 << 20) as cage:
        supervisor, (worker,) = service.main(), service.workers()
        cage.add(worker)
        job = nasty.huge_error.enqueue(96 << 20)
        eventually(lambda: words(job), PATIENT_S, "the first attempt's end", service.picture)
        assert re.search(r"was killed by SIGKILL while running .*: out of memory", words(job)[0]), words(job)
        eventually(
            lambda: status(job) is Status.FAILED, PATIENT_S, "its end in a worker that has room", service.picture
        )
        assert (service.show("ActiveState"), service.show("NRestarts")) == ("active", "0")
        assert service.main() == supervisor


def test_a_stop_during_a_job_drains_and_leaves_nothing_to_kill(machine: Machine) -> None:
    """The job ends well, and systemd finds no process of the service left: multiprocessing's own helper included."""
    name, post = machine.signpost()
    with running(machine) as service:
        job = tasks.hold.enqueue(name)
        service.wait_begun(job)
        service.systemctl("stop", "--no-block")
        service.wait("ActiveState", "deactivating")
        service.wait("StatusText", "drain.*")
        post.touch()
        service.wait("ActiveState", "inactive")
        assert_once(job)
        assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
        journal = service.journal()
        assert "Killing process" not in journal
        assert "remains running" not in journal
        assert (machine.shared / "jobsup.sqlite3").exists()
        assert list(machine.at("/run/jobsup").glob("*.run")), "the next start has lost sight of this run"


def test_y6_a_drain_that_takes_longer_than_timeoutstopsec_is_given_the_time(machine: Machine) -> None:
    """The supervisor asks for it; a job that outlives GRACE is cut short by the supervisor and not by systemd."""
    name, _ = machine.signpost()
    with installed(machine, drop_in="TimeoutStopSec=4\n") as service:
        machine.release(SETTINGS.replace("}", ', "GRACE": 6}'))
        service.systemctl("start")
        job = tasks.hold.enqueue(name)
        service.wait_begun(job)
        service.systemctl("stop")
        assert (service.show("ActiveState"), service.show("Result")) == ("inactive", "success"), service.picture()
        assert "Killing process" not in service.journal()
        assert (status(job), row(job).attempt) == (Status.READY, 1), "it was given back with the attempt counted"


def test_y9_a_job_cannot_speak_for_the_service(machine: Machine) -> None:
    """Even one that knows where systemd listens: only the main process is heard."""
    speak = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect('/run/systemd/notify'); "
    with running(machine) as service:
        job = tasks.command.enqueue("shell", "-c", f"{speak}s.send(b'STATUS=taken over')")
        service.wait_journal("reception only permitted for main PID")
        service.wait_successful(job)
        assert "taken over" not in service.show("StatusText")


def test_an_instance_serves_its_queue_under_its_name(machine: Machine) -> None:
    """Or the queues that its file names; the reload finds the instance by its name."""
    with running(machine, "jobsup@other.service") as service:
        mine, not_mine = tasks.effect.using(queue_name="other").enqueue(), tasks.effect.enqueue()
        service.wait_successful(mine)
        service.systemctl("reload")
        assert status(not_mine) is Status.READY
        assert "supervisor other" in service.journal()
        service.systemctl("stop")
        machine.put("/etc/jobsup/other.env", "JOBSUP_OPTIONS=--queue other --queue default --workers 2\n")
        service.systemctl("start")
        service.wait_successful(not_mine)
        assert len(service.workers()) == 2


def test_y8_the_demo_works_under_the_hardening(machine: Machine) -> None:
    """A whole run, with its own supervisor, a worker that is killed and a site, as a service with every line of it."""
    command = [str(box.VENV / "bin" / "python"), str(box.TREE / "django_app" / "manage.py"), "demo", "--once"]
    command += ["--packages", "json,email,xml", "--chunk-size", "5", "--port", "8765"]
    unit = "demo.service"
    machine.put(
        f"/etc/systemd/system/{unit}",
        f"[Service]\nType=exec\nUser={USER}\nStateDirectory=demo\nEnvironment=DEMO_DIR=/var/lib/demo\n"
        f"ExecStart={shlex.join(command)}\nRemainAfterExit=yes\n",
    )
    folder = f"/etc/systemd/system/{unit}.d"
    machine.manage("jobsup_install", "--systemd", "--user", USER, "--write", "--hardening", "--directory", "/opt")
    shutil.copytree(machine.at("/opt/jobsup.service.d"), machine.at(folder))
    machine.run("systemctl", "daemon-reload")
    service = Service(machine, unit)
    service.systemctl("start")
    try:
        service.wait("SubState", "exited|failed")
        assert service.show("ExecMainStatus") == "0", service.picture()
        for sentence in (
            "equal, document by document",
            "by SIGKILL, in the middle of chunk",
            "Nothing is left running",
        ):
            assert sentence in service.journal(), service.picture()
        assert service.show("ProtectSystem") == "strict"
    finally:
        service.systemctl("stop")


def test_y8_the_service_works_under_the_hardening_and_breaks_where_it_says(machine: Machine) -> None:
    """Its database is in a folder that has to be named; start, reload, a job, a death and a stop are as ever."""
    hardening = machine.at("/opt/jobsup.service.d/hardening.conf")
    if not hardening.exists():
        machine.manage("jobsup_install", "--systemd", "--user", USER, "--write", "--hardening", "--directory", "/opt")
    with installed(machine, drop_in=hardening.read_text()) as service:
        machine.run("systemctl", "daemon-reload")
        service.systemctl("start", "--no-block")
        service.wait_journal("readonly database")
        service.systemctl("stop")
        conf = machine.at("/etc/systemd/system/jobsup.service.d/test.conf")
        conf.write_text(f"{conf.read_text()}ReadWritePaths={STATE}\n")
        machine.run("systemctl", "daemon-reload")
        service.systemctl("start")
        service.wait_successful(tasks.effect.enqueue())
        service.systemctl("reload")
        job = tasks.die_at.enqueue(1, int(signal.SIGSEGV))
        service.wait_successful(job)
        service.systemctl("stop")
        assert service.show("Result") == "success"


def test_a_project_at_an_odd_place_is_started_all_the_same(machine: Machine) -> None:
    """Its path holds a space, a specifier and a variable; systemd takes the installer's unit for what it means."""
    odd = Path("/srv/my site 100%n ${HOME};")
    machine.at(odd).mkdir()
    shutil.copytree(machine.at(PROJECT), machine.at(odd), dirs_exist_ok=True)
    shutil.copytree(machine.at(box.VENV), machine.at(odd / "venv"), symlinks=True)
    python = str(odd / "venv" / "bin" / "python")
    machine.run(
        *("env", *ENVIRONMENT.split(), python, str(odd / "manage.py")),
        *("jobsup_install", "--systemd", "--user", USER, "--write", "--name", "odd"),
    )
    machine.put("/etc/jobsup-odd.env", ENVIRONMENT)
    with running(machine, "jobsup-odd.service") as service:
        assert (Path("/proc") / str(service.main()) / "cwd").readlink().name == odd.name
        service.wait_successful(tasks.effect.enqueue())
        service.systemctl("reload")


def test_settings_that_cannot_work_are_not_tried_again(machine: Machine) -> None:
    """Exit code 4 ends the unit for good, with the sentence in the journal."""
    with installed(machine) as service:
        machine.release(SETTINGS.replace('"WORKERS": 1', '"WORKERS": -2'))
        assert service.systemctl("start", check=False) != 0
        service.wait("ActiveState", "failed")
        assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("4", "0")
        assert "JOBSUP['WORKERS'] is -2: must lie between 1 and 1024" in service.journal()
