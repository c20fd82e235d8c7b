"""A project and its service in a box, as an operator has them: `systemctl`, `journalctl`, a deployment.

The project has the settings of the tests and the user `mysite`; its database is a SQLite file in a folder that the box
shares with this process, so that jobs are enqueued and looked at from here.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobsup.models import Status
from tests import databases
from tests.support import WORKER_TITLE, eventually, title_of
from tests.system import box
from tests.system.jobs import runs, status

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, UID = "mysite", 890
PROJECT = Path("/srv/mysite")
STATE = Path("/var/lib/mysite")
PATIENT_S = 60
LEASE_S = 600  # whatever is recovered sooner was recovered by the run file
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.management import execute_from_command_line
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""
SETTINGS = f"""
from tests.settings import *
JOBSUP = {{**JOBSUP, "WORKERS": 1, "LEASE": {LEASE_S}}}
"""
TWO_WORKERS = SETTINGS.replace('"WORKERS": 1', '"WORKERS": 2')
ENVIRONMENT = f"JOBSUP_TEST_DEFAULT=sqlite\nJOBSUP_TEST_SQLITE={STATE}/jobsup.sqlite3\n"
IN_A_WORKER = "import multiprocessing, os, time\nif multiprocessing.parent_process():\n    "
QUICK = "[Service]\nRestartSec=100ms\n"
_numbers = itertools.count(1)


class Machine(box.Box):
    """The box with the project in it, and the folder that both sides see."""

    def __init__(self, shared: Path) -> None:
        super().__init__({shared: STATE})
        self.shared = shared
        os.chown(shared, UID, UID)
        for file in shared.iterdir():
            os.chown(file, UID, UID)

    def prepare(self) -> None:
        """Make the user, the project and its units."""
        self.run("groupadd", "--gid", str(UID), USER)
        self.run("useradd", "--uid", str(UID), "--gid", str(UID), "--no-create-home", USER)
        self.put(PROJECT / "manage.py", MANAGE)
        self.put(PROJECT / "mysite" / "__init__.py", "")
        self.release(SETTINGS)
        self.put("/etc/jobsup.env", ENVIRONMENT)
        self.manage("jobsup_install", "--systemd", "--user", USER, "--write")
        self.manage("jobsup_install", "--systemd", "--user", USER, "--write", "--instances")

    def manage(self, *arguments: str) -> str:
        """Run a management command of the project."""
        variables = ENVIRONMENT.split()
        return self.run("env", *variables, str(box.VENV / "bin" / "python"), str(PROJECT / "manage.py"), *arguments)

    def release(self, settings: str) -> None:
        """Deploy other settings."""
        self.put(PROJECT / "mysite" / "settings.py", settings)

    def signpost(self) -> tuple[str, Path]:
        """Return a name in the shared folder, as jobs call it and as this process does."""
        name = f"go-{next(_numbers)}"
        return str(STATE / name), self.shared / name


class Service:
    """A unit in the box."""

    def __init__(self, machine: Machine, unit: str) -> None:
        self.machine, self.unit = machine, unit

    def systemctl(self, *words: str, check: bool = True) -> int:
        """Tell systemd something about the unit; return the exit code."""
        done = self.machine.ask("systemctl", *words, self.unit)
        assert not check or done.returncode == 0, f"systemctl {words}: {done.stdout}\n{self.picture()}"
        return done.returncode

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.machine.run("systemctl", "show", f"--property={name}", "--value", self.unit).strip()

    def wait(self, name: str, wanted: str) -> None:
        """Wait until a property has a value that matches a pattern wholly."""
        eventually(lambda: re.fullmatch(wanted, self.show(name)), PATIENT_S, f"{name} {wanted}", self.picture)

    def journal(self) -> str:
        """Return what the unit has written and what systemd has written of it since it was last forgotten."""
        return self.machine.run("journalctl", "--unit", self.unit, "--output=cat", "--no-pager", "--boot")

    def wait_journal(self, text: str) -> None:
        """Wait until the journal tells something."""
        eventually(lambda: text in self.journal(), PATIENT_S, repr(text), self.picture)

    def workers(self) -> list[int]:
        """Return the pids on this machine of the workers that have come up."""
        return [pid for pid in self.machine.processes() if title_of(pid).startswith(WORKER_TITLE) and self._owns(pid)]

    def main(self) -> int:
        """Return the pid on this machine of the supervisor."""
        return self.machine.host_pid(int(self.show("MainPID")))

    def wait_begun(self, result: Any, times: int = 1) -> int:
        """Wait until a job has begun for the `times`-th time; return its worker's pid on this machine."""
        eventually(lambda: len(runs(result)) >= times, PATIENT_S, f"run {times} of the job", self.picture)
        return self.machine.host_pid(runs(result)[times - 1].pid)

    def wait_successful(self, result: Any) -> None:
        """Wait until a job has ended well."""
        eventually(lambda: status(result) is Status.SUCCESSFUL, PATIENT_S, "the end of the job", self.picture)

    def picture(self) -> str:
        """Return all that can be known of it."""
        shown = self.machine.ask("systemctl", "status", "--full", "--no-pager", "--lines=0", self.unit).stdout
        return f"{shown}\n-- journal:\n{self.journal()}"

    def _owns(self, pid: int) -> bool:
        try:
            return f"/{self.unit}" in (Path("/proc") / str(pid) / "cgroup").read_text()
        except OSError:
            return False


@contextmanager
def installed(machine: Machine, unit: str = "jobsup.service", drop_in: str = "") -> Iterator[Service]:
    """Provide a unit as the installer wrote it, with a drop-in that makes it quick; afterwards it is down."""
    service = Service(machine, unit)
    template = re.sub("@.*", "@.service", unit)
    folder = f"/etc/systemd/system/{template}.d"
    machine.put(f"{folder}/test.conf", QUICK + drop_in)
    machine.run("systemctl", "daemon-reload")
    machine.run("journalctl", "--rotate", "--vacuum-time=1us")  # the journal tells of this test alone
    try:
        yield service
    except BaseException:
        machine.ask("systemctl", "kill", "--signal=KILL", unit)  # nobody waits for the drain of a test that has failed
        raise
    finally:
        service.systemctl("stop", check=False)
        service.systemctl("reset-failed", check=False)
        shutil.rmtree(machine.at(folder))
        machine.release(SETTINGS)
        databases.empty("default")


@contextmanager
def running(machine: Machine, unit: str = "jobsup.service", drop_in: str = "") -> Iterator[Service]:
    """Provide a unit that is up."""
    with installed(machine, unit, drop_in) as service:
        service.systemctl("start")
        yield service
