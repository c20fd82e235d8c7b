"""`manage.py jobsup_install`: what it prints, writes and refuses."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from jobsup import conf, units
from tests.support import ROOT, environment

NOBODY = pwd.getpwnam("nobody").pw_name


@pytest.fixture
def manage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's manage.py, as which this process was started, and a Python, both for everybody to read."""
    place = tmp_path / "site"
    place.mkdir()
    script, python = place / "manage.py", place / "python"
    script.touch()
    python.touch()
    opened = place
    while opened != Path("/tmp") and opened.stat().st_uid == os.geteuid() and opened != opened.parent:
        opened.chmod(opened.stat().st_mode | 0o055)
        opened = opened.parent
    monkeypatch.setattr(sys, "argv", [str(script), "jobsup_install"])
    monkeypatch.setattr(sys, "executable", str(python))
    return script


def install(**options: Any) -> tuple[str, str]:
    """Run the command as `nobody` and return what it wrote to stdout and to stderr."""
    out, err = StringIO(), StringIO()
    call_command("jobsup_install", **{"systemd": True, "user": NOBODY, **options}, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def project(manage: Path) -> units.Project:
    """Return what it should have found out."""
    return units.Project(
        python=Path(sys.executable),
        manage=manage,
        settings="tests.settings",
        user=NOBODY,
        grace_s=conf.load().grace_s,
        boot_timeout_s=conf.load().boot_timeout_s,
    )


def test_from_the_command_line_it_prints_the_unit_of_this_project() -> None:
    """Interpreter, project folder, settings and user are filled in; stdout holds the unit and nothing else."""
    manage = ROOT / "django_app" / "manage.py"
    done = subprocess.run(
        [sys.executable, str(manage), "jobsup_install", "--systemd", "--user", "root", "--queue", "default"],
        env=environment({"DJANGO_SETTINGS_MODULE": "demo.settings"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, text = done.stdout.split("\n", 1)
    assert head == "# /etc/systemd/system/jobsup.service"
    assert f"ExecStart={units.program(Path(sys.executable))} {units.argument(str(manage))} jobsupervisor" in text
    assert "DJANGO_SETTINGS_MODULE=demo.settings\n" in text
    assert "User=root\n" in text
    assert "systemctl enable --now jobsup\n" in done.stderr


def test_write_puts_the_unit_and_the_hardening_where_systemd_looks(manage: Path, tmp_path: Path) -> None:
    """The files are those that would have been printed; it says the next commands."""
    folder = tmp_path / "units"
    folder.mkdir()
    out, err = install(write=True, hardening=True, directory=folder, name="mail")
    unit, text = units.service(project(manage), "mail")
    assert (folder / unit).read_text() == text
    assert (folder / f"{unit}.d" / "hardening.conf").read_text() == units.hardening(unit)[1]
    assert out == ""
    assert "systemctl daemon-reload; systemctl enable --now jobsup-mail" in err


def test_the_instances_of_a_project_have_a_unit_of_their_own(manage: Path) -> None:
    """One unit, an instance for each queue."""
    out, err = install(instances=True)
    assert units.instances(project(manage))[1] in out
    assert "enable --now jobsup@QUEUE" in err


def test_a_second_time_changes_nothing_and_another_text_is_kept(manage: Path, tmp_path: Path) -> None:
    """What an operator has changed by hand is replaced with --force only; nothing is written if a part cannot be."""
    install(write=True, directory=tmp_path)
    assert "as it should be" in install(write=True, directory=tmp_path)[1]
    unit = tmp_path / "jobsup.service"
    unit.write_text("by hand\n")
    with pytest.raises(CommandError, match="exists and says something else"):
        install(write=True, hardening=True, directory=tmp_path)
    assert unit.read_text() == "by hand\n"
    assert not (tmp_path / "jobsup.service.d").exists()
    install(write=True, directory=tmp_path, force=True)
    assert unit.read_text() == units.service(project(manage))[1]


def test_a_folder_that_cannot_be_written_is_told(manage: Path, tmp_path: Path) -> None:
    """In a sentence, with the remedy."""
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"cannot be written .*: run this as root, or name another --directory"):
        install(write=True, directory=tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"user": "nobody-of-that-name"}, "no user nobody-of-that-name on this machine: make one"),
        ({"queues": ["nowhere"]}, "nowhere"),
        ({"name": "a b"}, "--name is 'a b'"),
        ({"instances": True, "queues": ["default"]}, "--queue does not go with --instances"),
    ],
)
def test_options_that_cannot_work_are_refused(manage: Path, options: dict[str, Any], sentence: str) -> None:
    """Before anything is printed."""
    with pytest.raises(CommandError, match=sentence):
        install(**options)


def test_settings_without_a_name_are_refused(manage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers could not find them."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    with pytest.raises(CommandError, match="DJANGO_SETTINGS_MODULE is not set"):
        install()


@pytest.mark.parametrize("program", ["/usr/bin/django-admin", "/usr/lib/django/__main__.py", "manage.py"])
def test_without_a_manage_py_there_is_no_unit(program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The service is started by it, and its folder is the project's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(CommandError, match=r"is no manage\.py"):
        install()


def test_a_user_who_cannot_read_the_project_is_told_why(manage: Path) -> None:
    """The service would only fail with status 203 or 127."""
    if os.geteuid() != 0:
        pytest.skip("only root can tell for another user")
    manage.parent.chmod(0o700)
    with pytest.raises(
        CommandError, match=f"user {NOBODY} cannot read .*, because of {manage.parent}: let that user in"
    ):
        install()
    assert "ExecStart" in install(force=True)[0]
    assert "ExecStart" in install(user="root")[0], "root may read everything"


def test_root_is_not_taken_by_default(manage: Path) -> None:
    """The user is the owner of manage.py, unless that is root."""
    if os.geteuid() == 0:
        with pytest.raises(CommandError, match="should run no jobs: name another user with --user"):
            install(user=None)
        os.chown(manage, pwd.getpwnam(NOBODY).pw_uid, -1)
    owner = manage.owner()
    assert f"User={owner}\n" in install(user=None)[0]


def test_m14_a_user_who_logs_in_is_warned_of_removeipc(manage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The semaphores of a user that is no system user are removed when it logs out."""
    account = pwd.getpwnam(NOBODY)
    assert "RemoveIPC" in install()[1] or account.pw_uid < 1000
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 999, 999, "", "/", "")))
    assert "RemoveIPC" not in install(force=True)[1]
