"""HUP puts new code and settings to work or refuses them; TSTP and CONT, TTIN and TTOU, USR2."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from jobsup.models import Job, Status
from tests.support import Supervisor, assert_nothing_left, environment, eventually
from tests.system.jobs import ON_POSTGRESQL, ON_SQLITE, assert_once, picture, runs, status, wait_begun, wait_final
from tests.testapp import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Database

HUP, TSTP, CONT = signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT
CODE = "from jobsup import task\n@task\ndef version():\n    return {version!r}\n"
SETTINGS = """
from tests.settings import *
JOBSUP = {{**JOBSUP, "TASK_MODULES": [*JOBSUP["TASK_MODULES"], "changing"], {jobsup}}}
"""


class Site:
    """A folder with a task module and a settings module that a test rewrites under a running supervisor."""

    def __init__(self, database: Database, place: Path) -> None:
        self.place, self.database = place, database
        self.write(version=1)
        self.set("")

    def write(self, version: int) -> None:
        """Deploy a version of the task."""
        (self.place / "changing.py").write_text(CODE.format(version=version))

    def set(self, jobsup: str) -> None:
        """Deploy settings; `jobsup` are entries of the dict JOBSUP."""
        (self.place / "changing_settings.py").write_text(SETTINGS.format(jobsup=jobsup))

    def supervisor(self, *args: str, settings: str = "changing_settings") -> Supervisor:
        """Return a supervisor of the folder, not started."""
        paths = os.pathsep.join([str(self.place), environment({})["PYTHONPATH"]])
        own = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "DJANGO_SETTINGS_MODULE": settings}
        return Supervisor({**self.database.env, **own}, *args)

    def answer(self, supervisor: Supervisor) -> Any:
        """Return what the task as the workers know it answers."""
        job = importlib.import_module("changing").version.enqueue()
        wait_final(supervisor, [job])
        job.refresh()
        return job.return_value


@pytest.fixture
def site(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder of code and settings on the database of the test."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Site(database, place)
    sys.modules.pop("changing", None)


@contextmanager
def quiet(supervisor: Supervisor) -> Iterator[None]:
    """Keep a supervisor from taking work."""
    before = supervisor.log().count("quiet: takes no new work")
    supervisor.signal(TSTP)
    supervisor.wait_log("quiet: takes no new work", count=before + 1)
    yield
    supervisor.signal(CONT)


def wait_workers(supervisor: Supervisor, count: int) -> None:
    """Wait until there are so many workers."""
    eventually(lambda: len(supervisor.workers()) == count, 10, f"{count} workers", supervisor.picture)


# -- HUP --------------------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_hup_puts_new_code_to_work_and_lets_running_jobs_end_on_the_old(site: Site, tmp_path: Path) -> None:
    """New workers come up first; the old one finishes its job and leaves; no job is cut short."""
    with site.supervisor("--workers", "1") as supervisor:
        assert site.answer(supervisor) == 1
        held = tasks.hold.enqueue(str(tmp_path / "go"))
        old = wait_begun(supervisor, held)
        site.write(version=2)
        supervisor.signal(HUP)
        supervisor.wait_log("reload done: 1 worker")
        assert site.answer(supervisor) == 2
        assert old in supervisor.workers()
        (tmp_path / "go").touch()
        wait_final(supervisor, [held])
        wait_workers(supervisor, 1)
        assert old not in supervisor.workers()
        supervisor.stop()
    assert_once(held)


@ON_SQLITE
def test_f28_hup_with_settings_that_do_not_load_is_refused_and_the_old_workers_go_on(site: Site) -> None:
    """The reason is told; the same processes work on; once the mistake is mended, HUP works."""
    with site.supervisor("--workers", "1") as supervisor:
        assert site.answer(supervisor) == 1
        old = supervisor.workers()
        site.set("'GRACE': nonsense")
        site.write(version=2)
        supervisor.signal(HUP)
        supervisor.wait_log("reload refused")
        assert "could not boot: NameError: name 'nonsense' is not defined" in supervisor.log()
        assert supervisor.workers() == old
        assert site.answer(supervisor) == 1
        site.set("")
        supervisor.signal(HUP)
        supervisor.wait_log("reload done")
        assert site.answer(supervisor) == 2
        supervisor.stop()


@ON_SQLITE
@pytest.mark.parametrize("settings", ["changing_settings", "shop.settings"], ids=["app", "project"])
def test_f28_a_module_of_tasks_that_cannot_be_imported_refuses_a_reload_and_no_start(site: Site, settings: str) -> None:
    """The old workers have the module already; a first start without it runs what does not need it.

    It may be an app's or stand beside the settings in the project's own package, which is no app.
    """
    shop = site.place / "shop"
    shop.mkdir()
    (shop / "__init__.py").touch()
    (shop / "tasks.py").write_text("import cake\n")
    (shop / "settings.py").write_text(SETTINGS.format(jobsup=""))
    (site.place / "changing_settings.py").write_text(
        SETTINGS.format(jobsup="") + "INSTALLED_APPS = [*INSTALLED_APPS, 'shop']\n"
    )
    told = "the module shop.tasks cannot be imported: builtins.ModuleNotFoundError: No module named 'cake'"
    with site.supervisor("--workers", "1", settings=settings) as supervisor:
        supervisor.wait_ready()
        supervisor.wait_log(f"goes to work, but {told}")
        assert site.answer(supervisor) == 1
        old = supervisor.workers()
        supervisor.signal(HUP)
        supervisor.wait_log(f"reload refused, the old workers stay: the new worker could not boot: {told}")
        assert supervisor.workers() == old
        (shop / "tasks.py").write_text("")
        supervisor.signal(HUP)
        supervisor.wait_log("reload done")
        supervisor.stop()


@ON_SQLITE
def test_f28_a_hup_that_comes_while_a_broken_reload_is_under_way_is_not_forgotten(site: Site, tmp_path: Path) -> None:
    """The mistake was mended while the first new worker was still booting: the second HUP counts."""
    boot = tmp_path / "boot"
    boot.write_text("")
    site.database.env["JOBSUP_TEST_BOOT"] = str(boot)
    with site.supervisor("--workers", "1") as supervisor:
        assert site.answer(supervisor) == 1
        boot.write_text("sleep 0.5")
        site.set("'WORKERS': 'many'")
        supervisor.signal(HUP)
        supervisor.wait_log("reload: starting")
        wait_workers(supervisor, 2)
        site.write(version=2)
        supervisor.signal(HUP)
        supervisor.wait_log("reload refused")
        site.set("")
        supervisor.wait_log("reload done")
        assert site.answer(supervisor) == 2
        supervisor.stop()


@ON_SQLITE
def test_hup_while_the_first_workers_boot_leaves_as_many_as_wanted(database: Database, tmp_path: Path) -> None:
    """The one that was still booting when its successor was ready must not stay as one too many."""
    boot = tmp_path / "boot"
    boot.write_text("sleep 2")
    database.env["JOBSUP_TEST_BOOT"] = str(boot)
    with database.supervisor("--workers", "1") as supervisor:
        eventually(boot.with_suffix(".read").exists, 10, "a booting worker", supervisor.picture)
        (slow,) = supervisor.workers()
        boot.write_text("")
        supervisor.signal(HUP)
        supervisor.wait_log("reload done")
        eventually(lambda: slow not in supervisor.workers(), 10, "the end of the slow one", supervisor.picture)
        wait_workers(supervisor, 1)
        supervisor.stop()


@ON_SQLITE
def test_hup_reads_the_limits_again_but_for_those_of_the_command_line(site: Site) -> None:
    """WORKERS follows the settings, --grace stays what the command line said."""
    site.set("'WORKERS': 1, 'GRACE': 20")
    with site.supervisor("--grace", "0.1") as supervisor:
        wait_workers(supervisor, 1)
        supervisor.wait_ready()
        site.set("'WORKERS': 3, 'GRACE': 20")
        supervisor.signal(HUP)
        supervisor.wait_log("reload done: 3 workers")
        wait_workers(supervisor, 3)
        held = tasks.hold.enqueue("/nowhere/at/all")
        wait_begun(supervisor, held)
        supervisor.stop(timeout_s=8)
        assert "the grace of 0.1 s is over" in supervisor.log()


# -- TSTP, CONT -------------------------------------------------------------------------------------------------------


def test_tstp_takes_no_new_work_and_gives_back_what_waits_and_cont_takes_it_again(
    database: Database, tmp_path: Path
) -> None:
    """The running job goes on; what waited on its lane is READY; after CONT it begins at once."""
    for _ in range(300):
        tasks.noop.enqueue()
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    behind = [tasks.effect.enqueue() for _ in range(20)]
    with database.supervisor("--workers", "1") as supervisor:
        wait_begun(supervisor, held)
        eventually(lambda: Job.objects.filter(status=Status.RUNNING).count() > 1, 5, "keys waiting on the lane")
        with quiet(supervisor):
            eventually(lambda: {status(job) for job in behind} == {Status.READY}, 5, "their return")
            (tmp_path / "go").touch()
            wait_final(supervisor, [held])
            assert not any(runs(job) for job in behind)
        wait_final(supervisor, behind, timeout_s=3)
        supervisor.stop()
    for job in (held, *behind):
        assert_once(job)


# -- TTIN, TTOU, USR2 -------------------------------------------------------------------------------------------------


@ON_SQLITE
def test_ttin_and_ttou_change_the_number_of_workers_and_hup_keeps_it(database: Database) -> None:
    """One more, one fewer, never none."""
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        supervisor.signal(signal.SIGTTIN)
        wait_workers(supervisor, 2)
        supervisor.signal(HUP)
        supervisor.wait_log("reload done: 2 workers")
        supervisor.signal(signal.SIGTTOU)
        wait_workers(supervisor, 1)
        supervisor.signal(signal.SIGTTOU)
        job = tasks.effect.enqueue()
        wait_final(supervisor, [job])
        assert len(supervisor.workers()) == 1
        supervisor.stop()


@ON_SQLITE
def test_usr2_writes_the_state_of_everything_and_where_each_worker_is(database: Database, tmp_path: Path) -> None:
    """State, workers, what they run, and their Python stacks; nobody is disturbed."""
    held = tasks.hold.enqueue(str(tmp_path / "go"))
    with database.supervisor("--workers", "1") as supervisor:
        supervisor.wait_ready()
        pid = wait_begun(supervisor, held)
        supervisor.signal(signal.SIGUSR2)
        supervisor.wait_log("in hold")
        log = supervisor.log()
        assert "state running, quiet False, 1 workers wanted" in log
        assert f"(pid {pid}) is serving, runs {held.id} for " in log
        (tmp_path / "go").touch()
        wait_final(supervisor, [held])
        supervisor.stop()
        assert "was killed" not in picture(supervisor)
    assert_once(held)


@ON_POSTGRESQL
def test_f43_a_hundred_hups_in_ten_seconds_under_load_lose_no_job(database: Database) -> None:
    """Workers come and go all the while; each job runs once; then five TERMs end it once, with 0."""
    jobs = []
    with database.supervisor("--workers", "2") as supervisor:
        supervisor.wait_ready()
        for _ in range(100):
            supervisor.signal(HUP)
            jobs += [tasks.sleep.enqueue(0.01) for _ in range(4)]
            time.sleep(0.1)  # the pace is the fault
        wait_final(supervisor, jobs, 60)
        assert supervisor.log().count("reload done") >= 2
        for _ in range(5):
            supervisor.signal(signal.SIGTERM)
        assert supervisor.wait(60) == 0
        assert supervisor.log().count("SIGTERM received") == 1
    for job in jobs:
        assert_once(job)
    assert_nothing_left()
