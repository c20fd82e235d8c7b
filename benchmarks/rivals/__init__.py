"""Whom jobsup is measured beside: what to install, which settings, which workers. One module each says the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

REDIS = "{redis}"
"""Stands in settings for the address of the Redis server."""

DJANGO = ("python", "-m", "django")
POSTGRESQL = "psycopg[binary]==3.3.9"
"""What Django talks to PostgreSQL with, in the environment of every rival."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One way to run one rival.

    Args:
        name: as it stands in tables and pictures.
        adapter: its module in this package.
        requirements: what to install beside Django and `POSTGRESQL`, in pinned versions.
        workers: the commands that run two worker processes, or the nearest there is; programs of its environment.
        apps: what its users add to INSTALLED_APPS.
        settings: what else they set, by name; `REDIS` stands for the server's address.
        noop: how many jobs that do nothing a drain has: some seconds' worth.
        orm: the same of jobs that read and write.
        bulk: whether it has a call that enqueues many jobs.
        tuned: whether this is not how it comes.
    """

    name: str
    adapter: str
    requirements: tuple[str, ...]
    workers: tuple[tuple[str, ...], ...]
    apps: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    noop: int = 10_000
    orm: int = 4_000
    bulk: bool = False
    tuned: bool = False

    @property
    def needs_redis(self) -> bool:
        """Whether it keeps its jobs in Redis."""
        return REDIS in str(self.settings)

    def configured(self, redis: str) -> dict[str, Any]:
        """Return its settings with the address of the Redis server."""
        return {name: _filled(value, redis) for name, value in self.settings.items()}


def _filled(value: Any, redis: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _filled(each, redis) for name, each in value.items()}
    return value.replace(REDIS, redis) if isinstance(value, str) else value


def _tasks(backend: str, **options: Any) -> dict[str, Any]:
    return {"TASKS": {"default": {"BACKEND": backend, **options}}}


PGQUEUER = ("pgqueuer==1.6.0", "asyncpg==0.32.0", "typer==0.21.0")  # its command fails with later versions of typer
PGQ_RUN = ("pgq", "run", "benchmarks.rivals.pgqueuer:factory")

RIVALS = (
    Rival(name="pgqueuer", adapter="pgqueuer", requirements=PGQUEUER, workers=(PGQ_RUN,) * 2, orm=10_000, bulk=True),
    Rival(
        name="pgqueuer (batches of 100)",
        adapter="pgqueuer",
        requirements=PGQUEUER,
        workers=((*PGQ_RUN, "--batch-size", "100"),) * 2,
        noop=40_000,
        orm=10_000,
        tuned=True,
    ),
    Rival(
        name="procrastinate",
        adapter="procrastinate",
        requirements=("procrastinate[django]==3.10.0",),
        workers=((*DJANGO, "procrastinate", "worker"),) * 2,
        apps=("procrastinate.contrib.django",),
        noop=5_000,
        bulk=True,
    ),
    Rival(
        name="django-tasks-db",
        adapter="django_tasks_db",
        requirements=("django-tasks-db==0.13.0",),
        workers=((*DJANGO, "db_worker"),) * 2,
        apps=("django_tasks_db",),
        settings=_tasks("django_tasks_db.DatabaseBackend"),
        noop=5_000,
    ),
    Rival(
        name="django-ox",
        adapter="django_ox",
        requirements=("django-ox==1.9.1",),
        workers=((*DJANGO, "ox_worker", "--processes", "2", "-v", "0"),),
        apps=("django_ox",),
        settings=_tasks("django_ox.backend.OxBackend"),
        noop=5_000,
        bulk=True,
    ),
    Rival(
        name="dj-queue",
        adapter="dj_queue",
        requirements=("dj-queue==0.14.2",),
        workers=((*DJANGO, "dj_queue"),),
        apps=("dj_queue",),
        settings={
            "DATABASE_ROUTERS": ["dj_queue.routers.DjQueueRouter"],
            **_tasks(
                "dj_queue.backend.DjQueueBackend", QUEUES=[], OPTIONS={"workers": [{"queues": "*", "processes": 2}]}
            ),
        },
        noop=5_000,
        bulk=True,
    ),
    Rival(
        name="django-q2",
        adapter="django_q2",
        requirements=("django-q2==1.11.1",),
        workers=((*DJANGO, "qcluster"),),
        apps=("django_q",),
        settings={"Q_CLUSTER": {"name": "bench", "workers": 2, "orm": "default"}},
        noop=2_000,
        orm=2_000,
    ),
    Rival(
        name="Celery (Redis)",
        adapter="celery",
        requirements=("celery[redis]==5.7.0",),
        workers=(("celery", "-A", "benchmarks.rivals.celery", "worker", "-P", "prefork", "-c", "2"),),
        settings={"BENCH_REDIS": REDIS},
        orm=2_000,
    ),
    Rival(
        name="dramatiq (Redis)",
        adapter="dramatiq",
        requirements=("dramatiq[redis]==2.2.1", "django-dramatiq==0.15.0"),
        workers=((*DJANGO, "rundramatiq", "-p", "2"),),
        apps=("django_dramatiq",),
        settings={
            "BENCH_REDIS": REDIS,
            "DRAMATIQ_BROKER": {
                "BROKER": "dramatiq.brokers.redis.RedisBroker",
                "OPTIONS": {"url": REDIS},
                "MIDDLEWARE": [
                    "dramatiq.middleware.AgeLimit",
                    "dramatiq.middleware.TimeLimit",
                    "dramatiq.middleware.Callbacks",
                    "dramatiq.middleware.Retries",
                    "django_dramatiq.middleware.DbConnectionsMiddleware",
                ],
            },
        },
    ),
    Rival(
        name="huey (Redis)",
        adapter="huey",
        requirements=("huey==3.5.4", "redis==8.1.0"),
        workers=((*DJANGO, "run_huey"),),
        apps=("huey.contrib.djhuey",),
        settings={
            "BENCH_REDIS": REDIS,
            "HUEY": {
                "name": "bench",
                "huey_class": "huey.RedisHuey",
                "immediate": False,
                "url": REDIS,
                "consumer": {"workers": 2, "worker_type": "process"},
            },
        },
        orm=5_000,
    ),
)

JOBSUP = Rival(
    name="jobsup",
    adapter="jobsup",
    requirements=(),
    workers=((*DJANGO, "jobsupervisor"),),
    apps=("jobsup", *(() if find_spec("django.tasks") else ("django_tasks",))),
    settings=_tasks("jobsup.backend.JobsupBackend"),
    bulk=True,
)
"""With its default settings, of which two workers are one."""
