"""The words to the service manager, read at a real socket."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from spawnpool.notify import STATUS_CHARS, WATCHDOG_SHARE, ServiceManager
from tests.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """A socket in a file."""
    with Listener(str(tmp_path / "notify")) as found:
        yield found


def tell_everything(manager: ServiceManager) -> None:
    """Say each word once."""
    manager.status("starting")
    manager.ready()
    manager.reloading(12.5)
    manager.ready()
    manager.alive()
    manager.stopping()
    manager.extend_timeout(7.5)


EVERYTHING = [
    "STATUS=starting",
    "READY=1",
    "RELOADING=1\nMONOTONIC_USEC=12500000",
    "READY=1",
    "WATCHDOG=1",
    "STOPPING=1",
    "EXTEND_TIMEOUT_USEC=7500000",
]


def manager_at(listener: Listener, **more: str) -> ServiceManager:
    """Return the other end of a listener."""
    return ServiceManager({"NOTIFY_SOCKET": listener.name, **more})


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_y4_each_word_is_one_datagram_in_the_order_of_speech(kind: str, tmp_path: Path) -> None:
    """RELOADING carries its time in the same datagram; a name that begins with @ is no path."""
    with Listener(f"@jobsup-test-{os.getpid()}" if kind == "abstract" else str(tmp_path / "notify")) as listener:
        manager = manager_at(listener)
        assert manager.listens
        tell_everything(manager)
        assert listener.heard() == EVERYTHING
        manager.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_nothing_is_said_and_nothing_fails(environ: Mapping[str, str]) -> None:
    """Nobody listens; then nobody waits for a sign of life either."""
    manager = ServiceManager({**environ, "WATCHDOG_USEC": "3000000"})
    assert not manager.listens
    assert manager.alive_interval_s is None
    tell_everything(manager)
    manager.close()


def test_a_service_manager_that_is_away_hears_what_matters_when_it_is_back(tmp_path: Path) -> None:
    """Start, reload and stop are kept in their order, of the status its last line; nothing blocks meanwhile."""
    name = str(tmp_path / "notify")
    manager = ServiceManager({"NOTIFY_SOCKET": name})
    tell_everything(manager)
    manager.status("1 worker")
    manager.status("2 workers")
    with Listener(name) as listener:
        manager.alive()
        assert listener.heard() == [*EVERYTHING[1:4], "STOPPING=1", "STATUS=2 workers", "WATCHDOG=1"]
    manager.close()


def test_a_full_queue_neither_blocks_nor_loses_ready(listener: Listener) -> None:
    """The kernel takes a handful of datagrams that nobody reads; READY goes first when there is room again."""
    manager = manager_at(listener)
    for _ in range(10_000):  # more than net.unix.max_dgram_qlen on any machine
        manager.alive()
    manager.ready()
    assert set(listener.heard()) == {"WATCHDOG=1"}
    manager.alive()
    assert listener.heard() == ["READY=1", "WATCHDOG=1"]
    manager.close()


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """However often a service that nobody hears is reloaded."""
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for number in range(1000):
        manager.reloading(number)
        manager.ready()
    with Listener(str(tmp_path / "notify")) as listener:
        for _ in range(20):  # the kernel takes net.unix.max_dgram_qlen at a time
            manager.alive()
            listener.heard()
        heard = [word for word in listener.all if word != "WATCHDOG=1"]
    assert heard[-2:] == ["RELOADING=1\nMONOTONIC_USEC=999000000", "READY=1"]
    assert len(heard) < 20
    manager.close()


def test_a_status_is_one_short_line_and_is_sent_when_it_changes(listener: Listener) -> None:
    """A line break would begin another assignment, such as READY; nor may text that UTF-8 cannot hold or hold whole."""
    manager = manager_at(listener)
    for text in ("3 workers", "3 workers", "broken:\nREADY=1", "\ud800 lone", "x" * 1_000_000):
        manager.status(text)
    assert listener.heard() == [
        "STATUS=3 workers",
        "STATUS=broken: READY=1",
        "STATUS=? lone",
        f"STATUS={'x' * STATUS_CHARS}",
    ]
    manager.close()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30 / WATCHDOG_SHARE),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30 / WATCHDOG_SHARE),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({}, None),
    ],
)
def test_y5_the_watchdog_is_fed_if_it_waits_for_us(
    listener: Listener, environ: dict[str, str], interval_s: float | None
) -> None:
    """Not when the interval is another process's, or none."""
    manager = manager_at(listener, **environ)
    assert manager.alive_interval_s == interval_s
    manager.close()


def test_the_time_of_a_reload_is_the_clock_of_the_service_manager(listener: Listener) -> None:
    """The other side compares it with CLOCK_MONOTONIC."""
    manager = manager_at(listener)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading(time.monotonic())
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (word,) = listener.heard()
    assert before <= int(word.rpartition("=")[2]) <= after
    manager.close()


def test_y9_the_socket_reaches_no_program_that_is_started(listener: Listener) -> None:
    """It is closed on exec even where a program inherits all descriptors."""
    manager = manager_at(listener)
    assert manager._socket is not None
    inode = os.fstat(manager._socket.fileno()).st_ino
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True)
    assert f"socket:[{inode}]" not in listing.stdout
    manager.close()


def test_after_close_nobody_is_told(listener: Listener) -> None:
    """A supervisor that has ended says nothing any more."""
    manager = manager_at(listener)
    manager.close()
    tell_everything(manager)
    manager.close()
    assert not manager.listens
    assert listener.heard() == []
