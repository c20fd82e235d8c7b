"""The state of a supervisor as data, for whoever asks on the control socket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from spawnpool.hands import Hands
from spawnpool.machine import Machine
from spawnpool.memory import rss_bytes


def workers_of(machine: Machine, hands: Mapping[int, Hands], now: float) -> list[dict[str, Any]]:
    """Return one entry for each living worker: number, pool, pid, state, job, for_s, waiting, rss_bytes."""
    workers = []
    for wid, member in sorted(machine.members.items(), key=lambda item: (item[1].number, item[0])):
        if (held := hands.get(wid)) is None:
            continue
        running = member.running()
        workers.append(
            {
                "number": member.number,
                "pool": member.pool,
                "pid": held.process.pid,
                "state": member.state.value,
                "job": running,
                "for_s": None if running is None else round(now - member.started_at, 3),
                "waiting": member.unstarted,
                "rss_bytes": rss_bytes(held.process.pid),
            }
        )
    return workers


def pools_of(machine: Machine) -> list[dict[str, Any]]:
    """Return one entry for each pool: name, workers_wanted, workers, busy, feeds (None: all), ordered, at_once."""
    members = list(machine.members.values())
    return [
        {
            "name": pool.name,
            "workers_wanted": machine.sizes[pool.name],
            "workers": sum(member.pool == pool.name for member in members),
            "busy": sum(member.pool == pool.name and member.running() is not None for member in members),
            "feeds": pool.feeds,
            "ordered": pool.ordered,
            "at_once": dict(pool.at_once),
        }
        for pool in machine.pools
    ]


def snapshot(name: str, machine: Machine, hands: Mapping[int, Hands], now: float) -> dict[str, Any]:
    """Return the state of everything that the machine and the processes know.

    Args:
        name: of the supervisor.
        machine: what is decided.
        hands: the worker processes, by wid.
        now: the machine's time, in seconds.
    """
    return {
        "name": name,
        "pid": os.getpid(),
        "state": machine.state.value,
        "quiet": machine.quiet,
        "degraded": machine.degraded or None,
        "workers_wanted": machine.wanted,
        "settled": machine.settled,
        "pools": pools_of(machine),
        "workers": workers_of(machine, hands, now),
    }
