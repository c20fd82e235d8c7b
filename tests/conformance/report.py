"""What a run found: as a table for people, as JSON for programs, several runs side by side for a document.

`python -m tests.conformance.report one.json two.json` prints the latter; each column is named after its file.
"""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

SIGNS = {"ok": "✓", "fails": "**✗**", "not offered": "-"}


def made(run: Any, environment: dict[str, str]) -> dict[str, Any]:
    """Return a run as JSON will hold it."""
    import django
    from django.conf import settings
    from django.db import connection

    path = str(settings.TASKS["default"]["BACKEND"])
    distributions = packages_distributions().get(path.partition(".")[0], [])
    return {
        "backend": path,
        "package": " ".join([distributions[0], version(distributions[0])]) if distributions else "",
        "python": platform.python_version(),
        "django": django.get_version(),
        "database": connection.vendor,
        "environment": environment,
        "rounds": run.rounds,
        "checks": [
            {
                "name": verdict.check.name,
                "level": verdict.check.level,
                "words": verdict.check.words,
                "result": verdict.result,
                "detail": verdict.detail,
            }
            for verdict in run.verdicts
        ],
    }


def counts(report: dict[str, Any]) -> dict[tuple[str, str], int]:
    """Return how many checks of each level had each result."""
    return Counter((check["level"], check["result"]) for check in report["checks"])


def summary(report: dict[str, Any]) -> str:
    """Return the numbers in one sentence."""
    number = counts(report)
    parts = []
    for level in ("must", "should"):
        asked = number[level, "ok"] + number[level, "fails"]
        parts.append(f"{number[level, 'ok']} of {asked} {level}")
    absent = number["must", "not offered"] + number["should", "not offered"]
    return f"{', '.join(parts)}; {absent} not offered"


def table(report: dict[str, Any]) -> str:
    """Return a run as text, with the reasons of what fails."""
    head = f"{report['backend']} ({report['package'] or 'not installed as a package'}), {report['database']}, "
    head += f"Django {report['django']}, Python {report['python']}"
    width = max((len(check["name"]) for check in report["checks"]), default=0)
    lines = [head, ""]
    for check in report["checks"]:
        lines.append(f"{check['name']:{width}} | {check['level']:6} | {check['result']}")
        if check["result"] == "fails":
            detail = check["detail"].strip() or "?"
            lines += [f"    {check['words']}", *(f"    > {line}" for line in detail.splitlines()[-8:])]
    return "\n".join([*lines, "", summary(report)])


def markdown(reports: Sequence[dict[str, Any]], titles: Sequence[str]) -> str:
    """Return several runs side by side, a section per module of checks."""
    found = [{check["name"]: check for check in report["checks"]} for report in reports]
    rows, section = [], ""
    head = f"| | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}"
    names = list(dict.fromkeys(name for each in found for name in each))
    for name in names:
        module = name.partition(".")[0]
        if module != section:
            rows.append(f"\n### {module.capitalize()}\n\n{head}")
            section = module
        check = next(each[name] for each in found if name in each)
        words = check["words"].replace("|", "\\|") + (" (should)" if check["level"] == "should" else "")
        rows.append(f"| {words} | {' | '.join(_sign(each.get(name)) for each in found)} |")
    return "\n".join(rows)


def _sign(check: dict[str, Any] | None) -> str:
    return SIGNS[check["result"]] if check else "-"


def main(files: Sequence[str]) -> int:
    """Print the table of several reports."""
    reports = [json.loads(Path(file).read_text()) for file in files]
    sys.stdout.write(markdown(reports, [Path(file).stem for file in files]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
