"""The runs of supervisors: their beginning, their end, and the recovery of what one left that ended without a word."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from jobsup import unique
from jobsup.models import Job, Status, Supervisor
from jobsup.store import Account, LostAttempt
from spawnpool.errors import SourceRefused

if TYPE_CHECKING:
    from jobsup.store import Store

OVER = ("stopped", "lost")
KEEP_RUNS = timedelta(days=7)
RECOVER_BATCH = 500

PROTOCOL = 2
"""By which rules a run of this version shares the tables with those of others.

1: beats, and is declared lost by others after its lease. 2: ends its workers by itself before that.
"""
KNOWN_PROTOCOLS = (1, 2)
"""With whom a run of this version can share them."""

_log = logging.getLogger("jobsup.supervisor")


def nothing_known(_run: Supervisor) -> None:
    """Say that nobody knows what a run had begun."""


def begin(store: Store, name: str, node: str, runfile: str, pid: int, lease_s: float) -> int:
    """Register a run of a supervisor; its id is what it claims with.

    Raises:
        SourceRefused: one is alive with which this version cannot share the tables.
    """
    now = store.sql.now()
    runs = Supervisor.objects.using(store.alias)
    for other in runs.exclude(state__in=OVER).exclude(protocol__in=KNOWN_PROTOCOLS).exclude(runfile=runfile):
        if now - other.beat_at <= timedelta(seconds=other.lease_s):
            known = " and ".join(map(str, KNOWN_PROTOCOLS))
            raise SourceRefused(
                f"{other} is alive and shares the tables by protocol {other.protocol}, and this version of jobsup "
                f"knows {known} only: upgrade jobsup here, or stop that one first"
            )
    owners = Job.objects.using(store.alias).filter(status=Status.RUNNING, claimed_by__isnull=False)
    runs.filter(state__in=OVER, beat_at__lt=now - KEEP_RUNS).exclude(pk__in=owners.values("claimed_by")).delete()
    run = runs.create(
        name=name,
        node=node,
        runfile=runfile,
        pid=pid,
        state="starting",
        lease_s=lease_s,
        protocol=PROTOCOL,
        started_at=now,
        beat_at=now,
    )
    return int(run.pk)


def end(store: Store, run: int) -> None:
    """Note that a run is over and owes nothing."""
    runs = Supervisor.objects.using(store.alias).filter(pk=run).exclude(state__in=OVER)
    now = store.sql.now()
    store.sql.insisting(lambda: runs.update(state="stopped", beat_at=now))


def recover(
    store: Store,
    run: int,
    runfile: str,
    *,
    thorough: bool = True,
    begun: Callable[[Supervisor], frozenset[int] | None] = nothing_known,
) -> list[Account]:
    """Take jobs from runs that are over without having given them back.

    A run is over when it ended, when its lease is over by the database's clock, or when `run` holds its run file. Of
    the latter it may be known which of its jobs never began: those go back uncounted. An attempt of which nobody knows
    whether it began counts, so that no job begins more often than it may.

    Args:
        run: who looks.
        runfile: identity of the run file that it holds.
        thorough: whether to look at all claims even if no run has just been found to be over.
        begun: tells which jobs of a run with that run file have begun; None if that is not known.
    """
    if not store.sql.expire(run, runfile) and not thorough:
        return []
    claims = Job.objects.using(store.alias).filter(status=Status.RUNNING).exclude(claimed_by=run)
    found = set(claims.values_list("claimed_by", flat=True).distinct())
    if None in found:  # made by hand: nobody could ever finish it
        orphans = claims.filter(claimed_by=None)
        pks = list(orphans.values_list("pk", flat=True))
        again = partial(orphans.update, status=Status.READY)
        unique.giving_way(store.alias, pks, partial(store.sql.insisting, again))
    owners = {owner for owner in found if owner is not None}
    if not owners:
        return []
    runs = {row.pk: row for row in Supervisor.objects.using(store.alias).filter(pk__in=owners)}
    accounts = []
    for owner in owners:
        supervisor = runs.get(owner)
        if supervisor is not None and supervisor.state not in OVER:
            continue
        who = "its supervisor" if supervisor is None else f"{supervisor} (pid {supervisor.pid})"
        worker = "" if supervisor is None else f"{supervisor.node}:{supervisor.name}"
        known = begun(supervisor) if supervisor is not None and supervisor.runfile == runfile else None
        words = f"{who} ended without a word while it owned {{job}}, which " + (
            "may have been running" if known is None else "had begun"
        )
        given_back, last = 0, 0
        left = claims.filter(claimed_by=owner).order_by("pk").values_list("pk", flat=True)
        while pks := list(left.filter(pk__gt=last)[:RECOVER_BATCH]):
            last = pks[-1]
            if known is not None and (fresh := [pk for pk in pks if pk not in known]):
                store.release(owner, fresh)
                given_back += len(fresh)
            lost = [pk for pk in pks if known is None or pk in known]
            accounts += store.lost(owner, [LostAttempt(pk, worker, words, None, at_once=True) for pk in lost])
        if given_back:
            _log.info("gave back %d job%s that %s had never begun", given_back, "s" * (given_back != 1), who)
    return accounts
