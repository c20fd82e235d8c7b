"""What a supervisor says to its service manager, and when, heard at a real socket."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.listener import Listener
from tests.process.listpool import Does, key
from tests.support import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.process.play import Pool

PATIENT_S = 60
ALIVE_USEC = 600_000


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """The socket that every supervisor of the test is told of."""
    with Listener(str(tmp_path / "notify")) as found:
        monkeypatch.setenv("NOTIFY_SOCKET", found.name)
        yield found


def story(listener: Listener) -> list[str]:
    """Return what was said until now, in order: the first name of each word, without status and signs of life."""
    listener.heard()
    names = [word.partition("=")[0] for word in listener.all]
    return [name for name in names if name in ("READY", "RELOADING", "STOPPING", "MAINPID")]


def wait_story(listener: Listener, *wanted: str, pool: Pool) -> None:
    """Wait until exactly that was said."""
    eventually(
        lambda: story(listener) == list(wanted), PATIENT_S, f"{wanted}", lambda: f"{listener.all}\n{pool.picture()}"
    )


def test_y2_y4_ready_reloading_and_stopping_come_when_they_are_true_and_in_this_order(
    listener: Listener, pool: Callable[..., Pool]
) -> None:
    """READY when all workers are ready, again after each reload, also a refused one; no other main pid."""
    slow = pool(boot={"sleep_s": 1.0})
    eventually(lambda: len(slow.events("boot")) == 2, PATIENT_S, "two workers that boot", slow.picture)
    assert story(listener) == []
    wait_story(listener, "READY", pool=slow)
    slow.ready()

    asked_at = time.monotonic()
    slow.code()
    slow.signal(signal.SIGHUP)
    wait_story(listener, "READY", "RELOADING", "READY", pool=slow)
    assert "reload done: 2 workers on the new code" in slow.log()
    (reloading,) = [word for word in listener.all if word.startswith("RELOADING")]
    assert asked_at * 1e6 < int(reloading.partition("\nMONOTONIC_USEC=")[2]) < time.monotonic() * 1e6

    slow.code(fail="the new code is broken")
    slow.signal(signal.SIGHUP)
    wait_story(listener, *["READY", "RELOADING"] * 2, "READY", pool=slow)
    eventually(
        lambda: listener.heard() or "the new code is broken" in " ".join(listener.all), PATIENT_S, "the status line"
    )

    job = key(Does.SLEEP, 500)
    slow.add(job)
    slow.wait_started(job).stop()
    listener.heard()
    assert story(listener) == [*["READY", "RELOADING"] * 2, "READY", "STOPPING"]
    after = listener.all[listener.all.index("STOPPING=1") :]
    assert any(word.startswith("EXTEND_TIMEOUT_USEC=") for word in after), "patience for the drain"
    assert not any(word.startswith("EXTEND_TIMEOUT_USEC=") for word in listener.all if word not in after)


def test_y5_a_loop_that_is_held_up_gives_no_sign_of_life(
    listener: Listener, pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is fed by full turns: a source that blocks silences it, though nothing has ended; then it goes on."""
    monkeypatch.setenv("WATCHDOG_USEC", str(ALIVE_USEC))

    def signs() -> int:
        return listener.heard().count("WATCHDOG=1")

    steady = pool().ready()
    for _ in range(5):  # whether there is work or not
        eventually(signs, PATIENT_S, "a sign of life", steady.picture)
    fifo = steady.directory / "cancelled"  # the source reads this file, and so waits for whoever writes to it
    os.mkfifo(fifo)
    steady.add(key(Does.NOOP))
    writer = eventually(lambda: open_if_read(fifo), PATIENT_S, "a loop that is held up", steady.picture)
    signs()
    heard, until = 0, time.monotonic() + 2 * ALIVE_USEC / 1e6
    while time.monotonic() < until:
        heard += signs()
        time.sleep(0.01)
    assert heard == 0
    os.close(writer)
    eventually(signs, PATIENT_S, "a sign of life", steady.picture)
    steady.stop()


def open_if_read(fifo: Path) -> int:
    """Return a descriptor to write to a FIFO; 0 when nobody reads it."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return 0
