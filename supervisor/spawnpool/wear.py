"""When a worker has served its time. Pure."""

from __future__ import annotations

from spawnpool.limits import Limits
from spawnpool.member import Member


def worn(member: Member, limits: Limits, now: float) -> str:
    """Say why a worker has served its time, "" if it has not.

    Args:
        member: the worker.
        limits: of its pool.
        now: the machine's time, in seconds.
    """
    if limits.max_jobs and member.done >= max(1, limits.max_jobs * share(member.wid)):
        return f"it has run {member.done} jobs"
    if limits.max_rss_bytes and member.done and member.rss_bytes > limits.max_rss_bytes:
        return f"it uses {member.rss_bytes / 2**20:.0f} MB of memory"
    if limits.max_age_s and now >= old_at(member, limits):
        return f"it is {now - member.ready_at:.0f} s old"
    return ""


def old_at(member: Member, limits: Limits) -> float:
    """Return when a worker will have reached its age."""
    return member.ready_at + limits.max_age_s * share(member.wid)


def share(wid: int) -> float:
    """Return which share of its lifetime a worker gets, 0.9 to 1, so that those of one age do not end together."""
    return 1.0 - 0.1 * (wid * 0.6180339887 % 1.0)  # the golden ratio spreads successive numbers evenly
