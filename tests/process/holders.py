"""A process that holds a run file and answers on its control socket in some way, right or wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOLDER = """
import json, os, select, signal, sys, time
from pathlib import Path
from spawnpool.control import ControlServer, socket_path
from spawnpool.errors import AlreadyRunning
from spawnpool.runfile import RunFile
path, how, answer = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
held = None
if how == "succeeds":
    print("tries", flush=True)
while held is None:
    try:
        held = RunFile(path)
    except AlreadyRunning:
        assert how == "succeeds"
if how in ("has no socket", "is late"):
    print("holds", flush=True)
if how == "has no socket":
    signal.pause()
if how == "is late":
    time.sleep(0.3)
server, waiting = ControlServer(socket_path(path)), []
print("holds", flush=True)
while True:
    select.select([server], [], [])
    for request in server.take():
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hangs up":
            server.close()
            signal.pause()
        if how == "is silent":
            waiting.append(request)
            continue
        given = {"ok": True, "words": request.command, "status": None, "report": {"wait": request.wait}}
        request.answer(given if answer is None else answer)
        if how in ("leaves", "stays"):
            server.close()
            while how == "stays" or not path.with_suffix(".go").exists():
                time.sleep(0.01)
            held.release()
            sys.exit()
"""


@contextmanager
def holders(path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Provide a way to start such processes; they end with the block.

    Args:
        path: the run file that they hold, unless they are told another one.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(how: str = "answers", answer: Any = None, *, at: Path = path) -> subprocess.Popen[bytes]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", HOLDER, str(at), how, json.dumps(answer)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=env))
        output = started[-1].stdout
        assert output is not None
        assert output.readline() == (b"tries\n" if how == "succeeds" else b"holds\n")
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.communicate()
