"""The file of what has begun: what it tells of a run that ended without a word, and when it tells nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spawnpool.begun import PAGE_BYTES, SLOTS, BegunFile, Notes, begun

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BegunFile]:
    """The file of a run of this process."""
    made = BegunFile(tmp_path / "run.begun-7")
    yield made
    made.close(remove=True)


def told(file: BegunFile) -> set[int] | None:
    """Return what a successor learns."""
    assert file.path is not None
    found = begun(file.path, os.getpid())
    return None if found is None else set(found)


def test_it_tells_what_has_begun_and_is_not_recorded(file: BegunFile) -> None:
    """Of every worker, whatever was recorded before, over the end of the page and on."""
    first, second = Notes(file.page(owes=False)), Notes(file.page(owes=False))
    for key in range(1, 3 * SLOTS):
        first.begin(key)
        if key % 700 == 0:
            first.settle(key)
    first.settle(10**9)  # of a key that is not noted nothing is struck out
    second.begin(10**12)
    last = 3 * SLOTS - 1
    assert told(file) == {10**12, *range(last // 700 * 700 + 1, last + 1)}
    first.settle(last)
    assert told(file) == {10**12}


def test_the_page_of_a_dead_worker_stays_until_the_source_knows_what_became_of_its_keys(file: BegunFile) -> None:
    """Then it is the next one's, empty."""
    page = file.page(owes=False)
    Notes(page).begin(5)
    file.retire(page)
    Notes(file.page(owes=True)).begin(6)
    assert told(file) == {5, 6}
    again = file.page(owes=False)
    assert again == page
    assert told(file) == {6}


def test_what_a_killed_process_noted_is_there(file: BegunFile, tmp_path: Path) -> None:
    """Written by a process that is killed in the same breath."""
    page = file.page(owes=False)
    assert page is not None
    program = (
        "import os, sys\nfrom multiprocessing.connection import Connection\nfrom spawnpool.begun import Notes\n"
        "Notes((Connection(int(sys.argv[1])), int(sys.argv[2]))).begin(77)\nos.kill(os.getpid(), 9)"
    )
    fd = os.dup(page[0].fileno())
    done = subprocess.run(
        [sys.executable, "-c", program, str(fd), str(page[1])],
        pass_fds=[fd], check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(fd)
    assert done.returncode == -9
    assert told(file) == {77}


def test_it_says_nothing_of_another_run_nor_of_another_boot(
    file: BegunFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where it is missing, cut short, a folder, a link or somebody else's."""
    assert file.path is not None
    Notes(file.page(owes=False)).begin(1)
    assert begun(file.path, os.getpid() + 1) is None
    link, short = tmp_path / "link", tmp_path / "short"
    link.symlink_to(file.path)
    short.write_bytes(file.path.read_bytes()[:20])
    assert [begun(path, os.getpid()) for path in (tmp_path / "missing", tmp_path, link, short)] == [None] * 4
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        assert told(file) is None
    with monkeypatch.context() as patch:
        patch.setattr("spawnpool.begun._boot_id", lambda: bytes(16))
        assert told(file) is None
    assert told(file) == {1}


def test_f15_where_there_is_no_room_workers_do_without_and_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From the first worker that has no page on, what never began cannot be known. Said once."""
    file = BegunFile(tmp_path / "file")
    Notes(file.page(owes=False)).begin(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        assert file.page(owes=False) is None
        assert file.page(owes=False) is None
    notes = Notes(None)
    notes.begin(2)
    notes.settle(2)
    assert told(file) is None
    assert caplog.text.count("cannot be written (No space left on device): should this supervisor be killed, ") == 1
    file.close(remove=True)
    nowhere = BegunFile(tmp_path / "no folder" / "file")
    assert nowhere.page(owes=False) is None
    nowhere.keep()
    nowhere.close(remove=True)


def test_a_supervisor_without_a_file_hands_out_no_pages() -> None:
    """As where nobody could read it."""
    file = BegunFile()
    assert file.page(owes=False) is None
    file.retire(None)
    file.close(remove=True)


def test_a_page_has_room_for_whatever_may_wait_before_a_worker() -> None:
    """The limit of the limit."""
    from spawnpool.errors import LimitError
    from spawnpool.limits import Limits

    with pytest.raises(LimitError):
        Limits(window_max=SLOTS)
    assert SLOTS * 8 == PAGE_BYTES
    assert PAGE_BYTES % os.sysconf("SC_PAGE_SIZE") == 0


def no_room(*_arguments: int) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
