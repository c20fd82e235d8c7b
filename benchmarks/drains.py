"""Queues that are full at the beginning: how fast they are emptied, on which database, beside what else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from benchmarks.contender import Contender
from benchmarks.crowd import together
from benchmarks.world import Figures, World


def drain(world: World, jobs: int) -> Figures:
    """Jobs that do nothing and wait in the queue, by two workers; beside them two plain loops of one claim per job."""
    ours = world.jobsup.drain("noop", jobs).rate
    plain = {"two plain loops": {"per_s": plain_loops(max(20, jobs // 20))}}
    return compared(ours, plain | world.beside(lambda rival: _rate(rival, "noop", min(jobs, rival.rival.noop))))


def orm(world: World, jobs: int) -> Figures:
    """Jobs of one read and one write by the ORM, each durable, ordinary and atomic; beside two loops of just that."""
    ours = world.jobsup
    rates = [ours.drain(kind, jobs).rate for kind in ("orm", "orm_atomic")]
    others = {"jobsup, atomic": {"per_s": rates[1]}, "two bare loops": {"per_s": bare_loops(jobs)}}
    return compared(rates[0], others | world.beside(lambda rival: _rate(rival, "orm", min(jobs, rival.rival.orm))))


def sqlite(world: World, jobs: int) -> Figures:
    """The drain of jobs that do nothing, on a file of SQLite."""
    return {"jobsup": {"per_s": world.on_sqlite().drain("noop", jobs).rate}}


def mariadb(world: World, jobs: int) -> Figures:
    """The drain of jobs that do nothing, on MariaDB."""
    return {"jobsup": {"per_s": world.on_mariadb().drain("noop", jobs).rate}}


def backlog(world: World, jobs: int, drained: int) -> Figures:
    """Some of many ready jobs, and as many that nothing waits behind."""
    many = world.jobsup_on("backlog")
    many.side("have_ready", jobs + drained)
    return _shared(f"{jobs:,} ready jobs behind", _some(many, drained), world.jobsup.drain("noop", drained).rate)


def finished(world: World, jobs: int, drained: int) -> Figures:
    """Some jobs beside many that have ended, and as many alone."""
    many = world.jobsup_on("finished")
    many.side("have_finished", jobs)
    many.side("load", "noop", drained)
    return _shared(f"{jobs:,} finished jobs beside", _some(many, drained), world.jobsup.drain("noop", drained).rate)


def held(world: World, jobs: int) -> Figures:
    """A drain beside a transaction left open, and of that the last tenth; and a drain without."""
    ours = world.jobsup
    calm = ours.drain("noop", jobs).rate
    ours.side("fill", "noop", jobs)
    with old_transaction(), ours.working():
        ours.wait(jobs)
    ours.side("check", "noop", jobs)
    found = ours.drained(jobs)
    figures = _shared("beside a transaction left open, the last tenth", found.part(0.9), calm)
    return figures | {"beside a transaction left open": {"per_s": found.rate}}


def compared(ours: float, others: Mapping[str, Mapping[str, float]]) -> Figures:
    """Return rates with how many times as fast jobsup is as each of the others."""
    return {
        "jobsup": {"per_s": ours},
        **{name: {**figures, "ratio": ours / figures["per_s"]} for name, figures in others.items()},
    }


def plain_loops(jobs: int) -> float:
    """Return the rate of two processes that claim one row, do nothing and finish it: the usual task table."""
    from benchmarks import tasks
    from benchmarks.tables import clear

    clear()
    tasks.nothing.enqueue_many(() for _ in range(jobs))
    crowd = together(_plain_loop, range(2))
    assert sum(each.answer for each in crowd.done) == jobs
    return jobs / crowd.took_s


def bare_loops(jobs: int) -> float:
    """Return the rate of two processes that do nothing but read and write by the ORM."""
    return jobs / together(_bare_loop, [range(first, jobs, 2) for first in range(2)]).took_s


@contextmanager
def old_transaction() -> Iterator[None]:
    """Leave a transaction open that has looked at something."""
    from django.db import connection

    with closing(connection.copy()) as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT 1 FROM jobsup_queue")
        yield


def _rate(contender: Contender, kind: str, jobs: int) -> dict[str, float]:
    return {"per_s": contender.drain(kind, jobs).rate}


def _some(contender: Contender, jobs: int) -> float:
    """Return the rate at which the first jobs of its queue are done."""
    with contender.working():
        contender.wait(jobs)
    return contender.drained(jobs).rate


def _shared(name: str, rate: float, undisturbed: float) -> Figures:
    return {"undisturbed": {"per_s": undisturbed}, name: {"per_s": rate, "share": rate / undisturbed}}


def _plain_loop(_index: int) -> int:
    from django.db import connection

    claim = """
        UPDATE jobsup_job SET status = 2 WHERE id = (
            SELECT id FROM jobsup_job WHERE status = 0 AND queue = 'default' ORDER BY priority DESC, id
            LIMIT 1 FOR UPDATE SKIP LOCKED
        ) RETURNING id
    """
    done = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(claim)
            if (row := cursor.fetchone()) is None:
                return done
            cursor.execute("UPDATE jobsup_job SET status = 3, finished_at = now() WHERE id = %s", row)
            done += 1


def _bare_loop(numbers: range) -> None:
    from benchmarks.accounts import raise_by_one

    for number in numbers:
        raise_by_one(number)
