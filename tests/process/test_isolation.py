"""A worker inherits nothing: no descriptor, no semaphore for long, no main module, no signal setting, no thread."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.process.listpool import Does, key
from tests.support import eventually, fds_of, processes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.process.play import Pool


def closes_on_exec(pid: int, fd: int) -> bool:
    """Read from /proc whether a program started by that process would not get the descriptor."""
    return bool(flags_of(pid, fd) & os.O_CLOEXEC)


def writes(pid: int, fd: int) -> bool:
    """Tell whether a descriptor is open for writing."""
    return flags_of(pid, fd) & os.O_ACCMODE != os.O_RDONLY


def flags_of(pid: int, fd: int) -> int:
    """Return with which flags a process has a descriptor open."""
    return int(read_proc(pid, f"fdinfo/{fd}")["flags"], 8)


def read_proc(pid: int, name: str) -> dict[str, str]:
    """Return a file of "key: value" lines that tells of a process."""
    lines = (Path("/proc") / str(pid) / name).read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_worker_holds_its_two_lanes_and_its_card_and_nothing_of_its_parent(pool: Callable[..., Pool]) -> None:
    """Compared by device and inode with a parent full of inheritable files, sockets and pipes; the card is shared."""
    careless = pool(twists={"keep_much_open": True}).ready()
    parents = fds_of(careless.pid)
    assert len(parents) > 12, "the parent holds what it was told to"
    lanes: list[tuple[int, int]] = []
    for pid in careless.workers():
        fds = fds_of(pid)
        mine = {fd for fd in fds if fd > 2}
        card = {fd for fd in mine if "jobsup-card" in fds[fd].target}
        assert (len(mine), len(card)) == (3, 1)
        assert all(closes_on_exec(pid, fd) for fd in mine)
        mine -= card
        assert all(fds[fd].target.startswith("pipe:") for fd in mine)
        lanes += [fds[fd][1:] for fd in mine]
        held = {fd[1:] for number, fd in parents.items() if number > 2} - {fds[fd][1:] for fd in mine | card}
        assert not held & {fd[1:] for fd in fds.values()}
    assert len(set(lanes)) == 4, "no two workers share a lane"
    careless.stop()


def test_the_supervisor_does_not_hold_the_workers_ends_of_the_lanes(pool: Callable[..., Pool]) -> None:
    """Each pipe of reports has one writer, the worker: its end is an end of file."""
    plain = pool().ready()
    for pid in plain.workers():
        pipes = [fd for fd, held in fds_of(pid).items() if fd > 2 and held.target.startswith("pipe:")]
        writers = [fd for fd in pipes if writes(pid, fd)]
        assert len(writers) == 1
        pipe = fds_of(pid)[writers[0]][1:]
        assert [writes(plain.pid, fd) for fd, each in fds_of(plain.pid).items() if each[1:] == pipe] == [False]
    plain.stop()


def test_m10_a_child_of_a_job_gets_only_the_standard_descriptors(pool: Callable[..., Pool]) -> None:
    """With close_fds=False, as os.system does it."""
    job = key(Does.LIST_FDS)
    careless = pool([job], twists={"keep_much_open": True}, workers=1).wait_done(job)
    careless.stop()
    lines = (careless.directory / "fds").read_text().splitlines()
    numbers = [int(line.split(" -> ")[0].split()[-1]) for line in lines if " -> " in line]
    assert numbers == [0, 1, 2, 3], "3 is the listing itself"


def test_m11_a_script_without_a_guard_runs_once(pool: Callable[..., Pool]) -> None:
    """Workers do not import `__main__`: neither a script nor `-m` starts itself again in them."""
    job = key(Does.NOOP)
    script = pool([job], program=["tests/process/unguarded.py"]).ready().wait_done(job)
    assert len(script.workers()) == 2
    script.stop()
    assert len(script.events("script")) == 1


def test_m14_named_semaphores_do_not_pile_up_over_restarts(pool: Callable[..., Pool]) -> None:
    """One set per living worker, removed with it, also when that worker was killed."""
    plain = pool(workers=1, restarts_max=1000).ready(1)
    seen = mapped_semaphores(plain.pid)
    held = len(seen & named_semaphores())
    for _ in range(30):
        (pid,) = plain.workers()
        os.kill(pid, signal.SIGKILL)
        plain.wait_replaced(pid, workers=1)
        seen |= mapped_semaphores(plain.pid)
    assert len(seen) >= 31, "every worker has semaphores of its own"
    assert 0 < len(seen & named_semaphores()) <= held
    plain.stop()
    eventually(lambda: not seen & named_semaphores(), what="the end of every semaphore", picture=named_semaphores)


def mapped_semaphores(pid: int) -> set[int]:
    """Return the inodes of the semaphores that a process has in its memory; their names were others at first."""
    lines = (Path("/proc") / str(pid) / "maps").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}


def named_semaphores() -> set[int]:
    """Return the inodes of all named semaphores of the machine, which others use, too."""
    inodes = set()
    for path in Path("/dev/shm").glob("sem.*"):
        with suppress(FileNotFoundError):
            inodes.add(path.stat().st_ino)
    return inodes


def test_m15_the_default_start_method_does_not_matter(pool: Callable[..., Pool]) -> None:
    """Set to fork, workers are spawned all the same: fresh interpreters with nothing of the parent."""
    job = key(Does.NOOP)
    forked = pool([job], twists={"start_method": "fork", "keep_much_open": True}).ready().wait_done(job)
    forked.stop()
    assert [inherited for *_, inherited in forked.events("boot")] == [False, False]


def test_s4_ignored_and_blocked_signals_of_the_parent_stay_there(pool: Callable[..., Pool]) -> None:
    """A worker's mask is empty, it ignores only what a terminal sends, and its children die of SIGTERM."""
    job = key(Does.CHILD_TERM)
    spoiled = pool([job], twists={"spoil_signals": True}, workers=1).wait_done(job)
    (pid,) = spoiled.workers()
    status = read_proc(pid, "status")
    ignored = {number for number in range(1, 32) if int(status["SigIgn"], 16) >> (number - 1) & 1}
    assert int(status["SigBlk"], 16) == 0
    terminal = {signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    assert ignored - {signal.SIGXFSZ} == terminal | {signal.SIGPIPE}  # Python itself ignores PIPE and XFSZ
    spoiled.stop()
    assert (spoiled.directory / "child").read_text() == str(-signal.SIGTERM)


def test_s6_a_start_from_a_helper_thread_is_refused(pool: Callable[..., Pool]) -> None:
    """PR_SET_PDEATHSIG fires when the spawning thread ends: said in a sentence, and nothing is spawned."""
    threaded = pool(in_thread=True)
    assert threaded.wait() == 1
    assert "spawned from the main thread only" in threaded.log()
    assert not threaded.events("boot")


def test_d6_the_supervisor_has_no_threads(pool: Callable[..., Pool]) -> None:
    """Nor does it start one in order to send something."""
    jobs = [key(Does.SLEEP, 100) for _ in range(4)]
    plain = pool().ready()
    assert threads(plain.pid) == 1
    plain.add(*jobs)
    plain.wait_done(*jobs)
    assert threads(plain.pid) == 1
    plain.stop()


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return int(read_proc(pid, "status")["Threads"])


def test_y9_a_job_cannot_speak_to_the_service_manager(
    pool: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What systemd tells the supervisor is gone from a worker's environment before it boots."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/nowhere")
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    plain = pool(workers=1).ready(1)
    plain.stop()
    assert [names for _, names, _ in plain.events("boot")] == [["LISTPOOL_DIR"]]
    assert not processes_of(plain.pid)
