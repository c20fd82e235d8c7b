"""`make chaos`: `jobs torture` for long, on a throwaway server of each database, with the servers hurt as well.

`python -m tests.chaos [DATABASE ...] [--share 0.1]`; without names on all of them. Prints the tables of each, and in
the end one in Markdown with the figures of all. Needs no more than what the tests need; writes nothing into the tree.
`python -m tests.chaos tell SOCKET WHAT` is what the torture calls in order to have a server hurt.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests import mariadb
from tests.postgres import Cluster
from tests.support import ROOT, environment, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

FREEZE_S = 3.0
TELL_S = 120


class Size(NamedTuple):
    """How much a database has to bear; of the jobs some 3 % are rolled back when they are enqueued."""

    jobs: int
    faults: int
    seconds: int


SIZES = {
    "postgresql": Size(52_000, 500, 600),
    "sqlite": Size(10_500, 100, 130),
    "mariadb": Size(10_500, 100, 130),
}
ROWS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "jobs that were enqueued": lambda told: f"{told['enqueued']:,}",
    "faults": lambda told: f"{told['struck']:,}",
    "lost": lambda told: broken(told, 0),
    "ended otherwise than their task says, or after too many attempts": lambda told: broken(told, 2, 7),
    "failed attempts without a reason": lambda told: broken(told, 6),
    "attempts that ran twice": lambda told: broken(told, 4),
    "enqueued and rolled back, and there all the same": lambda told: broken(told, 1),
    "atomic jobs whose effect is missing or doubled": lambda told: broken(told, 3),
    "run twice at a time": lambda told: broken(told, 5),
    "claims, runs, processes, sessions, transactions left": lambda told: broken(told, 8),
    "supervisors that ended by themselves, tracebacks in their logs": lambda told: broken(told, 9),
    "ordinary jobs that ran again though they had returned (allowed)": lambda told: doubles(told, 1),
    "ordinary jobs that were cut short and ran again": lambda told: doubles(told, 0),
    "from a worker's kill to its job's next start, less back-off: p50, p99, longest": lambda told: times(told, 0),
    "from a supervisor's kill to its jobs' next start: p50, p99, longest": lambda told: times(told, 1),
    "took": lambda told: f"{told['seconds']:.0f} s",
    "seed": lambda told: str(told["seed"]),
}


def broken(told: Mapping[str, Any], *places: int) -> str:
    """Return how often these promises were broken."""
    return f"{sum(told['promises'][place]['broken'] for place in places):,}"


def doubles(told: Mapping[str, Any], place: int) -> str:
    """Return how many ordinary jobs ran more than once."""
    return f"{list(told['doubles'].values())[place]:,}"


def times(told: Mapping[str, Any], place: int) -> str:
    """Return the times of a recovery."""
    each = told["recoveries"][place]
    if not each["measured"]:
        return "none"
    return f"{each['p50_s']:.2f} s, {each['p99_s']:.2f} s, {each['max_s']:.2f} s (n = {each['measured']:,})"


class Hurter:
    """A server that can be hurt by whoever knows its socket.

    Args:
        server: of PostgreSQL or MariaDB.
        path: of the socket.
    """

    def __init__(self, server: Cluster | mariadb.Server, path: Path) -> None:
        self._server = server
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self._listener, selectors.EVENT_READ)

    def options(self) -> Iterator[str]:
        """Yield the options of `jobs torture` that have the server hurt."""
        tell = f"{sys.executable} -m tests.chaos tell {self.path}"
        yield from ("--database-restart", f"{tell} restart")
        yield from ("--own-fault", f"crash of the database server={tell} crash")
        yield from ("--own-fault", f"freeze of all processes of the database server={tell} freeze")

    def heed(self, timeout_s: float) -> None:
        """Do what somebody asks for within some time."""
        if self.selector.select(timeout_s):
            asker, _ = self._listener.accept()
            with closing(asker):
                self._do(asker.recv(100).decode())
                asker.sendall(b"done")

    def close(self) -> None:
        """Listen no more."""
        self.selector.close()
        self._listener.close()

    def _do(self, what: str) -> None:
        if what != "freeze":
            self._server.restart("immediate" if what == "crash" else "fast")
            return
        pid = self._server.pid
        assert pid is not None
        frozen = [pid, *processes_of(pid)]
        for each in frozen:
            send(each, signal.SIGSTOP)
        time.sleep(FREEZE_S)
        for each in frozen:
            send(each, signal.SIGCONT)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process of our server; one that has ended is passed over."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def torture(name: str, size: Size, seed: int | None) -> dict[str, Any] | None:
    """Do it on one database; return what came of it, None if nothing did."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsup-chaos-")))
        env = {"JOBSUP_TEST_DEFAULT": name, "JOBSUP_TEST_RUN_DIR": str(place)}
        hurter = None
        if name == "sqlite":
            env["JOBSUP_TEST_SQLITE"] = str(place / "jobs.sqlite3")
        elif name == "postgresql":
            cluster = stack.enter_context(Cluster(max_connections=200))
            env["JOBSUP_TEST_POSTGRES"] = cluster.create_database("jobsup")
            hurter = Hurter(cluster, place / "hurter")
        else:
            server = stack.enter_context(mariadb.Server())
            env["JOBSUP_TEST_MARIADB"] = server.create_database("jobsup")
            hurter = Hurter(server, place / "hurter")
        command = [sys.executable, "-m", "django", "jobs", "torture", "--json", "--jobs", str(size.jobs)]
        command += ["--faults", str(size.faults), "--seconds", str(size.seconds), "--workers", "2"]
        command += [] if seed is None else ["--seed", str(seed)]
        if hurter is not None:
            stack.callback(hurter.close)
            command += hurter.options()
        return run(command, env, hurter)


