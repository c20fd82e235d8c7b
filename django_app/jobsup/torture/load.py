"""The load: jobs are enqueued one by one, as an application would, by a thread with its own connection."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from jobsup.torture.plan import Order
from jobsup.torture.tasks import TASKS


class Load(threading.Thread):
    """Enqueues jobs and keeps what it was told of them.

    Args:
        orders: the jobs.
        count: how many they are.
        seconds: over which time they are spread.
    """

    def __init__(self, orders: Iterable[Order], count: int, seconds: float) -> None:
        super().__init__(name="load", daemon=True)
        self._orders, self._count, self._every_s = orders, count, seconds / count
        self._ended = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.acknowledged: dict[int, str] = {}
        """The kinds of the jobs whose enqueue has returned, by their keys."""
        self.joined = 0
        """How often an enqueue returned a job that was there already, for its key."""
        self.refused: Counter[str] = Counter()
        """The enqueues that failed, by their errors: what an application would be told."""
        self.share = 0.0
        """How far it has come, 0 to 1."""
        self.failure: BaseException | None = None

    def end(self) -> None:
        """Enqueue nothing more."""
        self._ended.set()
        self.may_go_on.set()

    def run(self) -> None:
        """Enqueue them all, each in its time."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            self.failure = error
        finally:
            connection.close()

    def _run(self) -> None:
        due_s = time.monotonic()
        for order in self._orders:
            self.share = order.number / self._count
            self.may_go_on.wait()
            due_s = max(due_s + self._every_s, time.monotonic() - 1)  # what was held up is made up for in part
            if self._ended.wait(max(0.0, due_s - time.monotonic())):
                return
            try:
                self._enqueue(order)
            except (DatabaseError, InterfaceError) as error:
                self.refused[type(error).__name__] += 1
                _close()

    def _enqueue(self, order: Order) -> None:
        task = TASKS[order.kind].using(queue_name=order.queue, priority=order.priority)
        if order.after_s:
            task = task.using(run_after=timezone.now() + timedelta(seconds=order.after_s))
        if order.kind == "rolled_back":
            with transaction.atomic():
                task.enqueue(order.takes_s)
                transaction.set_rollback(True)
            return
        arguments = [order.takes_s, *([order.key] if order.kind == "unique" else [])]
        pk = int(task.enqueue(*arguments).id)
        self.joined += pk in self.acknowledged
        self.acknowledged[pk] = order.kind


def _close() -> None:
    """Have the next statement begin a new session."""
    try:
        connection.close()
    except (DatabaseError, InterfaceError):
        connection.connection = None
