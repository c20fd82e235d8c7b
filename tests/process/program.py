"""A program that runs a supervisor on a list, after the twists that a test asks for."""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spawnpool import hands, process
from spawnpool.hooks import before_check
from spawnpool.limits import Limits
from spawnpool.pools import Pool
from spawnpool.supervisor import Supervisor
from spawnpool.worker import WorkerSpec
from tests.process.listpool import Journal
from tests.process.listsource import ListSource

if TYPE_CHECKING:
    from collections.abc import Callable

kept_open: list[object] = []


def keep_much_open(directory: Path) -> None:
    """Hold files, sockets and pipes open, inheritable ones among them, as a careless settings module might."""
    sys.modules["only_in_the_parent"] = sys
    a, b = socket.socketpair()
    reader, writer = os.pipe()
    file = (directory / "open-file").open("w")
    for fd in (a.fileno(), reader, file.fileno()):
        os.set_inheritable(fd, True)  # noqa: FBT003  # os takes it by position only
    kept_open.extend([a, b, reader, writer, file])


def fail_spawns(first: int, last: int) -> None:
    """Let the spawns from the first to the last fail as if the system were out of processes."""
    count = itertools.count(1)
    real = process.WorkerProcess

    def spawn(*args: Any) -> process.WorkerProcess:
        if first <= next(count) <= last:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(*args)

    vars(hands)["WorkerProcess"] = spawn


def use_lame_interpreter(directory: Path) -> None:
    """Let the interpreter of every worker end at once; that of the resource tracker works."""
    script = directory / "python"
    script.write_text(f'#!/bin/sh\ncase "$*" in *spawn_main*) exit 0;; esac\nexec {sys.executable} "$@"\n')
    script.chmod(0o700)
    multiprocessing.set_executable(str(script))


def spoil_signals() -> None:
    """Ignore and block what a careless parent may."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR1})


def use_hooks(journal: Journal) -> None:
    """Register three hooks of which the second fails and the third is taken away again."""

    def good() -> None:
        journal.tell("hook")

    def bad() -> None:
        raise RuntimeError("the engine is broken")

    def gone() -> None:
        journal.tell("a hook that is gone")

    for hook in (gone, bad, good, good):
        before_check.register(hook)
    before_check.unregister(gone)


def limit_descriptors(free: int) -> None:
    """Allow so many descriptors more than are open now."""
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def main() -> int:
    """Run a supervisor on a list, as `config.json` says."""
    directory = Path(os.environ["LISTPOOL_DIR"])
    config = json.loads((directory / "config.json").read_text())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    journal = Journal(directory, keep=True)
    twists: dict[str, Callable[[Any], object]] = {
        "keep_much_open": lambda _: keep_much_open(directory),
        "start_method": multiprocessing.set_start_method,
        "lame_interpreter": lambda _: use_lame_interpreter(directory),
        "fail_spawns": lambda bounds: fail_spawns(*bounds),
        "limit_descriptors": limit_descriptors,
        "spoil_signals": lambda _: spoil_signals(),
        "use_hooks": lambda _: use_hooks(journal),
    }
    log_file = str(directory / "log") if config["twists"].pop("own_log", False) else ""
    source = ListSource(directory, config["keys"])
    supervisor = Supervisor(
        source,
        WorkerSpec("listpool", "tests.process.listpool.ListRunner", log_file),
        Limits(**config["limits"]),
        pools=[Pool(**values) for values in config["pools"]],
        on_workers=lambda pids: journal.tell("workers", pids),
        last=True,
    )
    for name, value in config["twists"].items():
        twists[name](value)
    if config["in_thread"]:
        helper = threading.Thread(target=supervisor.run)
        helper.start()
        helper.join()
        return 1
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
