"""What tests of real processes need: waiting for facts, looking at processes, a supervisor to play with.

Tests wait for facts with `eventually`, never for time. Whatever a test starts is gone when it ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from tests import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from types import TracebackType

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
POLL_S = 0.01
WORKER_TITLE = "jobsup: worker"


def eventually(
    fact: Callable[[], T],
    timeout_s: float = 10,
    what: str = "the fact",
    picture: Callable[[], object] | None = None,
) -> T:
    """Return the first true answer of `fact`; fail after `timeout_s`, showing the world as `picture` sees it."""
    deadline = time.monotonic() + timeout_s
    while not (answer := fact()):
        if time.monotonic() > deadline:
            world = f"\n{picture()}" if picture else ""
            raise AssertionError(f"{what} did not come true within {timeout_s} s; last answer: {answer!r}{world}")
        time.sleep(POLL_S)
    return answer


# -- looking at processes ---------------------------------------------------------------------------------------------


class Fd(NamedTuple):
    """An open file: what /proc calls it, and its identity."""

    target: str
    device: int
    inode: int


def processes_of(pid: int) -> list[int]:
    """Return all living descendants of a process; a zombie counts as gone."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (state := _state_and_parent(int(entry.name))):
            children.setdefault(state[1], []).append(int(entry.name))
    family = children.get(pid, [])
    for member in family:  # grows while we walk it
        family.extend(children.get(member, []))
    return [member for member in family if is_alive(member)]


def is_alive(pid: int) -> bool:
    """True when the process exists and is not a zombie."""
    state = _state_and_parent(pid)
    return state is not None and state[0] not in "ZX"


def title_of(pid: int) -> str:
    """Return the command line, which is the title once a process has set one; empty when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def fds_of(pid: int) -> dict[int, Fd]:
    """Return the open files of a process."""
    found: dict[int, Fd] = {}
    for link in (Path("/proc") / str(pid) / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed while we looked
            status = link.stat()
            found[int(link.name)] = Fd(str(link.readlink()), status.st_dev, status.st_ino)
    return found


def semaphores() -> set[str]:
    """Return the named semaphores of the whole machine."""
    return {path.name for path in Path("/dev/shm").glob("sem.*")}


def left_over(besides: Collection[int] = ()) -> list[int]:
    """Return our living descendants but for PostgreSQL servers, multiprocessing's resource tracker and `besides`."""
    allowed = {*besides, resource_tracker._resource_tracker._pid}  # type: ignore[attr-defined]
    for server in postgres.running:
        allowed |= {server.pid, *processes_of(server.pid or 0)}
    return [pid for pid in processes_of(os.getpid()) if pid not in allowed]


def assert_nothing_left(timeout_s: float = 5, *, besides: Collection[int] = (), known: set[str] | None = None) -> None:
    """Fail if processes started by a test are still there, or semaphores that are not in `known`."""

    def picture() -> str:
        return "\n".join(f"{pid} {title_of(pid)}" for pid in left_over(besides))

    eventually(lambda: not left_over(besides), timeout_s, "the end of every process started by the test", picture)
    if known is not None:
        eventually(lambda: semaphores() <= known, timeout_s, "the end of every new semaphore", semaphores)


def kill(pids: Collection[int]) -> None:
    """Kill descendants of ours; those that have ended meanwhile are passed over."""
    for fd in [fd for pid in pids if (fd := _pidfd(pid)) is not None]:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def become_subreaper() -> None:
    """Make orphans of the tests our children, so that `assert_nothing_left` sees them."""
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


def _state_and_parent(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the parent of a process, None when there is no such process."""
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


# -- the real command -------------------------------------------------------------------------------------------------


class Supervisor:
    """`manage.py jobsupervisor` in a process group of its own, its output kept; use it in a `with` block.

    Args:
        env: what is added to the environment.
        args: of the command.
        prefix: a program that starts it.
    """

    def __init__(self, env: Mapping[str, str], *args: str, prefix: Sequence[str] = ()) -> None:
        self.args, self.prefix = args, prefix
        self.env = environment(env)
        self._log = tempfile.NamedTemporaryFile(prefix="jobsup-log-", suffix=".log")  # noqa: SIM115 - closed in close()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the command; do not wait for it."""
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "django", "jobsupervisor", *self.args],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            process_group=0,
        )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process as started."""
        assert self._process is not None, "the supervisor was not started"
        return self._process

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.process.pid

    def wait_ready(self, timeout_s: float = 20) -> Self:
        """Wait until it says that its workers are ready."""
        self.wait_log("on duty", timeout_s)
        return self

    def wait_log(self, text: str, timeout_s: float = 10, *, count: int = 1) -> None:
        """Wait until a text stands in the log, `count` times."""

        def seen() -> bool:
            ended = self.process.poll()
            found = self.log().count(text) >= count  # read after the poll: the log of an ended process is complete
            assert found or ended is None, f"ended with {ended} before saying {text!r}:\n{self.log()}"
            return found

        eventually(seen, timeout_s, f"{text!r} in the log", self.picture)

    def workers(self) -> list[int]:
        """Return the pids of the workers that have come up, oldest first."""
        return sorted(pid for pid in processes_of(self.pid) if title_of(pid).startswith(WORKER_TITLE))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 20) -> int:
        """Wait for the end and return the exit code, negative when a signal ended it."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor did not end within {timeout_s} s\n{self.picture()}") from None

    def stop(self, expect: int = 0, timeout_s: float = 20) -> None:
        """Ask it to stop, and check how it ended."""
        self.signal(signal.SIGTERM)
        code = self.wait(timeout_s)
        assert code == expect, f"exit code {code} instead of {expect}\n{self.log()}"

    def kill(self) -> None:
        """Kill the supervisor alone, as the kernel would."""
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """Return all that it and its workers have written."""
        return Path(self._log.name).read_text(errors="replace")

    def picture(self) -> str:
        """Return its processes and its log, for a failing test."""
        family = [f"{pid} {title_of(pid)}" for pid in [self.pid, *processes_of(self.pid)]]
        return "\n".join([f"-- exit code: {self.process.poll()}; processes:", *family, "-- log:", self.log()])

    def close(self) -> None:
        """Kill what is left of it: the supervisor first, for it would start its workers again."""
        if self._process is not None and self._process.poll() is None:
            family = processes_of(self.pid)
            self.kill()
            kill(family)
        self._log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stdout.write(self.picture())  # pytest shows it with the failure
        self.close()


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Have what is started meanwhile heed SIGINT, also where this process was started to ignore it, as by "&"."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a fresh Python finds the tests, the packages and their settings."""
    paths = [str(ROOT), str(ROOT / "supervisor"), str(ROOT / "django_app"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def run_django(env: Mapping[str, str], *args: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one management command to its end, output and errors together."""
    return subprocess.run(
        [sys.executable, "-m", "django", *args],
        cwd=ROOT,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