def run(command: Sequence[str], env: Mapping[str, str], hurter: Hurter | None) -> dict[str, Any] | None:
    """Run the command while the server is hurt as it asks; return its JSON."""
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, cwd=ROOT, env=environment(env), stdin=subprocess.DEVNULL, stdout=output)
        while child.poll() is None:
            try:
                if hurter is None:
                    time.sleep(0.1)
                else:
                    hurter.heed(0.1)
            except KeyboardInterrupt:
                continue  # the child has it as well, and says what it has seen
        output.seek(0)
        text = output.read().strip()
    return json.loads(text) if text else None


def tell(path: str, what: str) -> int:
    """Ask for a server to be hurt, and wait until it has been."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(TELL_S)
        asker.connect(path)
        asker.sendall(what.encode())
        return 0 if asker.recv(100) == b"done" else 1


def table(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table with all figures, in Markdown."""
    yield f"| | {' | '.join(found)} |"
    yield f"|---{'|---:' * len(found)}|"
    for words, cell in ROWS.items():
        yield f"| {words} | {' | '.join(cell(told) for told in found.values())} |"
    kinds = dict.fromkeys(kind for told in found.values() for kind in told["faults"])
    for kind in kinds:
        counts = [f"{told['faults'].get(kind, 0):,}" for told in found.values()]
        yield f"| {kind} | {' | '.join(counts)} |"


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return the exit code: 0 only if every promise held on each database."""
    if arguments[:1] == ["tell"]:
        return tell(*arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="jobs torture, for long")
    parser.add_argument("databases", nargs="*", choices=[*SIZES, []], default=[], metavar="DATABASE")
    parser.add_argument("--share", type=float, default=1.0, help="of the jobs, the faults and the time (1)")
    parser.add_argument("--seed", type=int, help="make the choices of that run again")
    options = parser.parse_args(arguments)
    found: dict[str, dict[str, Any]] = {}
    code = 0
    for name in options.databases or SIZES:
        if name == "mariadb" and not mariadb.is_installed():
            say("mariadb: no server is installed, so it is left out (Debian: mariadb-server)")
            continue
        size = Size(*(max(1, round(each * options.share)) for each in SIZES[name]))
        say(f"-- {name}: {size.jobs:,} jobs and {size.faults:,} faults over {size.seconds} s")
        told = torture(name, size, options.seed)
        if told is None:
            code = 1
            continue
        found[name] = told
        code |= not told["held"] or told["failure"] is not None
        for promise in told["promises"]:
            say(f"{'broken' if promise['broken'] else 'held'}: {promise['words']}")
            for example in promise["examples"]:
                say(f"    {example}")
        say(f"again: {told['command']}")
    for line in table(found):
        say(line)
    return code


def say(words: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
