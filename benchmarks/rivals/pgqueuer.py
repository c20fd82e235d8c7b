"""pgqueuer, by asyncpg. Its jobs must be coroutines; blocking work goes to a thread, as it asks for itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import django
from django.conf import settings
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks import jobs


def _place() -> dict[str, Any]:
    database = settings.DATABASES["default"]
    return {
        "host": database["HOST"],
        "port": int(database["PORT"]),
        "user": database["USER"],
        "database": database["NAME"],
    }


@asynccontextmanager
async def factory() -> AsyncIterator[PgQueuer]:
    """What `pgq run` runs."""
    django.setup()
    connection = await asyncpg.connect(**_place())
    queuer = PgQueuer(AsyncpgDriver(connection))

    @queuer.entrypoint("noop")
    async def noop(job: Any) -> None:
        jobs.noop(json.loads(job.payload))

    @queuer.entrypoint("orm")
    async def orm(job: Any) -> None:
        await asyncio.to_thread(jobs.orm, json.loads(job.payload))

    @queuer.entrypoint("moment")
    async def moment(job: Any) -> None:
        jobs.moment(json.loads(job.payload))

    yield queuer
    await connection.close()


@cache
def _loop() -> tuple[asyncio.AbstractEventLoop, Queries]:
    loop = asyncio.new_event_loop()
    return loop, Queries(AsyncpgDriver(loop.run_until_complete(asyncpg.connect(**_place()))))


def prepare() -> None:
    """Make its tables."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "database": "PGDATABASE"}
    place = {names[name]: str(value) for name, value in _place().items()}
    command = [str(Path(sys.executable).with_name("pgq")), "install"]
    subprocess.run(command, check=True, env={**os.environ, **place}, stdout=subprocess.DEVNULL)


def enqueue(kind: str, argument: float) -> None:
    """Enqueue one job."""
    loop, queries = _loop()
    loop.run_until_complete(queries.enqueue(kind, json.dumps(argument).encode(), 0))


def enqueue_many(kind: str, numbers: Sequence[int]) -> None:
    """Enqueue jobs by its bulk call."""
    loop, queries = _loop()
    payloads: list[bytes | None] = [json.dumps(number).encode() for number in numbers]
    loop.run_until_complete(queries.enqueue([kind] * len(payloads), payloads, [0] * len(payloads)))
