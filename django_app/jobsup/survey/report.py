"""A survey as text and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from jobsup.survey.look import Finding, Survey
from jobsup.survey.rules import Fit

MARKS = {Fit.SAME: "=", Fit.DECIDE: "?", Fit.MISSING: "-"}
WORDS = {
    Fit.SAME: "one to one",
    Fit.DECIDE: "to decide",
    Fit.MISSING: "not in jobsup",
}


def lines(survey: Survey) -> Iterator[str]:
    """Yield the report for people."""
    for path, findings in groupby(survey.findings, key=lambda finding: finding.path):
        yield path
        for finding in findings:
            yield f"{finding.line:>6} {MARKS[finding.fit]} {finding.what} -> {finding.advice}"
        yield ""
    yield from _summary(survey)


def _summary(survey: Survey) -> Iterator[str]:
    looked = f"{survey.files} Python file{'s' * (survey.files != 1)} looked at"
    if not survey.findings:
        yield f"{looked}: nothing of another queue was found"
        return
    yield f"{looked}, nothing changed"
    for library, counts in _counts(survey).items():
        told = ", ".join(f"{counts[fit]} {WORDS[fit]} ({MARKS[fit]})" for fit in Fit)
        yield f"{library}: {told}"
    for what, count in _missing(survey):
        yield f"not in jobsup: {what}{f' ({count} times)' if count > 1 else ''}"


def _counts(survey: Survey) -> dict[str, Counter[Fit]]:
    found: dict[str, Counter[Fit]] = {}
    for finding in survey.findings:
        found.setdefault(finding.library, Counter())[finding.fit] += 1
    return found


def _missing(survey: Survey) -> list[tuple[str, int]]:
    """Return what jobsup does not have, the commonest first."""
    return Counter(finding.what for finding in survey.findings if finding.fit is Fit.MISSING).most_common()


def as_json(survey: Survey) -> str:
    """Return the report for programs."""
    told: dict[str, Any] = {
        "files": survey.files,
        "findings": [_told(finding) for finding in survey.findings],
        "summary": {library: {fit: counts[fit] for fit in Fit} for library, counts in _counts(survey).items()},
        "missing": dict(_missing(survey)),
        "unread": [unread._asdict() for unread in survey.unread],
    }
    return json.dumps(told, indent=2)


def _told(finding: Finding) -> dict[str, Any]:
    return finding._asdict()
