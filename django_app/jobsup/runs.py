"""The runs of supervisors: their beginning, their end, and the recovery of what one left that ended without a word."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from jobsup import unique
from jobsup.models import Job, Status, Supervisor
from jobsup.store import Account, LostAttempt

if TYPE_CHECKING:
    from jobsup.store import Store

OVER = ("stopped", "lost")
KEEP_RUNS = timedelta(days=7)
RECOVER_BATCH = 500


def begin(store: Store, name: str, node: str, runfile: str, pid: int, lease_s: float) -> int:
    """Register a run of a supervisor; its id is what it claims with."""
    now = store.sql.now()
    runs = Supervisor.objects.using(store.alias)
    owners = Job.objects.using(store.alias).filter(status=Status.RUNNING, claimed_by__isnull=False)
    runs.filter(state__in=OVER, beat_at__lt=now - KEEP_RUNS).exclude(pk__in=owners.values("claimed_by")).delete()
    run = runs.create(
        name=name,
        node=node,
        runfile=runfile,
        pid=pid,
        state="starting",
        lease_s=lease_s,
        started_at=now,
        beat_at=now,
    )
    return int(run.pk)


def end(store: Store, run: int) -> None:
    """Note that a run is over and owes nothing."""
    runs = Supervisor.objects.using(store.alias).filter(pk=run).exclude(state__in=OVER)
    runs.update(state="stopped", beat_at=store.sql.now())


def recover(store: Store, run: int, runfile: str, *, thorough: bool = True) -> list[Account]:
    """Take jobs from runs that are over without having given them back.

    A run is over when it ended, when its lease is over by the database's clock, or when `run` holds its run file.

    Args:
        run: who looks.
        runfile: identity of the run file that it holds.
        thorough: whether to look at all claims even if no run has just been found to be over.
    """
    if not store.sql.expire(run, runfile) and not thorough:
        return []
    claims = Job.objects.using(store.alias).filter(status=Status.RUNNING).exclude(claimed_by=run)
    found = set(claims.values_list("claimed_by", flat=True).distinct())
    if None in found:  # made by hand: nobody could ever finish it
        orphans = claims.filter(claimed_by=None)
        pks = list(orphans.values_list("pk", flat=True))
        unique.giving_way(store.alias, pks, partial(orphans.update, status=Status.READY))
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
        while pks := list(claims.filter(claimed_by=owner).values_list("pk", flat=True)[:RECOVER_BATCH]):
            words = f"{who} ended without a word while it owned {{job}}, which may have been running"
            worker = "" if supervisor is None else f"{supervisor.node}:{supervisor.name}"
            accounts += store.lost(owner, [LostAttempt(pk, worker, words, None, at_once=True) for pk in pks])
    return accounts
