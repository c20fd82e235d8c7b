"""The units for systemd: written as systemd reads them, in step with the defaults, and known to it in every line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobsup import conf, units
from spawnpool.notify import WATCHDOG_SHARE
from spawnpool.states import ExitCode
from tests.support import ROOT

EXAMPLES = ROOT / "etc" / "systemd"
MYSITE = units.Project(
    python=Path("/srv/mysite/.venv/bin/python"),
    manage=Path("/srv/mysite/manage.py"),
    settings="mysite.settings",
    user="mysite",
    grace_s=conf.Conf().grace_s,
    boot_timeout_s=conf.Conf().boot_timeout_s,
)
HERE = units.Project(
    python=Path(sys.executable),
    manage=ROOT / "django_app" / "manage.py",
    settings="demo.settings",
    user="root",
    grace_s=2.5,
    boot_timeout_s=60,
)
SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
BOTH = pytest.mark.parametrize("unit", ["jobsup.service", "jobsup@.service"])


def files(project: units.Project) -> dict[str, str]:
    """Return all that the installer can write for a project."""
    made = [units.service(project), units.instances(project)]
    return dict(made) | dict([units.hardening("jobsup.service")])


def assignments(text: str) -> dict[str, str]:
    """Return what a unit assigns; of a key that comes twice the last one."""
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def verify(folder: Path, unit: str) -> subprocess.CompletedProcess[str]:
    """Let systemd read a unit, and say what it thinks of that unit alone."""
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(folder / unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(folder: Path, found: dict[str, str]) -> None:
    """Write units into a folder."""
    for name, text in found.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def test_the_examples_are_what_the_installer_makes() -> None:
    """The texts have one source, the templates in the package; what is shown in etc/ is made of them."""
    shown = {str(path.relative_to(EXAMPLES)): path.read_text() for path in EXAMPLES.rglob("*") if path.is_file()}
    assert shown == files(MYSITE)


@BOTH
def test_nothing_is_left_to_fill_in(unit: str) -> None:
    """No <name> of a template is unknown, neither in a value nor in a comment."""
    assert re.findall(r"<[a-z_]+>", files(MYSITE)[unit]) == []


@BOTH
def test_y6_y7_y9_the_values_that_keep_jobs_alive(unit: str) -> None:
    """A stop has time for GRACE, TERM goes to the supervisor alone, one worker's want of memory ends one worker."""
    found, defaults = assignments(files(MYSITE)[unit]), conf.Conf()
    assert found["KillMode"] == "mixed"
    assert found["OOMPolicy"] == "continue"
    assert (found["Type"], found["NotifyAccess"]) == ("notify", "main")
    assert float(found["TimeoutStopSec"]) == defaults.grace_s + units.STOP_MARGIN_S
    assert float(found["TimeoutStartSec"]) > defaults.boot_timeout_s
    assert int(found["RestartPreventExitStatus"]) == ExitCode.BAD_CONFIG
    assert float(found["WatchdogSec"]) / WATCHDOG_SHARE > 3 * 5, "a loop that waits for the database is alive"


def test_the_times_are_the_projects_own() -> None:
    """GRACE and BOOT_TIMEOUT come from the project's settings."""
    found = assignments(units.service(HERE)[1])
    assert (found["TimeoutStopSec"], found["TimeoutStartSec"]) == ("17.5", "120")


def test_a_name_and_queues_stand_in_the_commands() -> None:
    """The reload speaks to the same supervisor; the unit, its run file and its variables are called after it."""
    unit, text = units.service(MYSITE, "mail", ["mail", "newsletter"])
    found = assignments(text)
    assert unit == "jobsup-mail.service"
    assert found["ExecStart"].endswith("manage.py jobsupervisor --name mail --queue mail --queue newsletter")
    assert found["ExecReload"].endswith("manage.py jobsupervisor reload --wait --name mail")
    assert (found["RuntimeDirectory"], found["EnvironmentFile"]) == ("jobsup-mail", "-/etc/jobsup-mail.env")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/srv/mysite/manage.py", "/srv/mysite/manage.py"),
        ("/srv/my site/manage.py", '"/srv/my site/manage.py"'),
        ("/srv/100%/manage.py", "/srv/100%%/manage.py"),
        ("/srv/$HOME/manage.py", "/srv/$$HOME/manage.py"),
        ('/srv/"a"/manage.py', '"/srv/\\"a\\"/manage.py"'),
        ("/srv/it's/manage.py", '"/srv/it\'s/manage.py"'),
        ("/srv/a;b/manage.py", '"/srv/a;b/manage.py"'),
    ],
)
def test_a_path_is_written_as_systemd_reads_it(text: str, written: str) -> None:
    """Spaces and quotation marks are quoted, % and $ are doubled."""
    assert units.argument(text) == written


def test_a_dollar_in_the_interpreters_path_names_no_variable() -> None:
    """It is doubled in the name that Python is called by, and nowhere else."""
    assert units.program(Path("/srv/$HOME/bin/python")) == "@/srv/$HOME/bin/python /srv/$$HOME/bin/python"


@pytest.mark.parametrize("path", ["/srv/a\\b/manage.py", "/srv/a\nb/manage.py", "/srv/a\tb/manage.py"])
def test_what_no_unit_can_hold_is_refused(path: str) -> None:
    """A backslash joins lines, a line break begins another assignment."""
    with pytest.raises(units.UnitError, match="cannot stand in a unit"):
        units.argument(path)


def test_an_interpreter_that_systemd_would_not_start_is_refused() -> None:
    """It takes no quotation marks in the path of a program."""
    with pytest.raises(units.UnitError, match="quotation marks"):
        units.program(Path('/srv/"a"/bin/python'))


def test_y8_each_line_of_the_hardening_says_what_it_breaks() -> None:
    """A comment stands before each line, or before the lines that belong together; whoever loses something finds it."""
    blocks = re.findall(r"((?:^# .*\n)+)((?:^\w+=.*\n)+)", units.hardening("jobsup.service")[1], re.MULTILINE)
    named = {key for _, lines in blocks for key in assignments(lines)}
    assert named == set(assignments(units.hardening("jobsup.service")[1]))
    assert [comment for comment, _ in blocks if "Breaks:" not in comment] == []


@SYSTEMD
@BOTH
def test_systemd_knows_every_line(unit: str, tmp_path: Path) -> None:
    """Nothing to complain of, neither in the units nor in the hardening; a service starts in spite of a wrong line."""
    found = files(HERE)
    found[f"{unit}.d/hardening.conf"] = found["jobsup.service.d/hardening.conf"]
    write(tmp_path, found)
    done = verify(tmp_path, unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@SYSTEMD
@pytest.mark.parametrize("spoilt", ["jobsup.service", "jobsup.service.d/hardening.conf"])
def test_systemd_would_have_told(spoilt: str, tmp_path: Path) -> None:
    """The test above sees a line that systemd does not know, in the unit and in the drop-in."""
    found = files(HERE)
    found[spoilt] = found[spoilt].replace("[Service]", "[Service]\nWatchDogSec=1")
    write(tmp_path, found)
    assert "WatchDogSec" in verify(tmp_path, "jobsup.service").stderr
