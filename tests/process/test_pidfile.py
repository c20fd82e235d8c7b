"""The pid file: locked for life, never believed, removed only by its holder, never written over what is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from spawnpool import pidfile
from spawnpool.errors import AlreadyRunning
from spawnpool.pidfile import PidFile, PidFileRefused
from tests.support import eventually, fds_of

SOMEBODY = 65534
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of the test stands."""
    return tmp_path / "one.pid"


def test_y3_it_is_a_classic_pid_file_and_gone_at_the_end(path: Path) -> None:
    """The number and a newline, readable by scripts."""
    held = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()
    assert not os.get_inheritable(held.fileno())
    held.release()
    assert not path.exists()


def test_y3_a_second_holder_is_refused_and_told_the_pid(path: Path) -> None:
    """The lock decides, also within one process."""
    held = PidFile(path)
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} holds the pid file {path} already") as refusal:
        PidFile(path)
    assert refusal.value.pid == os.getpid()
    held.release()


@pytest.mark.parametrize("left", ["", "1\n", "99999999999999999999\n", " 7 "])
def test_y3_a_file_that_stays_behind_stops_nobody(path: Path, left: str) -> None:
    """Not even with the pid of a living process, which may have been given to a stranger."""
    path.write_text(left)
    held = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    held.release()


def test_y3_a_file_of_somebody_else_is_not_removed(path: Path) -> None:
    """An operator removed ours, and another process made its own."""
    held = PidFile(path)
    path.unlink()
    other = PidFile(path)
    held.release()
    assert path.exists()
    other.release()
    held = PidFile(path)
    path.unlink()
    held.release()


def test_y3_a_file_removed_between_open_and_lock_is_not_the_one_that_is_held(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder left in that moment: a lock on a file without a name keeps nobody away."""
    real, calls = pidfile._open, []

    def open_late(place: Path) -> int:
        fd = real(place)
        calls.append(fd)
        if len(calls) == 1:
            place.unlink()
        return fd

    monkeypatch.setattr(pidfile, "_open", open_late)
    held = PidFile(path)
    assert len(calls) == 2
    assert path.read_text() == f"{os.getpid()}\n"
    held.release()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # other tests may have left a thread
def test_y3_a_forked_child_does_not_remove_it(path: Path) -> None:
    """It only lets go of its copy; the lock stays."""
    held = PidFile(path)
    pid = os.fork()
    if pid == 0:
        held.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(AlreadyRunning):
        PidFile(path)
    held.release()


def test_y3_a_dead_holder_does_not_keep_it(path: Path) -> None:
    """The kernel takes the lock away, also when a program that the holder started lives on."""
    held = PidFile(path)
    child = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
    try:
        # Popen may return in the middle of the exec, before the kernel has closed what is close-on-exec.
        eventually(lambda: str(path) not in [fd.target for fd in fds_of(child.pid).values()], 60, "the exec")
        os.close(held.fileno())  # as the kernel does when the process dies
        PidFile(path).release()
    finally:
        child.kill()
        child.wait(60)


def test_a_link_is_not_followed(path: Path) -> None:
    """Whoever can make links in a public folder must not choose what root writes over."""
    target = path.with_name("target")
    target.write_text("1")
    path.symlink_to(target)
    with pytest.raises(PidFileRefused, match=r"cannot be opened \(it is a symbolic link\)"):
        PidFile(path)
    assert target.read_text() == "1"


def test_what_is_no_pid_file_is_not_written_over(path: Path) -> None:
    """A slip in the option costs nothing."""
    path.write_text("SECRET_KEY = 1\n")
    with pytest.raises(PidFileRefused, match="says something else than a pid: name another file, or remove this one"):
        PidFile(path)
    assert path.read_text() == "SECRET_KEY = 1\n"


def test_a_pipe_or_a_folder_is_refused(path: Path) -> None:
    """Without waiting for a writer."""
    os.mkfifo(path)
    with pytest.raises(PidFileRefused, match="is no regular file"):
        PidFile(path)
    with pytest.raises(PidFileRefused, match="Is a directory"):
        PidFile(path.parent)


@ROOT_ONLY
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    """That user could name any process there for root's scripts to signal."""
    path.touch()
    os.chown(path, SOMEBODY, SOMEBODY)
    with pytest.raises(PidFileRefused, match=f"belongs to user {SOMEBODY}"):
        PidFile(path)


def test_a_missing_folder_and_one_that_everybody_can_write_are_told(path: Path) -> None:
    """With the remedy; the sticky bit is enough, as in /tmp."""
    with pytest.raises(PidFileRefused, match=f"No such file or directory.*make the folder {path.parent}/none"):
        PidFile(path.parent / "none" / "one.pid")
    path.parent.chmod(0o777)
    with pytest.raises(PidFileRefused, match="is writable by everybody"):
        PidFile(path)
    path.parent.chmod(0o1777)
    PidFile(path).release()


def test_f22_a_full_disk_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PidFileRefused, match=r"cannot be written \(No space left on device\): make room there"):
        PidFile(path)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
