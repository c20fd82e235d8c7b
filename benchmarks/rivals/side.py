"""What is done in a contender's own environment: make its tables, fill its queue, and time its calls.

`python -m benchmarks.rivals.side COMMAND [ARGUMENT ...]`; BENCH_ADAPTER names the module that knows how. The last line
that it prints is its answer, in JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import django

AT_ONCE = 5000
"""How many jobs one call of a bulk API gets while a queue is filled."""
KEPT = {"django_migrations", "django_content_type", "benchmarks_account"}
"""The tables that are not emptied."""


class Side:
    """The commands, by the names of their methods; their arguments are numbers and names. An adapter may have more.

    Args:
        adapter: has `enqueue(kind, argument)` and, where there is such a thing, `enqueue_many(kind, numbers)`,
            `prepare()` and `check(jobs)`.
    """

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def prepare(self) -> None:
        """Make all tables, in an empty database."""
        from django.core.management import call_command

        from benchmarks.accounts import make_accounts

        call_command("migrate", verbosity=0)
        make_accounts()
        if hasattr(self._adapter, "prepare"):
            self._adapter.prepare()

    def clear(self) -> None:
        """Empty the queue and its history, and set all accounts to 0."""
        from django.conf import settings
        from django.core.management.color import no_style
        from django.db import connection

        from benchmarks.accounts import Account

        Account.objects.update(balance=0)
        if tables := sorted(set(connection.introspection.table_names()) - KEPT):
            connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables, allow_cascade=True))
        if address := getattr(settings, "BENCH_REDIS", ""):
            import redis

            redis.Redis.from_url(address).flushdb()

    def fill(self, kind: str, jobs: int) -> None:
        """Put jobs into the queue, which is empty before."""
        self.clear()
        self.load(kind, jobs)

    def load(self, kind: str, jobs: int) -> None:
        """Put jobs into the queue, as fast as that goes."""
        from django.db import transaction

        for begin in range(0, jobs, AT_ONCE):
            numbers = range(begin, min(begin + AT_ONCE, jobs))
            if hasattr(self._adapter, "enqueue_many"):
                self._adapter.enqueue_many(kind, numbers)
                continue
            with transaction.atomic():
                for number in numbers:
                    self._adapter.enqueue(kind, number)

    def check(self, kind: str, jobs: int) -> None:
        """Fail unless so many jobs have done what they are for."""
        from benchmarks.accounts import raised

        if kind.startswith("orm") and (total := raised()) != jobs:
            raise AssertionError(f"{jobs} jobs have raised the accounts by {total}")
        if hasattr(self._adapter, "check"):
            self._adapter.check(jobs)

    def bulk(self, jobs: int) -> float:
        """Return how many jobs a second one bulk call takes in, its commit included."""
        self._adapter.enqueue_many("noop", range(20))  # connections and caches are warm
        begun = time.perf_counter()
        self._adapter.enqueue_many("noop", range(jobs))
        return jobs / (time.perf_counter() - begun)

    def moments(self, jobs: int, per_s: int) -> None:
        """Enqueue jobs at a steady pace, after one for the warm-up; each is told when its call began."""
        self._adapter.enqueue("moment", -1.0)
        time.sleep(1)
        begun = time.time()
        for number in range(jobs):
            time.sleep(max(0.0, begun + number / per_s - time.time()))
            self._adapter.enqueue("moment", time.time())

    def feed(self, per_s: float, seconds: float) -> int:
        """Enqueue so many jobs a second by the bulk call, some of them every 20 ms; return how many there were."""
        begun, given = time.perf_counter(), 0
        while (passed := time.perf_counter() - begun) < seconds:
            if (due := int(passed * per_s)) > given:
                self._adapter.enqueue_many("noop", range(given, due))
                given = due
            time.sleep(0.02)
        return given

    def versions(self, *packages: str) -> dict[str, str]:
        """Return the versions of packages."""
        return {"django": django.get_version(), **{name: version(name) for name in packages}}


def main() -> None:
    """Do what the command line says."""
    django.setup()
    name, *arguments = sys.argv[1:]
    adapter = import_module(f"benchmarks.rivals.{os.environ['BENCH_ADAPTER']}")
    side = Side(adapter)
    command: Callable[..., Any] = getattr(side, name, None) or getattr(adapter, name)
    print(json.dumps(command(*map(_number, arguments))))


def _number(text: str) -> float | str:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
