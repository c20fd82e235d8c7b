"""What the commands to a running supervisor print, and their exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management.base import CommandError

from jobsup import conf, control
from jobsup.places import run_path
from spawnpool.control import COMMANDS
from spawnpool.runfile import RunFile
from tests.process.holders import holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATUS = {
    "name": "mail",
    "pid": 812,
    "state": "running",
    "quiet": False,
    "degraded": None,
    "uptime_s": 11_520.0,
    "workers_wanted": 2,
    "settled": 1234,
    "per_s": 17.2,
    "ready": 1204,
    "workers": [
        {"number": 1, "pid": 813, "state": "serving", "job": 7, "for_s": 0.25, "waiting": 1500, "rss_bytes": 50 << 20},
        {"number": 2, "pid": 814, "state": "serving", "job": None, "for_s": None, "waiting": 0, "rss_bytes": None},
    ],
    "reload": None,
}
LEAVING = {"number": 3, "pid": 9, "state": "leaving", "job": 8, "for_s": 400.0, "waiting": 0, "rss_bytes": None}
HEAD = "supervisor mail on here (pid 812): running, 2 workers, 1 busy, 17 jobs/s, 1,204 ready, up 3 h 12 min\n"
WORKERS = "worker 1 (pid 813): job 7 for 0.2 s, 1,500 more on its lane, 50 MB\nworker 2 (pid 814): idle\n"
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("plain", {}, HEAD + WORKERS),
    ("quiet", {"quiet": True}, HEAD.replace("running", "running, quiet") + WORKERS),
    ("unknown-backlog", {"ready": None}, HEAD.replace("1,204 ready, ", "") + WORKERS),
    ("slow", {"per_s": 0.5}, HEAD.replace("17 ", "0.5 ") + WORKERS),
    ("still", {"per_s": 0.0}, HEAD.replace("17 ", "0 ") + WORKERS),
    ("fast", {"per_s": 12345.6}, HEAD.replace("17 ", "12,346 ") + WORKERS),
    ("young", {"uptime_s": 12.3}, HEAD.replace("3 h 12 min", "12 s") + WORKERS),
    ("old", {"uptime_s": 900_000.0}, HEAD.replace("3 h 12 min", "10 d 10 h") + WORKERS),
    ("few", {"workers_wanted": 3}, HEAD.replace("2 workers", "2 workers of 3") + WORKERS),
    (
        "leaving",
        {"workers": [LEAVING]},
        HEAD.replace("2 workers", "1 worker of 2") + "worker 3 (pid 9): leaving, job 8 for 6 min 40 s\n",
    ),
    ("waiting", {"trouble": "waiting for the database"}, HEAD + "waiting for the database\n" + WORKERS),
    ("degraded", {"degraded": "5 deaths in 60 s"}, HEAD + "degraded: 5 deaths in 60 s\n" + WORKERS),
    (
        "reload",
        {"reload": {"ok": False, "words": "reload refused: ImportError: cake", "ago_s": 90.0}},
        HEAD + "reload refused: ImportError: cake (1 min 30 s ago)\n" + WORKERS,
    ),
    (
        "reloading",
        {"reload": {"ok": None, "words": "reload: 2 to go", "ago_s": 1.0}},
        HEAD + "reload: 2 to go (1.0 s ago)\n" + WORKERS,
    ),
]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that hold the run file of `settings_of` and answer, or do not, in some way."""
    with holders(run_path(settings_of(tmp_path))) as start:
        yield start


def settings_of(folder: Path, name: str = "mail") -> conf.Conf:
    """Return the settings of a supervisor whose run file is in a folder."""
    return conf.Conf(name=name, run_dir=str(folder / "run"), node="here")


def run(folder: Path, command: str = "status", *, name: str = "mail", **options: Any) -> tuple[int, str]:
    """Run one command; return its exit code and what it printed."""
    told = io.StringIO()
    given = {"wait": False, "as_json": False, "timeout_s": 60.0, **options}
    code = control.run(command, settings_of(folder, name), stdout=told, **given)
    return code, told.getvalue()


def refused(folder: Path, command: str = "status", **options: Any) -> tuple[int, str]:
    """Run one command that fails; return its exit code and its sentence, told as JSON as well."""
    with pytest.raises(CommandError) as failure:
        run(folder, command, **options)
    code, told = run(folder, command, **options, as_json=True)
    answer = json.loads(told)
    assert (code, answer["ok"], answer["words"]) == (failure.value.returncode, False, str(failure.value))
    return code, str(failure.value)


