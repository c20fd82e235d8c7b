"""A throwaway Redis on the loopback interface, as it is usually run beside a queue: nothing is kept on the disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.errors import Unavailable
from tests.mariadb import TIED_TO_PARENT

START_TIMEOUT_S = 10.0


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Provide the address of an empty server, which is gone afterwards and ends with us.

    Raises:
        Unavailable: there is none to start, or it does not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("there is no redis-server on PATH: install one (Debian: redis-server)")
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    command = [sys.executable, "-I", "-S", "-c", TIED_TO_PARENT, str(os.getpid()), "-", "-", program, *options]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise Unavailable(f"redis-server did not start: {(folder / 'redis.log').read_text()[-500:]}")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with closing(socket.socket()) as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with closing(socket.socket()) as line:
        if line.connect_ex(("127.0.0.1", port)):
            return False
        line.sendall(b"PING\r\n")
        return line.recv(16).startswith(b"+PONG")
