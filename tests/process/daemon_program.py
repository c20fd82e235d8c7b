"""A program that becomes a daemon as its configuration says, after the twists that a test asks for.

As a daemon it writes what it sees to `facts.json`, opens its log anew at USR1 and ends at TERM.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from spawnpool.daemonize import become, detach, drop_privileges
from spawnpool.errors import SpawnpoolError
from spawnpool.logfile import LogFile
from spawnpool.pidfile import PidFile
from spawnpool.process import fill_standard_streams

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSED = 4

kept: list[Any] = []


def run_thread() -> None:
    """Leave a thread waiting, as a careless AppConfig.ready might."""
    threading.Thread(target=threading.Event().wait, name="metrics", daemon=True).start()


def open_own_file(directory: Path) -> None:
    """Hold a file open, as a handler of the settings' LOGGING does."""
    kept.append((directory / "own").open("a"))


def say(line: str, file: TextIO | None = None) -> None:
    """Write a line at once, to stdout if to no other file."""
    file = file or sys.stdout
    file.write(f"{line}\n")
    file.flush()


def serve(config: dict[str, Any], pidfile: PidFile | None, *, detached: bool) -> None:
    """Say what is seen, then do as the signals say."""
    signals = {signal.SIGUSR1, signal.SIGTERM}
    facts = {
        "pid": os.getpid(),
        "detached": detached,
        "on_term": str(signal.getsignal(signal.SIGTERM)),
        "home": os.environ.get("HOME"),
        "own": [file.fileno() for file in kept],
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    say("hello from the daemon")
    subprocess.run(["sh", "-c", "echo its child; echo its stderr >&2"], check=True)
    if config.get("use_multiprocessing"):
        kept.append(multiprocessing.get_context("spawn").Lock())
        for file in kept[:-1]:
            say("a line of its own", file)
    Path("facts.json.new").write_text(json.dumps(facts))
    Path("facts.json.new").rename("facts.json")
    while detached and signal.sigwait(signals) == signal.SIGUSR1:
        LogFile(Path(config["logfile"])).reopen()
        say("opened anew")
    if pidfile:
        pidfile.release()


def main() -> int:
    """Become a daemon."""
    fill_standard_streams()
    config = json.loads(sys.argv[1])
    sys.executable = config.get("python", "/bin/sh")  # that of the tests may be closed to other users
    twists: dict[str, Callable[[], object]] = {
        "tracker": resource_tracker.ensure_running,
        "thread": run_thread,
        "own_file": lambda: open_own_file(Path.cwd()),
        "be_nobody": lambda: drop_privileges(*become("nobody", None)),
        "speak": lambda: sys.stdout.write("said before\n"),
    }
    for name in config.get("twists", ()):
        twists[name]()
    try:
        pidfile = PidFile(Path(config["pidfile"])) if "pidfile" in config else None

        def then() -> None:
            if config.get("fail"):
                raise RuntimeError("the start failed")
            if gate := config.get("gate"):  # a pipe: opening it waits for the test
                Path(gate).read_text()
            if pidfile:
                pidfile.write()

        uid, gid = become(config.get("user"), config.get("group"))
        detached = detach(
            umask=config.get("umask", 0o027),
            working_directory=Path(config.get("cwd", ".")),
            logfile=Path(config["logfile"]) if "logfile" in config else None,
            uid=uid,
            gid=gid,
            keep=[*config.get("keep", ()), *([pidfile.fileno()] if pidfile else ())],
            then=then,
        )
    except SpawnpoolError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    serve(config, pidfile, detached=detached)
    return 0


if __name__ == "__main__":
    sys.exit(main())
