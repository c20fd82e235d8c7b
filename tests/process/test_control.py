"""The control socket: who may ask, what is taken and answered, and the file that it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spawnpool.control import COMMANDS, ControlServer
from tests.process.askers import DONE, NOBODY, ROOT_UID, STATUS, World, as_nobody, heard, open_fds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server and nobody to ask it yet."""
    made = World(tmp_path / "one.sock")
    yield made
    made.close()


# -- asking and answering ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_request_is_taken_whole_and_answered_once(world: World, command: str, *, wait: bool) -> None:
    """The loop sleeps while the request waits; the answer is a line, and then the connection ends."""
    assert world.idle
    client, request = world.request(json.dumps({"command": command, "wait": wait}).encode() + b"\n")
    assert (request.command, request.wait, request.gone) == (command, wait, False)
    assert world.idle
    request.answer(DONE)
    assert heard(client) == DONE
    assert client.recv(1) == b""
    assert request.gone
    request.answer(DONE)
    assert world.turn() == []


def test_requests_wait_side_by_side_and_are_answered_in_any_order(world: World) -> None:
    """Each gets its own answer."""
    pairs = [world.request(json.dumps({"command": command}).encode() + b"\n") for command in COMMANDS]
    for _, request in reversed(pairs):
        request.answer({**DONE, "words": request.command})
    assert [heard(client)["words"] for client, _ in pairs] == list(COMMANDS)


def test_what_a_later_version_adds_to_a_request_is_passed_over(world: World) -> None:
    """And so is what a client sends after its request."""
    client, request = world.request(b'{"command": "drain", "colour": "blue"}\nand more')
    assert (request.command, request.wait) == ("drain", False)
    client.sendall(STATUS)
    assert world.idle


def test_a_request_in_pieces_is_put_together(world: World) -> None:
    """One byte at a time; the others are served meanwhile."""
    client = world.client()
    for byte in STATUS[:-1]:
        client.sendall(bytes([byte]))
        assert world.turn() == []
    world.assert_serves()
    client.sendall(STATUS[-1:])
    (request,) = world.turn()
    assert request.command == "status"


# -- the file ---------------------------------------------------------------------------------------------------------


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    """Bound and reached through the folder's descriptor, which is closed again."""
    folder = tmp_path.joinpath(*["a-very-long-name-of-a-folder"] * 6)
    folder.mkdir(parents=True)
    before = len(open_fds())
    world = World(folder / "one.sock")
    assert len(os.fsencode(world.path)) > 200
    world.assert_serves()
    world.close()
    assert len(open_fds()) == before
    assert not world.path.exists()


def test_the_socket_is_for_its_user_alone_and_no_child_gets_it(tmp_path: Path) -> None:
    """Mode 0600 even under a careless umask, and close-on-exec throughout."""
    before = open_fds()
    umask = os.umask(0)
    try:
        world = World(tmp_path / "one.sock")
    finally:
        os.umask(umask)
    world.request()
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    flags = [fcntl.fcntl(fd, fcntl.F_GETFD) for fd in open_fds() - before]
    assert len(flags) >= 4
    assert all(flag & fcntl.FD_CLOEXEC for flag in flags)
    world.close()


def test_the_socket_of_a_supervisor_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """Whoever holds the run file may."""
    path = tmp_path / "one.sock"
    script = (
        "import sys, signal; from pathlib import Path; from spawnpool.control import ControlServer\n"
        "server = ControlServer(Path(sys.argv[1])); print(flush=True); signal.pause()"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env=env) as dead:
        assert dead.stdout is not None
        assert dead.stdout.readline() == b"\n"
        dead.send_signal(signal.SIGKILL)
    assert path.is_socket()
    world = World(path)
    world.assert_serves()
    world.close()
    assert not path.exists()


def _no_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("spoil", "number", "why"),
    [
        (Path.write_text, errno.EEXIST, "something else stands there: remove it"),
        (Path.mkdir, errno.EEXIST, "something else stands there: remove it"),
        (_no_folder, errno.ENOENT, "No such file or directory"),
    ],
    ids=["file", "folder", "nowhere"],
)
def test_a_place_without_room_for_a_socket_is_told_in_words(
    tmp_path: Path, spoil: Callable[..., object], number: int, why: str
) -> None:
    """The supervisor goes on without; what stands there is left alone."""
    path = tmp_path / "run" / "one.sock"
    path.parent.mkdir()
    spoil(path, *[""][: spoil is Path.write_text])
    with pytest.raises(OSError, match="cannot be made") as refusal_of_place:
        ControlServer(path)
    error = refusal_of_place.value
    assert (error.errno, error.strerror) == (number, f"the control socket {path} cannot be made ({why})")
    assert path.exists() is (number == errno.EEXIST)


# -- strangers --------------------------------------------------------------------------------------------------------

AS_ROOT = pytest.mark.skipif(os.geteuid() != ROOT_UID, reason="only root can be somebody else for a while")


@AS_ROOT
def test_a_stranger_is_refused_in_words_even_where_the_folder_lets_him_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says who he is; he commands nothing."""
    monkeypatch.chdir(world.path.parent)  # what is above it need not be open to him
    world.path.parent.chmod(0o755)
    stranger = world.unconnected()
    with as_nobody(), pytest.raises(PermissionError):
        stranger.connect(world.path.name)
    world.path.chmod(0o666)
    with as_nobody():
        stranger.connect(world.path.name)
    stranger.sendall(b'{"command": "stop"}\n')
    assert world.turn() == []
    assert heard(stranger)["words"] == "this supervisor belongs to another user: ask as that user or as root"
    world.assert_serves()


@AS_ROOT
def test_root_may_ask_the_supervisor_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so may that user."""
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    monkeypatch.chdir(folder)
    with as_nobody():
        world = World(Path("one.sock"))
    for who in (as_nobody, nullcontext):
        with who():
            client = world.client(STATUS)
        with as_nobody():
            (request,) = world.turn()
            request.answer(DONE)
        assert heard(client) == DONE
    world.close()
