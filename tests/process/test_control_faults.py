"""What clients of the control socket do wrong: it harms nobody else, and nothing ever waits for them."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spawnpool import control
from spawnpool.control import CLIENTS_MAX, REQUEST_BYTES_MAX, SILENCE_S, refusal
from tests.process.askers import DONE, STATUS, World, heard, open_fds

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A server and nobody to ask it yet."""
    made = World(tmp_path / "one.sock")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\n", "a request is an object of JSON"),
        (b"[]\n", "a request is an object of JSON"),
        (b"{}\n", "a request is an object of JSON"),
        (b"null\n", "a request is an object of JSON"),
        (b"\xff\xfe\x00\n", "a request is an object of JSON"),
        (b"[" * 4000 + b"\n", "a request is an object of JSON"),
        (b"GET / HTTP/1.1\r\n\r\n", "a request is an object of JSON"),
        (b'{"command": "dance"}\n', "command is 'dance': this supervisor knows drain, stop, reload, quiet, resume, s"),
        (b'{"command": ["stop"]}\n', "command is ['stop']: this"),
        (b'{"command": "stop", "wait": "long"}\n', "wait is 'long': expected true or false"),
        (b"x" * (REQUEST_BYTES_MAX + 1), "a request has at most 4096 bytes and ends with a newline"),
        (b'{"command": "stop", "x": "' + b"x" * (1 << 20) + b'"}\n', "a request has at most 4096 bytes and ends with"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_garbage_is_refused_in_words_and_harms_nobody(world: World, data: bytes, why: str) -> None:
    """It is no request; the connection ends; the next client is served."""
    client = world.client()
    client.settimeout(0)
    client.send(data)
    assert world.turn() == []
    client.settimeout(20)
    answer = json.loads(client.recv(1 << 16))
    assert answer["words"].startswith(why)
    assert answer == refusal(answer["words"])
    world.assert_serves()


def test_half_a_request_is_no_request(world: World) -> None:
    """Cut off by its end, and nobody is there to be told."""
    client = world.client(STATUS[:-1])
    assert world.turn() == []
    client.close()
    assert world.turn() == []
    world.assert_serves()


def test_the_silent_are_forgotten_and_those_who_wait_for_us_are_not(world: World) -> None:
    """After ten seconds, at the next turn; a drain may take hours."""
    half, mute = world.client(STATUS[:-1]), world.client()
    patient, request = world.request()
    world.clock.now += SILENCE_S
    world.assert_serves()
    assert (heard(half), heard(mute)) == (None, None)
    request.answer(DONE)
    assert heard(patient) == DONE


def test_more_clients_than_there_is_room_for_are_refused(world: World) -> None:
    """Those who were there first are served, and the others when these have gone."""
    first = []
    for _ in range(CLIENTS_MAX):
        first.append(world.client())
        world.turn()
    for _ in range(3 * CLIENTS_MAX):
        late = world.client()
        world.turn()
        assert heard(late)["words"] == "64 others are asking this supervisor: try again in a moment"
        late.close()
    first[7].sendall(STATUS)
    (request,) = world.turn()
    request.answer(DONE)
    assert heard(first[7]) == DONE
    for client in first:
        client.close()
    world.turn()
    world.assert_serves()


def test_room_is_made_by_clients_that_went_away_while_they_waited(world: World) -> None:
    """Their requests are still there, and know it."""
    pairs = [world.request() for _ in range(CLIENTS_MAX)]
    for client, _ in pairs:
        client.close()
    assert world.idle
    assert all(request.gone for _, request in pairs)
    world.assert_serves()
    for _, request in pairs:
        request.answer(DONE)


def test_a_slow_reader_gets_all_of_a_long_answer_and_delays_nobody(world: World) -> None:
    """More than the kernel keeps for it: the rest is sent as it reads."""
    long = {**DONE, "words": "x" * (4 << 20)}
    client, request = world.request()
    request.answer(long)
    world.assert_serves()
    assert not request.gone
    received = bytearray()
    while not received.endswith(b"\n"):
        received += client.recv(1 << 16)
        world.turn()
    assert json.loads(received) == long
    assert client.recv(1) == b""


def test_a_reader_that_takes_nothing_in_is_forgotten(world: World) -> None:
    """Ten seconds after its answer; the loop sleeps until then."""
    _, request = world.request()
    request.answer({**DONE, "words": "x" * (4 << 20)})
    assert world.idle
    world.clock.now += SILENCE_S
    world.assert_serves()
    assert request.gone


def test_an_answer_on_its_way_arrives_though_the_supervisor_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain report may be long."""
    monkeypatch.setattr(control, "LINGER_S", 60)
    world = World(tmp_path / "one.sock", time.monotonic)
    client, request = world.request()
    client.settimeout(None)  # a process that it is given to blocks
    request.answer({**DONE, "words": "x" * (4 << 20)})
    script = "import json, sys; print(len(json.loads(sys.stdin.buffer.readline())['words']))"
    with subprocess.Popen([sys.executable, "-c", script], stdin=client.fileno(), stdout=subprocess.PIPE) as reader:
        world.server.close()
        assert reader.stdout is not None
        assert reader.stdout.read() == b"4194304\n"
    world.close()


def test_a_reader_that_takes_nothing_in_does_not_keep_a_supervisor_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not longer than it lingers."""
    monkeypatch.setattr(control, "LINGER_S", 0.05)
    world = World(tmp_path / "one.sock", time.monotonic)
    client, request = world.request()
    request.answer({**DONE, "words": "x" * (4 << 20)})
    world.server.close()
    assert request.gone
    assert not client.makefile("rb").readline().endswith(b"\n")
    world.close()


@pytest.mark.parametrize("data", [b"", STATUS[:-1], STATUS], ids=["nothing", "half", "all"])
def test_a_supervisor_that_ends_hangs_up_on_everybody(world: World, data: bytes) -> None:
    """Without an answer: the end of the connection tells it."""
    client = world.client(data)
    requests = world.turn()
    world.server.close()
    assert client.recv(1) == b""
    for request in requests:
        request.answer(DONE)


def test_a_client_that_closed_only_its_own_direction_still_listens(world: World) -> None:
    """As `nc -U` does at the end of its input."""
    client = world.client(STATUS)
    client.shutdown(socket.SHUT_WR)
    (request,) = world.turn()
    assert not request.gone
    world.assert_serves()
    request.answer(DONE)
    assert heard(client) == DONE


def test_a_client_that_asks_and_leaves_is_heard(world: World) -> None:
    """Whoever types Ctrl-C after `drain` has asked for it all the same."""
    client = world.client(STATUS)
    client.close()
    (request,) = world.turn()
    assert request.gone
    request.answer(DONE)
    assert world.idle


def test_without_descriptors_nobody_is_let_in_and_the_loop_sleeps(world: World) -> None:
    """A supervisor at its limit goes on with its work; who waits at the door comes in at the next turn after that."""
    client = world.unconnected()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(open_fds())
    fillers = [os.dup(0)]
    while fillers[-1] <= highest:
        fillers.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1, limits[1]))
    try:
        client.connect(str(world.path))
        assert world.turn() == []
        assert world.idle
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    world.assert_serves()
    client.sendall(STATUS)
    (request,) = world.turn()
    request.answer(DONE)
    assert heard(client) == DONE
