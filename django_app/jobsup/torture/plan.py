"""What is going to happen: which jobs are enqueued and which faults strike, all of it drawn from one seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

SUPERVISORS = 2
LEASE_S = 6.0
"""Short enough that a supervisor can be silent for longer than that in a test of a minute."""
GRACE_S = 5.0
MAX_ATTEMPTS = 60
"""Of jobs that are to be successful in the end: far more than faults can hit one job."""
BACKOFF_S = 0.2
"""Between two attempts of every job here, so that the delay can be told apart from the time that recovery takes."""
FAILING_ATTEMPTS = 3
QUEUES = ("default", "more", "other")
UNIQUE_KEYS = 40

KINDS: Mapping[str, float] = {
    "short": 58, "long": 1, "failing": 4, "recovering": 6, "atomic": 12, "coroutine": 4, "unique": 6, "scheduled": 6,
    "rolled_back": 2, "deadly": 0.1,
}  # fmt: skip
"""The kinds of jobs, and how many of a hundred are of each."""


class Fault(NamedTuple):
    """A kind of fault.

    Args:
        weight: how often it strikes, beside the others.
        words: what it is, in the tables.
        for_s: how long it lasts, the shortest and the longest.
        wide: whether it stops more than one worker: what is measured meanwhile is no measure of anything else.
    """

    weight: float
    words: str
    for_s: tuple[float, float] = (0.0, 0.0)
    wide: bool = True


FAULTS: Mapping[str, Fault] = {
    "kill-worker": Fault(40, "kill -9 of a worker", wide=False),
    "freeze-worker": Fault(12, "a worker stopped for a while (SIGSTOP)", (0.1, 2.0), wide=False),
    "kill-supervisor": Fault(12, "kill -9 of a supervisor, started again at once"),
    "freeze-supervisor": Fault(5, "a supervisor stopped for less than its lease", (0.3, 3.0)),
    "silence-supervisor": Fault(1, "a supervisor stopped for longer than its lease", (1.2 * LEASE_S, 1.6 * LEASE_S)),
    "deploy": Fault(4, "TERM to a supervisor, started again when it has drained"),
    "reload": Fault(5, "HUP to a supervisor"),
    "end-session": Fault(15, "a session ended by the server", wide=False),
    "lock-table": Fault(3, "the table of jobs locked by somebody else", (0.2, 1.5)),
    "clock": Fault(3, "the clock of a supervisor and its workers set by up to a day", wide=False),
    "restart-database": Fault(1, "the database restarted by the command that was given"),
}
OWN = Fault(1, "")
"""A fault that somebody else has made: its name says what it is."""


class Order(NamedTuple):
    """One job to be enqueued.

    Args:
        number: counted from 1.
        kind: one of `KINDS`.
        takes_s: how long its function takes, in seconds.
        after_s: how long it is to wait first.
        key: what makes it unique, where its kind is.
    """

    number: int
    kind: str
    queue: str
    priority: int
    takes_s: float
    after_s: float
    key: int


class Strike(NamedTuple):
    """One fault to come.

    Args:
        at: when, as the share of the jobs that are enqueued before, 0 to 1.
        kind: one of `FAULTS`, or the name of one of somebody's own.
        whom: which of those it can hit, as a share of the list of them, 0 up to 1.
        for_s: how long it lasts, in seconds.
        by: a number from -1 to 1, for what is set off by some amount.
    """

    at: float
    kind: str
    whom: float
    for_s: float
    by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is to happen.

    Args:
        jobs: how many are enqueued.
        faults: how many strike.
        seconds: over which time they are spread; it takes longer where the machine is not fast enough.
        seed: what all choices follow from.
        workers: how many each of the supervisors has.
        only: the kinds of faults that strike; empty for all that are possible.
    """

    jobs: int
    faults: int
    seconds: float
    seed: int
    workers: int
    only: tuple[str, ...] = ()


def orders(plan: Plan, kinds: Collection[str]) -> Iterator[Order]:
    """Yield the jobs in the order in which they are enqueued.

    Args:
        plan: how many, and the seed.
        kinds: which of `KINDS` there are to be.
    """
    chance = random.Random(f"jobs {plan.seed}")  # noqa: S311  # no secret
    names = [name for name in KINDS if name in kinds]
    drawn = chance.choices(names, [KINDS[name] for name in names], k=plan.jobs)
    for number, kind in zip(count(1), drawn, strict=False):
        yield Order(
            number,
            kind,
            chance.choice(QUEUES),
            chance.choice((-10, 0, 0, 0, 10)),
            chance.uniform(0.2, 1.0) if kind == "long" else chance.uniform(0.0, 0.006),
            chance.uniform(0.2, 3.0) if kind == "scheduled" else 0.0,
            chance.randrange(UNIQUE_KEYS),
        )


def strikes(plan: Plan, possible: Sequence[str]) -> list[Strike]:
    """Return the faults in their order: each kind once at least, as far as they go, the others by their weights.

    Args:
        plan: how many, and the seed.
        possible: the kinds that can be had here, in a fixed order.
    """
    chance = random.Random(f"faults {plan.seed}")  # noqa: S311  # no secret
    once = sorted(possible, key=lambda kind: -fault(kind).weight)[: plan.faults]
    more = plan.faults - len(once)
    kinds = once + (chance.choices(possible, [fault(kind).weight for kind in possible], k=more) if more else [])
    chance.shuffle(kinds)
    return [
        Strike(
            (place + chance.random()) / len(kinds),
            kind,
            chance.random(),
            chance.uniform(*fault(kind).for_s),
            chance.uniform(-1, 1),
        )
        for place, kind in enumerate(kinds)
    ]


def fault(kind: str) -> Fault:
    """Return what is known of a kind of fault."""
    return FAULTS.get(kind, OWN)
