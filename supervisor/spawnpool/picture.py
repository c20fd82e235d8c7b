"""The state of everything, for the log, when somebody asks for it by SIGUSR2."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping

from spawnpool.hands import Hands
from spawnpool.machine import Machine
from spawnpool.pools import sizes


def tell_everything(
    log: logging.Logger, machine: Machine, hands: Mapping[int, Hands], *, owes: bool, now: float
) -> None:
    """Log the state of everything; each ready worker writes its Python stacks to stderr.

    Args:
        log: where the sentences go.
        machine: what is decided.
        hands: the worker processes, by wid.
        owes: whether accounts have not reached the source yet.
        now: the machine's time, in seconds.
    """
    log.info(
        "state %s, quiet %s, %d workers wanted, %d keys on no lane, owed to the source: %s",
        machine.state.value, machine.quiet, machine.wanted, len(machine.spare), owes,
    )  # fmt: skip
    if len(machine.pools) > 1:
        log.info("the pools: %s", sizes(machine.pools))
    for wid, member in machine.members.items():
        running = member.running()
        doing = "nothing" if running is None else f"{running} for {now - member.started_at:.1f} s"
        who = hands[wid].who()
        log.info("%s is %s, runs %s, %d keys wait", who, member.state.value, doing, member.unstarted)
        if member.was_ready:
            hands[wid].process.send(signal.SIGUSR2)
