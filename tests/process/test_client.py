"""Asking a supervisor: the answer, or one sentence that says why there is none; an ending is waited for to its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from spawnpool import client
from spawnpool.client import EndedMeanwhile, NotAllowed, NotRunning, TimedOut, Unheard, ask, holder
from spawnpool.control import socket_path
from spawnpool.runfile import RunFile
from tests.process.askers import NOBODY, ROOT_UID, as_nobody
from tests.process.holders import holders
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DRAINED = {"ok": True, "words": "drained", "status": None, "report": {"finished": [1]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the run file stands."""
    return tmp_path / "run" / "mail-12345678.run"


@pytest.fixture
def hold(path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start processes that hold the run file and answer, or do not, in some way."""
    with holders(path) as start:
        yield start


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("command", ["status", "reload"])
def test_the_answer_is_returned_as_it_came(
    path: Path, hold: Callable[..., object], command: str, *, wait: bool
) -> None:
    """And the supervisor has been told whether to wait."""
    hold()
    answer = ask(path, command, wait=wait, timeout_s=60)
    assert answer == {"ok": True, "words": command, "status": None, "report": {"wait": wait}}


def test_where_nothing_runs_that_is_told(path: Path) -> None:
    """No file, a free file, a stale socket beside it: only the lock counts."""
    with pytest.raises(NotRunning, match=f"no supervisor holds the run file {path}"):
        ask(path, "drain", wait=True, timeout_s=60)
    RunFile(path).release()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(socket_path(path)))
    with pytest.raises(NotRunning, match=f"no supervisor holds the run file {path}"):
        ask(path, "status", wait=False, timeout_s=60)


def test_a_supervisor_that_starts_is_waited_for(
    path: Path, hold: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its name a moment before it listens."""
    monkeypatch.setattr(client, "LISTEN_WAIT_S", 60)
    hold("is late")
    assert ask(path, "status", wait=False, timeout_s=60)["ok"]


def test_a_supervisor_without_a_socket_is_told_from_none(
    path: Path, hold: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid is named, since signals still work."""
    pid = hold("has no socket").pid
    with pytest.raises(TimedOut, match=f"process {pid} does not listen on {socket_path(path)} after 0.5 s"):
        ask(path, "status", wait=False, timeout_s=0.5)
    monkeypatch.setattr(client, "LISTEN_WAIT_S", 0.1)
    with pytest.raises(Unheard, match=f"process {pid} does not listen on {socket_path(path)}: its log says why"):
        ask(path, "status", wait=False, timeout_s=60)


@pytest.mark.parametrize(("command", "wait"), [("status", False), ("reload", True), ("drain", True)])
def test_fault_6_a_supervisor_that_is_killed_while_we_wait_is_told(
    path: Path, hold: Callable[..., subprocess.Popen[bytes]], command: str, *, wait: bool
) -> None:
    """At once, and it is no success, not even of a drain."""
    pid = hold("dies").pid
    with pytest.raises(EndedMeanwhile, match=f"process {pid} ended without an answer"):
        ask(path, command, wait=wait, timeout_s=None)
    assert holder(path) is None


def test_a_supervisor_that_hangs_up_and_lives_is_told_from_a_dead_one(
    path: Path, hold: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is declared dead who holds his name."""
    pid = hold("hangs up").pid
    monkeypatch.setattr(client, "LAST_MOMENT_S", 0.1)
    with pytest.raises(Unheard, match=f"process {pid} hung up without an answer"):
        ask(path, "drain", wait=True, timeout_s=60)


def test_fault_17_a_supervisor_that_is_stopped_does_not_keep_us_longer_than_we_allow(
    path: Path, hold: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The kernel takes the connection in its place, but nobody answers."""
    process = hold()
    assert ask(path, "status", wait=False, timeout_s=60)["ok"]  # it listens
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimedOut, match=f"no answer from process {process.pid} after 0.5 s"):
        ask(path, "status", wait=False, timeout_s=0.5)
    process.send_signal(signal.SIGCONT)
    assert ask(path, "status", wait=False, timeout_s=60)["ok"]


@pytest.fixture
def may_leave_when_we_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a holder that was asked to leave do so when we begin to wait for that, not before."""

    def sleep(seconds: float) -> None:
        path.with_suffix(".go").touch()
        time.sleep(seconds)

    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
    monkeypatch.setattr(client, "LISTEN_WAIT_S", 60)


@pytest.mark.usefixtures("may_leave_when_we_wait")
@pytest.mark.parametrize("command", ["drain", "stop"])
def test_the_fact_of_an_ending_is_that_the_name_is_free(path: Path, hold: Callable[..., object], command: str) -> None:
    """Not that it was announced."""
    hold("leaves", DRAINED)
    assert ask(path, command, wait=True, timeout_s=60) == DRAINED
    assert holder(path) is None


def test_without_waiting_the_announcement_is_enough(path: Path, hold: Callable[..., subprocess.Popen[bytes]]) -> None:
    """It may take hours."""
    pid = hold("stays", DRAINED).pid
    assert ask(path, "drain", wait=False, timeout_s=60) == DRAINED
    assert holder(path) == pid


def test_an_ending_that_does_not_come_is_told_in_time(path: Path, hold: Callable[..., subprocess.Popen[bytes]]) -> None:
    """It was announced and nothing followed."""
    pid = hold("stays", DRAINED).pid
    with pytest.raises(TimedOut, match=f"process {pid} still runs after 0.5 s"):
        ask(path, "drain", wait=True, timeout_s=0.5)


@pytest.mark.usefixtures("may_leave_when_we_wait")
@pytest.mark.parametrize("command", ["drain", "status"])
def test_who_comes_in_the_last_moment_waits_for_the_end_as_well(
    path: Path, hold: Callable[..., object], command: str
) -> None:
    """The socket is gone and the name is not free yet: a drain then ends well, a status has nothing to tell."""
    hold("leaves", DRAINED)
    assert ask(path, "drain", wait=False, timeout_s=60) == DRAINED
    eventually(lambda: not socket_path(path).exists(), 60, "the end of the socket")
    if command == "drain":
        assert ask(path, command, wait=True, timeout_s=60)["words"] == "it was ending already and is gone"
    else:
        with pytest.raises(NotRunning, match="has just ended"):
            ask(path, command, wait=True, timeout_s=60)


@pytest.mark.usefixtures("may_leave_when_we_wait")
def test_a_successor_who_takes_the_name_at_once_does_not_keep_us(
    path: Path, hold: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """As under a service manager that starts whatever has ended."""
    hold("leaves", DRAINED)
    successor = hold("succeeds")
    assert ask(path, "drain", wait=True, timeout_s=60) == DRAINED
    eventually(lambda: holder(path) == successor.pid, 60, "the successor")
    assert ask(path, "status", wait=False, timeout_s=60)["words"] == "status"


@pytest.mark.skipif(os.geteuid() != ROOT_UID, reason="only root can be somebody else for a while")
def test_another_user_is_told_whom_to_be(
    path: Path, hold: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run file and the socket are not for him; and a socket that somebody else put there is not believed."""
    hold()
    monkeypatch.chdir(path.parent)
    path.parent.chmod(0o755)
    with (
        as_nobody(),
        pytest.raises(NotAllowed, match=r"cannot be opened \(Permission denied\): ask as its user or root"),
    ):
        ask(Path(path.name), "status", wait=False, timeout_s=60)
    path.chmod(0o644)
    with as_nobody(), pytest.raises(NotAllowed, match=r"cannot be reached \(Permission denied\): ask as its user"):
        ask(Path(path.name), "status", wait=False, timeout_s=60)
    os.chown(path.parent, NOBODY, NOBODY)
    socket_path(path).unlink()
    with socket.socket(socket.AF_UNIX) as impostor:
        with as_nobody():
            impostor.bind(socket_path(path).name)
            impostor.listen()
        socket_path(path).chmod(0o666)
        os.seteuid(NOBODY - 1)
        try:
            with pytest.raises(NotAllowed, match=f"user {NOBODY} listens on"):
                ask(Path(path.name), "status", wait=False, timeout_s=60)
        finally:
            os.seteuid(ROOT_UID)
