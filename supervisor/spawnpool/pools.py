"""The pools of a supervisor: how many workers each has, and which feeds of work they take. Pure data.

A *feed* is a name by which the source tells work from other work, such as that of a queue.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from spawnpool.errors import LimitError

DEFAULT = "default"
"""The name of the only pool where none was given a name."""
WORKERS_MAX = 1024
_PIECE_CHARS = 480  # of ASCII, so that each piece fits into one report


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Some of the workers, with work of their own.

    Args:
        name: shown in titles and in the log when there are several pools.
        workers: how many are kept alive, at least 1.
        feeds: the names of the feeds that they take; None for all that there are.
        ordered: whether an earlier feed always goes first; else all feeds are one order.
        at_once: how many workers may be busy with a feed at once, for each feed that has such a limit.

    Raises:
        LimitError: a number is out of its range.
    """

    name: str = DEFAULT
    workers: int
    feeds: tuple[str, ...] | None = None
    ordered: bool = False
    at_once: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= WORKERS_MAX:
            raise LimitError(f"workers is {self.workers}: it must lie between 1 and {WORKERS_MAX}")
        for feed, most in self.at_once.items():
            if most < 1:
                raise LimitError(f"at most {most} workers may be busy with {feed}: it must be 1 at least")


def checked(pools: Sequence[Pool]) -> tuple[Pool, ...]:
    """Return the pools of one supervisor if they can be together.

    Raises:
        LimitError: they cannot.
    """
    names = [pool.name for pool in pools]
    total = sum(pool.workers for pool in pools)
    if not pools or len(set(names)) < len(names):
        raise LimitError("a supervisor has one pool at least, each with a name of its own")
    if total > WORKERS_MAX:
        raise LimitError(f"the pools have {total} workers together: there may be {WORKERS_MAX} at most")
    return tuple(pools)


def agreed(old: Sequence[Pool], new: tuple[Pool, ...], fixed: Collection[str]) -> tuple[Pool, ...]:
    """Return the pools of new settings, with what the command line said of the only one.

    Args:
        old: the pools until now.
        new: what the settings say.
        fixed: what the command line said: "workers", "feeds", or neither.

    Raises:
        LimitError: the settings divide up by now what the command line says as a whole.
    """
    kept = {name: getattr(old[0], name) for name in ("workers", "feeds") if name in fixed}
    if not kept:
        return new
    if len(old) > 1 or len(new) > 1:
        raise LimitError("they have pools now, and the command line says how many workers there are or what they serve")
    return (replace(new[0], **kept, ordered=old[0].ordered if "feeds" in kept else new[0].ordered),)


def who(number: int, pid: int, pool: str = "") -> str:
    """Return how a worker is called in the log; `pool` is "" where there is only one."""
    return f"worker {number} ({pool}, pid {pid})" if pool else f"worker {number} (pid {pid})"


def sizes(pools: Sequence[Pool]) -> str:
    """Return how many workers each pool has, in words."""
    return ", ".join(f"{pool.name} with {pool.workers} worker{'s' * (pool.workers != 1)}" for pool in pools)


def encode(pools: Sequence[Pool]) -> list[str]:
    """Return pieces of text that `decode` understands when they are put together; each fits into a report."""
    text = json.dumps([asdict(pool) for pool in pools], separators=(",", ":"))
    return [text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS)] if pools else []


def decode(text: str) -> tuple[Pool, ...]:
    """Return the pools that a text tells of.

    Raises:
        LimitError: there cannot be such pools, or it is no such text.
    """
    try:
        pools = [
            Pool(**{**values, "feeds": None if values["feeds"] is None else tuple(values["feeds"])})
            for values in json.loads(text)
        ]
    except (TypeError, KeyError, json.JSONDecodeError) as error:
        raise LimitError(f"what a worker said of the pools cannot be read: {error}") from error
    return checked(pools)
