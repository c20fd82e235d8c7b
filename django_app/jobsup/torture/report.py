"""Shows what came of it: tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobsup.cli.screen import Column, Screen, duration

ENDS = ("successful", "failed", "cancelled", "running", "scheduled", "ready")


def show(screen: Screen, result: Mapping[str, Any]) -> None:
    """Print the tables."""
    kinds = result["jobs"]
    ends = [end for end in ENDS if any(end in counts for counts in kinds.values())]
    screen.table(
        [Column("JOBS", whole=True), *(Column(end.upper(), right=True) for end in ends)],
        [(kind.replace("_", " "), *(f"{counts.get(end, 0):,}" for end in ends)) for kind, counts in kinds.items()],
    )
    screen.say()
    screen.table(
        [Column("FAULT", whole=True), Column("TIMES", right=True)],
        [(words, count) for words, count in result["faults"].items()],
    )
    screen.say()
    screen.table(
        [
            Column("TIME FROM", whole=True), Column("N", right=True), Column("P50", right=True),
            Column("P99", right=True), Column("MAX", right=True), Column("GOAL FOR P99", right=True), Column("MET"),
        ],
        [
            (each["words"], each["measured"], *map(duration, _times(each)), each["met"])
            for each in result["recoveries"]
        ],
    )  # fmt: skip
    disturbed = sum(each["disturbed"] for each in result["recoveries"])
    screen.say(f"{disturbed:,} more are not measured: another fault struck meanwhile")
    screen.say()
    screen.table(
        [Column("PROMISE", whole=True), Column("HELD"), Column("BROKEN", right=True)],
        [(each["words"], not each["broken"], each["broken"]) for each in result["promises"]],
    )
    for each in result["promises"]:
        for example in each["examples"]:
            screen.say(f"    {example}")
    screen.say()
    screen.say(
        "ordinary jobs that "
        + ", ".join(f"{words}: {count:,}" for words, count in result["doubles"].items())
        + " (allowed: they run at least once)"
    )
    if result["causes"]:
        causes = ", ".join(f"{name} {count:,}" for name, count in result["causes"].items())
        screen.say(f"attempts that did not succeed: {causes}")
    if result["refused"]:
        errors = ", ".join(f"{name} {count:,}" for name, count in result["refused"].items())
        screen.say(f"enqueues that were refused, as an application would see it: {errors}")
    if result["missed"]:
        screen.say(f"faults that found nobody to hit: {result['missed']}")


def _times(recovery: Mapping[str, Any]) -> list[float | None]:
    return [recovery[name] for name in ("p50_s", "p99_s", "max_s", "goal_s")]
