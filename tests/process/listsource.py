"""The work of a list pool: a `Source` whose keys stand in a list in memory and come in through a FIFO."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from spawnpool.errors import SourceUnavailable
from spawnpool.source import Taken
from spawnpool.states import Ended
from tests.process.listpool import Journal, feed_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from spawnpool.pools import Pool
    from spawnpool.source import Loss, Running

MAX_ATTEMPTS = 3


class ListSource:
    """Work in a list, fed through a FIFO; a lost key is tried again until its attempts are used up.

    An attempt counts when the job was running and no stop cut it short; one that broke its limits was the last.
    """

    def __init__(self, directory: Path, keys: Sequence[int]) -> None:
        self._directory = directory
        self._journal = Journal(directory, keep=True)
        self._keys = deque(keys)
        self._pools: dict[str, Pool] = {}
        self._claimed: set[int] = set()
        self._attempts: dict[int, int] = {}
        self._heard = False
        self._inbox = os.open(directory / "inbox", os.O_RDWR | os.O_NONBLOCK)

    title = "the list"

    def _reach(self) -> None:
        if (self._directory / "down").exists():
            raise SourceUnavailable("the list is away")

    def open(self) -> Sequence[int]:
        """Begin; the integer shows that integers reach the runner."""
        self._reach()
        self._journal.tell("open")
        return (42,)

    def serve(self, pools: Sequence[Pool]) -> None:
        """Take the pools."""
        self._journal.tell("serve", [pool.name for pool in pools])
        self._pools = {pool.name: pool for pool in pools}

    def claim(self, limit: int, pool: str, rooms: Mapping[str, int]) -> Taken:
        """Hand keys out."""
        self._reach()
        pks = self._pick(self._pools[pool], limit, dict(rooms))
        if not pks and (news := self._directory / "news_while_asked").exists():
            news.unlink()
            self._hear_while_asked()
        self._claimed.update(pks)
        self._journal.tell("claim", pks)
        if pks and (lost := self._directory / "lose_the_answer").exists():
            lost.unlink()
            raise SourceUnavailable("the list took the claim, and its answer was lost")
        return Taken(pks, {pk: feed for pk in pks if (feed := feed_of(pk)) in rooms})

    def _pick(self, pool: Pool, limit: int, rooms: dict[str, int]) -> list[int]:
        """Take the next keys off the list that a pool may have."""
        paused = self._paused_feeds()
        pks: list[int] = []
        for pk in tuple(self._keys):
            feed = feed_of(pk)
            fits = feed not in paused and (pool.feeds is None or feed in pool.feeds) and rooms.get(feed, 1) > 0
            if len(pks) < limit and fits:
                rooms[feed] = rooms.get(feed, limit) - 1
                self._keys.remove(pk)
                pks.append(pk)
        return pks

    def _paused_feeds(self) -> list[str]:
        file = self._directory / "paused"
        return file.read_text().split() if file.exists() else []

    def _hear_while_asked(self) -> None:
        """Take in the next keys within the answer to a claim, as a database's driver does with notifications."""
        while not self._heard:
            self._keys.extend(map(int, self._read_inbox().split()))
            self._heard = bool(self._keys)

    def _read_inbox(self) -> bytes:
        try:
            return os.read(self._inbox, 65536)
        except BlockingIOError:
            return b""

    def strays(self, holding: Collection[int]) -> Sequence[int]:
        """Return what was handed out and never arrived."""
        self._reach()
        pks = sorted(self._claimed - self._journal.done() - set(holding))
        self._journal.tell("strays", pks)
        return pks

    def release(self, pks: Sequence[int]) -> None:
        """Take unstarted keys back, uncounted."""
        self._reach()
        self._journal.tell("release", list(pks))
        assert self._claimed.issuperset(pks), f"{pks} are released and not claimed"
        self._claimed.difference_update(pks)
        self._keys.extendleft(reversed(pks))

    def running(self, mark: Running) -> None:
        """Note what runs for long."""
        self._journal.tell("running", mark.pk, mark.pid, mark.for_s)

    def lost(self, losses: Sequence[Loss]) -> Mapping[int, str]:
        """Account for keys that were begun and not settled."""
        self._reach()
        for loss in losses:
            assert loss.pk in self._claimed, f"{loss.pk} is lost and not claimed"
            self._claimed.remove(loss.pk)
            counts = loss.ended is not Ended.STOPPED and loss.ran_s is not None
            self._attempts[loss.pk] = self._attempts.get(loss.pk, 0) + counts
            done = loss.pk in self._journal.done()
            again = not done and not loss.ended.by_a_limit and self._attempts[loss.pk] < MAX_ATTEMPTS
            if again:
                self._keys.append(loss.pk)
            fate = "done" if done else "again" if again else "failed"
            self._journal.tell("account", loss.pk, loss.tell(f"key {loss.pk}"))
            self._journal.tell("lost", loss.pk, loss.words, loss.ran_s, loss.ended.value, loss.pid, fate)
        return {loss.pk: f"key {loss.pk}" for loss in losses}

    def beat(self, state: str) -> None:
        """Note that the supervisor lives."""
        self._reach()
        self._journal.tell("beat", state)

    def recover(self) -> None:
        """There is nobody else."""

    def cancelled(self) -> Sequence[int]:
        """Return the keys that were written to the file `cancelled` since the last look."""
        file = self._directory / "cancelled"
        if not file.exists():
            return ()
        pks = [int(line) for line in file.read_text().split()]
        file.unlink()
        self._journal.tell("cancelled", pks)
        return pks

    def paused(self) -> Sequence[int]:
        """Return what was handed out of the feeds that the file `paused` names."""
        paused = self._paused_feeds()
        return [pk for pk in self._claimed if feed_of(pk) in paused] if paused else []

    def backlog(self) -> int:
        """Return how many keys wait."""
        return len(self._keys)

    def next_due_s(self) -> None:
        """Nothing waits for its time here."""

    def is_empty(self) -> bool:
        """Nothing waits and everything that was claimed is recorded."""
        return not self._keys and self._claimed <= self._journal.done()

    def wakeup_fd(self) -> int | None:
        """Return the FIFO."""
        return self._inbox

    def woken(self) -> bool:
        """Take in the keys that were written to the FIFO."""
        data, heard, self._heard = self._read_inbox(), self._heard, False
        self._keys.extend(map(int, data.split()))
        return heard or bool(data)

    def before_check(self) -> None:
        """Note that everything would be closed now."""
        self._journal.tell("before_check")

    def close(self, *, finished: bool) -> None:
        """End."""
        self._journal.tell("close", finished)
        os.close(self._inbox)
