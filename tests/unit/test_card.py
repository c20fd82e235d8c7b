"""The page that a supervisor and one worker share, and what faulthandler leaves behind it."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from spawnpool.bounds import Interrupt
from spawnpool.card import Card, WorkerCard, place_of, stack_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FATAL = """Fatal Python error: Aborted

Thread 0x00007f01 [recorder] (most recent call first):
  File "/usr/lib/python3.13/threading.py", line 359 in wait
  File "/usr/lib/python3.13/threading.py", line 1012 in run

Current thread 0x00007f02 [MainThread] (most recent call first):
  File "/srv/shop/tasks.py", line 12 in analyse
  File "/srv/shop/tasks.py", line 40 in report
  File "/venv/spawnpool/worker.py", line 215 in _play
  File "/venv/spawnpool/worker.py", line 140 in main

Extension modules: psycopg2._psycopg (total: 1)
"""


@pytest.fixture
def card() -> Iterator[Card]:
    """A card of its own."""
    made = Card()
    yield made
    made.close()


def test_what_is_written_is_read(card: Card) -> None:
    """The key, the reason and how often the log was reopened; each without touching the others."""
    worker = WorkerCard(card.worker_end())
    assert worker.read() == (0, Interrupt.NONE, 0)
    card.write(-(2**63), Interrupt.TIMEOUT)
    card.log_reopened()
    assert worker.read() == (-(2**63), Interrupt.TIMEOUT, 1)
    card.write(2**63 - 1, Interrupt.CANCEL)
    assert worker.read() == (2**63 - 1, Interrupt.CANCEL, 1)


def test_a_new_key_is_never_seen_with_an_old_reason(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker may look at any moment: each step changes the key or the reason, never both."""
    worker = WorkerCard(card.worker_end())
    card.write(5, Interrupt.CANCEL)
    steps = [worker.read()[:2]]

    class Layout(struct.Struct):
        """Looks after each write, as the worker might."""

        def pack_into(self, *arguments: Any) -> None:
            super().pack_into(*arguments)
            steps.append(worker.read()[:2])

    monkeypatch.setattr("spawnpool.card._LAYOUT", Layout("<qII"))
    card.write(7, Interrupt.TIMEOUT)
    assert steps[-1] == (7, Interrupt.TIMEOUT)
    assert all(before[0] == after[0] or before[1] == after[1] for before, after in pairwise(steps)), steps


def test_a_worker_cannot_write_on_it(card: Card) -> None:
    """Only the supervisor decides which job is interrupted."""
    worker = WorkerCard(card.worker_end())
    with pytest.raises(TypeError, match="readonly"):
        worker._page[0] = 1


def test_the_latest_begin_is_read_with_its_moment(card: Card) -> None:
    """Each new one takes the place of the one before."""
    worker = WorkerCard(card.worker_end())
    assert card.begin() is None
    for count, key in enumerate((2**63 - 1, -(2**63), 7), start=1):
        before = time.monotonic()
        assert worker.begin(key) == count
        begin = card.begin()
        assert begin is not None
        assert (begin.number, begin.key) == (count, key)
        assert before <= begin.at <= time.monotonic()


def test_a_begin_that_is_being_written_is_not_read(card: Card) -> None:
    """The supervisor may look at any moment: never at a new key with an old moment."""
    worker = WorkerCard(card.worker_end())
    worker.begin(5)
    seen = []

    class Words:
        """Looks after each write, as the supervisor might."""

        def __setitem__(self, at: int, value: int) -> None:
            words[at] = value
            seen.append(card.begin())

    words: Any = worker._words
    worker._words = Words()  # type: ignore[assignment]
    worker.begin(7)
    assert seen[:-1] == [None, None]
    assert seen[-1] is not None
    assert seen[-1].key == 7


def test_a_worker_that_lives_leaves_no_last_words(card: Card) -> None:
    """And the pages themselves are none of them."""
    card.write(5, Interrupt.CANCEL)
    assert card.last_words() == ""
    assert os.fstat(card.worker_end().fileno()).st_size == 2 * mmap.PAGESIZE


def test_fault_19_a_process_that_is_aborted_says_on_its_card_where_it_was(card: Card) -> None:
    """A real SIGABRT in a real process that hangs; the stack ends at the worker's own frames."""
    program = textwrap.dedent("""
        import faulthandler, os, sys, threading, time
        from multiprocessing.connection import Connection
        from spawnpool.card import WorkerCard

        card = WorkerCard(Connection(int(sys.argv[1])))
        faulthandler.enable(card.fileno())
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

        def hang():
            print("hangs", flush=True)
            time.sleep(60)

        hang()
    """)
    fd = card.worker_end().fileno()
    with subprocess.Popen(
        [sys.executable, "-c", program, str(fd)],
        pass_fds=[fd],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        process.send_signal(signal.SIGABRT)
        assert process.wait(60) == -signal.SIGABRT
    stack = stack_of(card.last_words())
    assert stack.splitlines()[0].endswith(" in hang")
    assert place_of(stack).startswith("<string>:")


def test_the_stack_is_that_of_the_thread_that_was_hit_without_our_own_frames() -> None:
    """Other threads and the worker's loop say nothing about the job."""
    assert stack_of(FATAL) == (
        '  File "/srv/shop/tasks.py", line 12 in analyse\n  File "/srv/shop/tasks.py", line 40 in report'
    )
    assert place_of(stack_of(FATAL)) == "/srv/shop/tasks.py:12 in analyse"


@pytest.mark.parametrize("crashes", [2, 500])
def test_only_the_last_crash_is_told(card: Card, crashes: int) -> None:
    """Children that a job forked crash on the same card; thousands of lines before say nothing about the worker."""
    fd = WorkerCard(card.worker_end()).fileno()
    for _ in range(crashes - 1):
        os.write(fd, FATAL.replace("analyse", "child").encode())
    os.write(fd, FATAL.encode())
    assert card.last_words() == FATAL


@pytest.mark.parametrize(
    ("words", "stack"),
    [
        ("", ""),
        ("Fatal Python error: Segmentation fault\n\n<no Python frame>\n", ""),
        ("Current thread 0x1 (most recent call first):\n", ""),
        ('Current thread 0x1 (most recent call first):\n  File "/v/spawnpool/worker.py", line 9 in main\n', ""),
        ('Stack (most recent call first):\n  File "a.py", line 1 in f\n', '  File "a.py", line 1 in f'),
        ('Thread 0x1 (most recent call first):\n  File "a.py", line 1 in f\n', '  File "a.py", line 1 in f'),
        ("\ufffd\ufffd garbage", ""),
    ],
)
def test_words_that_say_little_give_no_more_than_that(words: str, stack: str) -> None:
    """Cut off, empty, or something else altogether."""
    assert stack_of(words) == stack
    assert bool(place_of(stack)) == bool(stack)


def test_an_endless_stack_is_cut() -> None:
    """A recursion fills pages."""
    words = "Current thread 0x1 (most recent call first):\n" + '  File "a.py", line 1 in f\n' * 500
    assert len(stack_of(words).splitlines()) == 40
