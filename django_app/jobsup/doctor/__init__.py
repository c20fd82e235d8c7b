"""Looks for what will hurt, and says what to do: facts are gathered in one place and judged by pure functions."""

from __future__ import annotations

from jobsup.conf import Conf
from jobsup.doctor.checks import CHECKS
from jobsup.doctor.facts import gather
from jobsup.doctor.findings import Finding, Limits, Severity
from jobsup.store import Store

__all__ = ["Finding", "Limits", "Severity", "examine"]


def examine(store: Store, settings: Conf, limits: Limits | None = None) -> list[Finding]:
    """Return what was found, the worst first; changes nothing in the database.

    Args:
        store: the jobs.
        settings: the setting JOBSUP.
        limits: from where on something is told.
    """
    facts = gather(store, settings)
    found = [finding for check in CHECKS for finding in check(facts, limits or Limits())]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))
