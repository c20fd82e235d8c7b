"""The run file: one holder at a time, nobody else's word is believed, and no worker of a dead holder is left."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from spawnpool import runfile
from spawnpool.errors import AlreadyRunning, SourceRefused
from spawnpool.runfile import RunFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT_UID = 0
SOMEBODY = 65534
SOUND = "0" * 32
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file of the test stands, in a folder that nobody else can write."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder / "one.run"


@pytest.fixture
def sleeper() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start real processes that only sleep, and end them with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**kwargs: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["/bin/sleep", "60"], **kwargs))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(5)


@contextmanager
def holding(path: Path) -> Iterator[RunFile]:
    """Hold the file for a while."""
    held = RunFile(path)
    try:
        yield held
    finally:
        held.release()


def said(path: Path) -> dict[str, Any]:
    """Return what the file says."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def left_by_the_dead(path: Path, **changes: Any) -> None:
    """Write what a holder of this machine left."""
    with holding(path):
        pass
    path.write_text(json.dumps(said(path) | changes))


def ticks(pid: int) -> int:
    """Return when a process started, read as proc(5) says."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def refused(path: Path, named: Path, why: str) -> None:
    """The file cannot be held, in one sentence that names the place and the remedy."""
    with pytest.raises(SourceRefused, match=why) as refusal:
        RunFile(path)
    sentence = str(refusal.value)
    assert str(named) in sentence
    assert 'set JOBSUP["RUN_DIR"] to a folder of your own' in sentence


# -- one holder -------------------------------------------------------------------------------------------------------


def test_y3_a_second_holder_is_refused_and_told_the_pid(path: Path) -> None:
    """The lock decides, also within one process."""
    with holding(path), pytest.raises(AlreadyRunning, match=f"process {os.getpid()} ") as refusal:
        RunFile(path)
    assert refusal.value.pid == os.getpid()


def test_y3_a_file_that_stays_behind_stops_nobody(path: Path) -> None:
    """What is written in it is no lock."""
    left_by_the_dead(path, pid=1)
    with holding(path):
        assert said(path)["pid"] == os.getpid()


def test_the_identity_is_kept(path: Path) -> None:
    """By it a successor knows which runs are over."""
    with holding(path) as first:
        pass
    with holding(path) as second:
        assert second.identity == first.identity
    assert re.fullmatch("[0-9a-f]{32}", first.identity)


def test_a_copy_on_another_machine_gets_an_identity_of_its_own(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Two holders of one identity would declare each other lost; the workers in a copy are none of this machine."""
    machine = tmp_path / "machine-id"
    monkeypatch.setattr(runfile, "MACHINE_ID", machine)
    seen = []
    bystander = sleeper()
    for content in (None, "a\n", "a\n", "b\n", None):  # None: it cannot be read
        machine.unlink(missing_ok=True)
        if content is not None:
            machine.write_text(content)
        with holding(path) as held:
            seen.append(held.identity)
            assert said(path)["machine"] == (content or "").strip()
            if content == "a\n":
                held.write_workers([])
            if len(seen) == 3:
                held.write_workers([bystander.pid])
        assert bystander.poll() is None
    assert seen[1] == seen[2]
    assert len(set(seen)) == 4


# -- whose folder, whose file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_is_refused(path: Path, mode: int) -> None:
    """They could put a file of theirs in the place of ours."""
    path.parent.chmod(mode)
    refused(path, path.parent, "is writable by others")
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o1777])
def test_a_folder_of_ours_or_a_sticky_one_is_taken(path: Path, mode: int) -> None:
    """As systemd makes it, and as the folder for temporary files is."""
    path.parent.chmod(mode)
    with holding(path):
        assert path.exists()


def test_a_missing_folder_is_made_and_is_ours_alone(path: Path) -> None:
    """With a umask that forbids nothing, too."""
    before = os.umask(0)
    try:
        with holding(path.parent / "new" / path.name) as held:
            assert held.path.parent.stat().st_mode & 0o7777 == 0o750
    finally:
        os.umask(before)


def test_a_folder_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    """Who made the link can lead it elsewhere."""
    link = tmp_path / "link"
    link.symlink_to(path.parent)
    refused(link / path.name, link, "is a symbolic link")
    assert not path.exists()


def test_a_folder_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner can do what he likes in it."""
    if os.geteuid() == ROOT_UID:
        os.chown(path.parent, SOMEBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    refused(path, path.parent, "belongs to user")


def test_a_file_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says about workers to be killed is not believed, and its lock may be held for ever."""
    path.write_text("{}")
    if os.geteuid() == ROOT_UID:
        os.chown(path, SOMEBODY, -1)
    else:
        answers = iter([os.geteuid(), SOMEBODY])  # the folder is ours, the file is not
        monkeypatch.setattr(os, "geteuid", lambda: next(answers))
    refused(path, path, "belongs to user")


def test_what_is_no_regular_file_is_refused(path: Path) -> None:
    """A named pipe can be opened and locked, and says what others write."""
    os.mkfifo(path)
    refused(path, path, "is no regular file")