@pytest.mark.parametrize(("changes", "told"), [other[1:] for other in OTHERS], ids=[other[0] for other in OTHERS])
def test_a_status_is_told_in_lines(changes: dict[str, Any], told: str) -> None:
    """The supervisor, what is special about it, each worker."""
    assert "".join(f"{line}\n" for line in control.status_lines(STATUS | changes, "here")) == told


def test_a_status_is_printed(tmp_path: Path, hold: Callable[..., object]) -> None:
    """With the name of this machine."""
    hold("answers", {"ok": True, "words": "running", "status": STATUS, "report": None})
    assert run(tmp_path) == (0, HEAD + WORKERS)


def test_json_is_printed_as_it_came(tmp_path: Path, hold: Callable[..., object]) -> None:
    """On one line, for programs."""
    answer = {"ok": True, "words": "running", "status": STATUS, "report": None, "new": 1}
    hold("answers", answer)
    code, told = run(tmp_path, as_json=True)
    assert (code, json.loads(told), told.count("\n")) == (0, answer, 1)


def test_a_status_of_another_version_is_printed_as_it_came(tmp_path: Path, hold: Callable[..., object]) -> None:
    """During a deployment the new command asks the old supervisor; it is no reason for a traceback."""
    answer = {"ok": True, "words": "running", "status": {"pid": 812}, "report": None}
    hold("answers", answer)
    assert run(tmp_path) == (0, json.dumps(answer) + "\n")


def test_every_other_command_prints_the_sentence(tmp_path: Path, hold: Callable[..., object]) -> None:
    """That came as the answer."""
    hold()
    for command in set(COMMANDS) - {"status"}:
        assert run(tmp_path, command) == (0, f"{command}\n")


@pytest.mark.parametrize(("command", "code"), [("reload", 3), ("quiet", 1)])
def test_a_no_is_an_exit_code_and_the_reason(
    tmp_path: Path, hold: Callable[..., object], command: str, code: int
) -> None:
    """3 for a reload that is refused."""
    hold("answers", {"ok": False, "words": "ImportError: cake", "status": None, "report": None})
    assert refused(tmp_path, command, wait=True) == (code, "ImportError: cake")


def test_where_no_supervisor_of_that_name_runs_the_others_are_named(
    tmp_path: Path, hold: Callable[..., object]
) -> None:
    """Exit code 9, and what to do."""
    nothing = f"no supervisor mail runs here (no supervisor holds the run file {run_path(settings_of(tmp_path))})"
    assert refused(tmp_path) == (9, f"{nothing}: start it with jobsupervisor")
    for name in ("reports", "mail.v2"):
        hold(at=run_path(settings_of(tmp_path, name)))
    RunFile(run_path(settings_of(tmp_path, "stopped"))).release()
    assert refused(tmp_path) == (9, f"{nothing}: running here: mail.v2, reports; choose one with --name")


def test_waiting_has_an_end_if_one_is_given(tmp_path: Path, hold: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Exit code 124, as timeout(1) says it."""
    pid = hold("is silent").pid
    code, words = refused(tmp_path, "drain", wait=True, timeout_s=0.5)
    assert (code, words) == (124, f"no answer from process {pid} after 0.5 s; what was asked for goes on")


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_time_that_cannot_be_waited_for_is_refused(tmp_path: Path, timeout_s: float) -> None:
    """Exit code 2: wrong usage."""
    with pytest.raises(CommandError, match=f"--timeout is {re.escape(str(timeout_s))}: must lie between 0 and 604800"):
        run(tmp_path, timeout_s=timeout_s)


def test_an_answer_that_waits_for_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a time-out of one's own, too."""
    pid = hold("is silent").pid
    monkeypatch.setattr(control, "ANSWER_WAIT_S", 0.5)
    assert refused(tmp_path, timeout_s=None)[1].startswith(f"no answer from process {pid} after 0.5 s")


def test_the_supervisor_of_a_service_is_found_where_systemd_put_its_run_file(
    tmp_path: Path, hold: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """$RUNTIME_DIRECTORY is told to the service alone; a run file of the shell's own is looked at first."""
    monkeypatch.setattr(control, "SERVICES", tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = conf.Conf(name="mail")
    path = run_path(settings)
    told = io.StringIO()
    for words, place in (("of the service", tmp_path / "jobsup-x" / path.name), ("of the shell", path)):
        hold("answers", {"ok": True, "words": words, "status": None, "report": None}, at=place)
        assert control.run("quiet", settings, wait=False, as_json=False, timeout_s=60, stdout=told) == 0
    assert told.getvalue() == "of the service\nof the shell\n"