def test_a_refusal_leaves_nothing_open(path: Path) -> None:
    """The descriptor of a file that was refused is closed."""
    os.mkfifo(path)
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names are all that is wanted
    refused(path, path, "is no regular file")
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # as above


# -- orphans ----------------------------------------------------------------------------------------------------------


def test_s8_workers_of_a_dead_holder_are_ended(path: Path, sleeper: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Before the successor goes on; those that are gone do not disturb."""
    orphan, gone = sleeper(), sleeper()
    with holding(path) as held:
        held.write_workers([gone.pid, orphan.pid])
        assert said(path)["workers"] == [[pid, ticks(pid)] for pid in (gone.pid, orphan.pid)]
    gone.kill()
    gone.wait(5)
    with holding(path):
        assert orphan.wait(5) == -signal.SIGKILL
        assert said(path)["workers"] == []


def test_s8_a_pid_that_was_given_to_another_process_is_left_alone(
    path: Path, sleeper: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """It started at another time than the worker that had the pid."""
    bystander = sleeper()
    left_by_the_dead(path, workers=[[bystander.pid, ticks(bystander.pid) - 1]])
    with holding(path):
        assert bystander.poll() is None


def test_s8_a_process_of_somebody_else_is_never_signalled(
    path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Not even when pid and start are right; whoever is not root looks at process 1 for it."""
    pid = sleeper(user=SOMEBODY).pid if os.geteuid() == ROOT_UID else 1
    left_by_the_dead(path, workers=[[pid, ticks(pid)]])
    sent: list[object] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *args: sent.append(args))
    monkeypatch.setattr(runfile, "ORPHAN_WAIT_S", 0)
    with holding(path):
        assert sent == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.ESRCH, errno.EINVAL, errno.EMFILE])
def test_s8_an_orphan_that_cannot_be_reached_is_passed_over(
    path: Path, monkeypatch: pytest.MonkeyPatch, sleeper: Callable[..., subprocess.Popen[bytes]], code: int
) -> None:
    """The others are ended all the same."""
    first, second = sleeper(), sleeper()
    left_by_the_dead(path, workers=[[each.pid, ticks(each.pid)] for each in (first, second)])
    really = os.pidfd_open

    def pidfd_open(pid: int, flags: int = 0) -> int:
        if pid == first.pid:
            raise OSError(code, os.strerror(code))
        return really(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with holding(path):
        assert second.wait(5) == -signal.SIGKILL
        assert first.poll() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 5},
        {"workers": {"1": 2}},
        {"workers": ["12"]},
        {"workers": [[1]]},
        {"workers": [[1, 2, 3]]},
        {"workers": [["1", 2]]},
        {"workers": [[True, 2]]},
        {"workers": [[-1, 2]]},
        {"workers": [[1 << 70, 2]]},
        {"workers": None},
        {"identity": 7},
        {"identity": "x" * 33},
        {"pid": "7"},
    ],
    ids=str,
)
def test_a_malformed_file_is_as_an_empty_one(path: Path, changes: dict[str, Any]) -> None:
    """Nothing of it is believed."""
    left_by_the_dead(path, **({"identity": SOUND} | changes))
    with holding(path) as held:
        assert held.identity not in (SOUND, changes.get("identity"))
        assert said(path)["identity"] == held.identity


@pytest.mark.parametrize("content", [b"", b'{"pid": 1, "iden', b"\xff\0", b"[]", b"[" * 100_000])
def test_a_file_that_is_no_object_is_as_an_empty_one(path: Path, content: bytes) -> None:
    """Cut short by a power failure, say."""
    path.write_bytes(content)
    with holding(path) as held:
        assert said(path)["identity"] == held.identity


# -- a removed file, a full disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("short", [False, True], ids=["error", "short write"])
def test_a_full_disk_is_told_once_and_stops_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, short: bool
) -> None:
    """Neither the start nor a supervisor that runs; the next trouble is told again."""

    def full(*_args: object) -> int:
        if short:
            return 1
        raise FULL

    with caplog.at_level(logging.WARNING, "spawnpool"):
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", full)
            held = RunFile(path)
            held.write_workers([os.getpid()])
        assert [record.getMessage() for record in caplog.records] == [
            f"the run file {path} cannot be written (No space left on device): make room there"
        ]
        held.write_workers([os.getpid()])
        assert said(path)["workers"] == [[os.getpid(), ticks(os.getpid())]]
        monkeypatch.setattr(os, "pwrite", full)
        held.write_workers([])
        held.release()
    assert len(caplog.records) == 2


def test_a_removed_file_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It keeps nobody away any more, and nobody finds its holder by it."""
    with holding(path) as held:
        held.keep()
        assert not caplog.records
        path.unlink()
        held.keep()
        held.keep()
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"the run file {path} was removed: nobody finds this supervisor by its name")


def test_a_file_that_is_held_looks_young(path: Path) -> None:
    """Who clears folders of temporary files away goes by age."""
    with holding(path) as held:
        os.utime(path, (0, 0))
        held.keep()
        assert path.stat().st_mtime > 0
